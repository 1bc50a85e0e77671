"""Premise and hypothesis, labelled by monotonicity: what is more general follows, under negation what is more specific.

The subject is definite and outside the negation, so both sentences speak of the same one if the hypothesis's
description of it is at least as general; the rest (verb, object, place) is in the scope of the negation.
"""

from dataclasses import replace
from random import Random

from lightning_lora.data.toy.events import SLOTS, Change, Event, change, draw_event, sentence
from lightning_lora.data.toy.lexicon import line_of

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2


def relation(premise: Event, hypothesis: Event) -> int:
    """0 entailment, 1 neutral, 2 contradiction."""
    same_one = _covers(line_of("noun", premise.subject), hypothesis.subject) and _quality_covers(
        premise.subject_quality, hypothesis.subject_quality
    )
    narrow, wide = (hypothesis, premise) if premise.negated else (premise, hypothesis)
    if not same_one or not _more_general(narrow, wide):
        return NEUTRAL
    return ENTAILMENT if premise.negated == hypothesis.negated else CONTRADICTION


def draw_pair(random: Random, label: int) -> tuple[str, str]:
    """Premise and hypothesis with that label; negation alone does not tell it."""
    while True:
        premise = draw_event(random, random.random() < 0.5)
        flip = label == CONTRADICTION or (label == NEUTRAL and random.random() < 0.5)
        hypothesis = vary(random, premise, premise.negated != flip)
        if relation(premise, hypothesis) == label:
            return sentence(random, premise), sentence(random, hypothesis)


def vary(random: Random, premise: Event, negated: bool) -> Event:
    """A related event: one to three slots more general, more specific or, rarely, different."""
    hypothesis = replace(premise, negated=negated)
    for slot in random.sample(SLOTS, random.choice((1, 2, 2, 3))):
        how: Change = random.choice(("up", "up", "down", "down", "other"))
        hypothesis = change(random, hypothesis, slot, how)
    return hypothesis


def _more_general(narrow: Event, wide: Event) -> bool:
    return (
        _covers(line_of("verb", narrow.verb), wide.verb)
        and _covers(line_of("noun", narrow.object), wide.object)
        and _quality_covers(narrow.object_quality, wide.object_quality)
        and _quality_covers(narrow.place, wide.place)
    )


def _covers(line: tuple[str, ...], key: str) -> bool:
    return key in line


def _quality_covers(narrow: int | None, wide: int | None) -> bool:
    return wide is None or wide == narrow
