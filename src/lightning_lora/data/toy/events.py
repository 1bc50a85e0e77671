"""Events ("the old girl did not buy a red apple at the market"): their sentences, and small changes of meaning."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from lightning_lora.data.toy.lexicon import (
    ADJECTIVES,
    NOUNS,
    PLACES,
    SUBJECTS,
    THINGS,
    VERBS,
    below,
    line_of,
    siblings,
)

Slot = Literal["subject", "subject_quality", "verb", "object", "object_quality", "place"]
Change = Literal["up", "down", "other"]
SLOTS: tuple[Slot, ...] = ("subject", "subject_quality", "verb", "object", "object_quality", "place")
_TABLES = {"subject": "noun", "verb": "verb", "object": "noun"}


@dataclass(frozen=True)
class Event:
    """Who did what to what.

    Attributes:
        subject: Key of an animate noun.
        subject_quality: Row of `ADJECTIVES`, or None.
        verb: Key of a verb.
        object: Key of a noun.
        object_quality: Row of `ADJECTIVES`, or None.
        place: Row of `PLACES`, or None.
        negated: Whether it did not happen.
    """

    subject: str
    subject_quality: int | None
    verb: str
    object: str
    object_quality: int | None
    place: int | None
    negated: bool


def draw_event(random: Random, negated: bool) -> Event:
    """An event of the language."""
    verb = random.choice(tuple(VERBS))
    subject = random.choice(SUBJECTS)
    living = not VERBS[verb].things_only and random.random() < 0.3
    thing = random.choice([key for key in SUBJECTS if _apart(key, subject)] if living else THINGS)
    return Event(subject, _maybe(random, ADJECTIVES), verb, thing, _maybe(random, ADJECTIVES), _place(random), negated)


def change(random: Random, event: Event, slot: Slot, how: Change) -> Event:
    """The event with one slot made more general, more specific, or different; unchanged where that cannot be."""
    if slot in _TABLES:
        choices = _other_concepts(event, slot, how)
        return random.choice(choices) if choices else event
    rows = PLACES if slot == "place" else ADJECTIVES
    old: int | None = getattr(event, slot)
    if how == "up":
        return _with(event, slot, None)
    if (how == "down") != (old is None):
        return event
    return _with(event, slot, random.choice([row for row in range(len(rows)) if row != old]))


def mix(event: Event, other: Event, slots: Sequence[Slot]) -> Event:
    """The event with some slots of another one; unchanged where verb and object would not go together."""
    taken: dict[str, Any] = {slot: getattr(other, slot) for slot in slots}
    mixed = replace(event, **taken)
    return mixed if _fits(mixed) else event


def sentence(random: Random, event: Event, passive: bool = False) -> str:
    """One way to say it: the names of each concept and the kind of negation are drawn."""
    base, _, past, participle = random.choice(VERBS[event.verb].names)
    thing = with_article(_noun_phrase(random, event.object_quality, event.object))
    subject = "the " + _noun_phrase(random, event.subject_quality, event.subject)
    never = random.random() < 0.4
    if passive:
        was = ("was never" if never else "was not") if event.negated else "was"
        words = [thing, was, participle, "by", subject]
    else:
        did = (f"never {past}" if never else f"did not {base}") if event.negated else past
        words = [subject, did, thing]
    if event.place is not None:
        words.append(PLACES[event.place])
    return " ".join([*words, "."])


def with_article(phrase: str) -> str:
    """The phrase behind "a" or "an"."""
    return ("an " if phrase[0] in "aeio" else "a ") + phrase


def _noun_phrase(random: Random, quality: int | None, key: str) -> str:
    noun = random.choice(NOUNS[key].names)[0]
    return noun if quality is None else f"{random.choice(ADJECTIVES[quality])} {noun}"


def _other_concepts(event: Event, slot: Slot, how: Change) -> list[Event]:
    table, key = _TABLES[slot], str(getattr(event, slot))
    found: dict[Change, tuple[str, ...]] = {
        "up": line_of(table, key)[1:],
        "down": below(table, key),
        "other": siblings(table, key),
    }
    return [other for other in (_with(event, slot, name) for name in found[how]) if _fits(other)]


def _with(event: Event, slot: Slot, value: str | int | None) -> Event:
    changed: dict[str, Any] = {slot: value}
    return replace(event, **changed)


def _fits(event: Event) -> bool:
    return _apart(event.subject, event.object) and not (VERBS[event.verb].things_only and NOUNS[event.object].animate)


def _apart(one: str, two: str) -> bool:
    return one not in line_of("noun", two) and two not in line_of("noun", one)


def _maybe(random: Random, rows: tuple[tuple[str, ...], ...]) -> int | None:
    return random.randrange(len(rows)) if random.random() < 0.4 else None


def _place(random: Random) -> int | None:
    return random.randrange(len(PLACES)) if random.random() < 0.4 else None
