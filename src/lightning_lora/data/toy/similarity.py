"""Two sentences and how alike their meanings are, from 0 to 5."""

from dataclasses import replace
from random import Random

from lightning_lora.data.toy.events import SLOTS, Change, Event, Slot, change, draw_event, mix, sentence
from lightning_lora.data.toy.lexicon import line_of, siblings

# What each slot is worth when it is the same in meaning; half of it for a hypernym or a sibling. They sum to 5.
WORTH: dict[Slot, float] = {
    "subject": 1.2,
    "verb": 1.2,
    "object": 1.2,
    "subject_quality": 0.4,
    "object_quality": 0.4,
    "place": 0.6,
}
# What is left of the score where one sentence denies and the other does not.
OPPOSED = 0.5
BANDS = 5
# How many slots to take from another event so that the score is likely to be in the band.
_EXCHANGED = ((5, 6), (4, 5), (2, 3, 4), (1, 2, 3), (0, 0, 1))


def likeness(one: Event, two: Event) -> float:
    """0 (nothing in common) to 5 (the same meaning), to one decimal."""
    score = sum(worth * _alike(one, two, slot) for slot, worth in WORTH.items())
    return round(score * (1.0 if one.negated == two.negated else OPPOSED), 1)


def draw_pair(random: Random, band: int) -> tuple[str, str, float]:
    """Two sentences whose score is in [band, band + 1), the last band including 5."""
    while True:
        one = draw_event(random, random.random() < 0.3)
        opposed = band < BANDS - 1 and random.random() < 0.3
        exchanged = random.sample(SLOTS, random.choice(_EXCHANGED[min(band + 2 * opposed, BANDS - 1)]))
        two = mix(one, draw_event(random, one.negated), exchanged)
        for slot in random.sample(SLOTS, random.choice((0, 1, 2))):
            how: Change = random.choice(("up", "down", "other"))
            two = change(random, two, slot, how)
        if opposed:
            two = replace(two, negated=not one.negated)
        score = likeness(one, two)
        if min(int(score), BANDS - 1) == band:
            return sentence(random, one), sentence(random, two, passive=random.random() < 0.3), score


def _alike(one: Event, two: Event, slot: Slot) -> float:
    a, b = getattr(one, slot), getattr(two, slot)
    if a == b:
        return 1.0
    if slot in ("subject_quality", "object_quality", "place"):
        return 0.0
    table = "verb" if slot == "verb" else "noun"
    related = b in line_of(table, a) or a in line_of(table, b) or b in siblings(table, a)
    return 0.5 if related else 0.0
