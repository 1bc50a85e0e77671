"""Sentences of the grammar, and the same with one violation of agreement or word order."""

from dataclasses import dataclass, replace
from random import Random

from lightning_lora.data.toy.lexicon import (
    ADJECTIVES,
    INTRANSITIVE,
    NOUNS,
    PLACES,
    PREPOSITIONS,
    SUBJECTS,
    THINGS,
    VERBS,
)

SINGULAR, PLURAL = 0, 1
DETERMINERS = (("the", "this", "every", "that"), ("the", "these", "many", "those"))
HAVE, DO = ("has", "have"), ("does", "do")


@dataclass(frozen=True)
class Plan:
    """A sentence before it is put in order: each attribute is the words of one constituent.

    Attributes:
        determiner, adjective, noun: Of the subject.
        between: What stands between the subject and its verb, with a noun of its own.
        verb: The finite verb first, then what belongs to it ("does not", "sleep").
        rest: Object and place.
    """

    determiner: str
    adjective: str
    noun: str
    between: tuple[str, ...]
    verb: tuple[str, ...]
    rest: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        subject = [self.determiner, self.adjective, self.noun]
        return [word for word in (*subject, *self.between, *self.verb, *self.rest, ".") if word]


def draw_sentence(random: Random, label: int) -> str:
    """An acceptable sentence (1), or one with a single violation (0)."""
    number = random.randrange(2)
    plan = _plan(random, number)
    if label:
        return " ".join(plan.words)
    violation = random.choice((_verb_number, _verb_number, _determiner_number, _verb_form, _subject_order, _verb_order))
    return " ".join(violation(random, plan, number))


def _plan(random: Random, number: int) -> Plan:
    key = random.choice(SUBJECTS)
    adjective = random.choice(random.choice(ADJECTIVES)) if random.random() < 0.4 else ""
    noun = random.choice(NOUNS[key].names)[number]
    verb, rest = _predicate(random, number)
    return Plan(random.choice(DETERMINERS[number]), adjective, noun, _between(random), verb, rest)


def _between(random: Random) -> tuple[str, ...]:
    """A phrase whose noun does not agree with the verb to come; or nothing."""
    kind, number = random.random(), random.randrange(2)
    noun = random.choice(NOUNS[random.choice(SUBJECTS)].names)[number]
    determiner = random.choice(DETERMINERS[number])
    if kind < 0.45:
        return (random.choice(PREPOSITIONS), determiner, noun)
    if kind < 0.65:
        past = random.choice(random.choice([verb for verb in VERBS.values() if not verb.things_only]).names)[2]
        return ("that", past, determiner, noun)
    return ()


def _predicate(random: Random, number: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    place = tuple(random.choice(PLACES).split()) if random.random() < 0.3 else ()
    if random.random() < 0.3:
        base, third = random.choice(INTRANSITIVE)
        rest, participle = place or tuple(random.choice(PLACES).split()), None
    else:
        base, third, _, participle = random.choice(random.choice(tuple(VERBS.values())).names)
        of_object = random.randrange(2)
        thing = random.choice(NOUNS[random.choice(THINGS)].names)[of_object]
        rest = (random.choice(DETERMINERS[of_object]), thing, *place)
    kind = random.random()
    if kind < 0.3:
        return (DO[number], "not", base), rest
    if kind < 0.5 and participle:
        return (HAVE[number], participle), rest
    return ((third, base)[number],), rest


def _verb_number(random: Random, plan: Plan, number: int) -> list[str]:
    """The finite verb in the other number."""
    return replace(plan, verb=(other_number(plan.verb[0], number), *plan.verb[1:])).words


def _determiner_number(random: Random, plan: Plan, number: int) -> list[str]:
    """The subject's determiner in the other number."""
    return replace(plan, determiner=random.choice(DETERMINERS[1 - number][1:])).words


def _verb_form(random: Random, plan: Plan, number: int) -> list[str]:
    """An inflected verb behind "do"; elsewhere, a wrong number."""
    if plan.verb[0] not in DO:
        return _verb_number(random, plan, number)
    return replace(plan, verb=(*plan.verb[:2], other_number(plan.verb[2], PLURAL))).words


def _subject_order(random: Random, plan: Plan, number: int) -> list[str]:
    """The determiner behind the noun, or the noun before its adjective."""
    head = (plan.determiner, plan.noun, plan.adjective) if plan.adjective else (plan.noun, plan.determiner, "")
    return replace(plan, determiner=head[0], adjective=head[1], noun=head[2]).words


def _verb_order(random: Random, plan: Plan, number: int) -> list[str]:
    """The verb before its subject, behind its object's determiner, or behind its object."""
    subject = [plan.determiner, *([plan.adjective] if plan.adjective else []), plan.noun, *plan.between]
    orders = [[*plan.verb, *subject, *plan.rest, "."], [*subject, plan.rest[0], *plan.verb, *plan.rest[1:], "."]]
    if plan.rest[0] in DETERMINERS[SINGULAR] + DETERMINERS[PLURAL]:
        # Behind a mere place the verb would be in order: "the dog near the river sleeps".
        orders.append([*subject, *plan.rest, *plan.verb, "."])
    return random.choice(orders)


def _forms() -> dict[str, tuple[str, str]]:
    pairs = [HAVE, DO, *((third, base) for base, third in INTRANSITIVE)]
    pairs += [(third, base) for verb in VERBS.values() for base, third, _, _ in verb.names]
    return {form: pair for pair in pairs for form in pair}


FORMS: dict[str, tuple[str, str]] = _forms()


def other_number(verb: str, number: int) -> str:
    """A finite verb of that number in the other one."""
    return FORMS[verb][1 - number]
