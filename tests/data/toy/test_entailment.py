from dataclasses import replace
from random import Random

import pytest

from lightning_lora.data.toy import generate
from lightning_lora.data.toy.entailment import relation, vary
from lightning_lora.data.toy.events import Event, draw_event
from lightning_lora.data.toy.lexicon import ADJECTIVES, PLACES, below, line_of

GIRL = Event("girl", None, "buy", "apple", None, None, negated=False)
RED = next(row for row, words in enumerate(ADJECTIVES) if "red" in words)
OLD = next(row for row, words in enumerate(ADJECTIVES) if "old" in words)

# (changes to "the girl bought an apple", changes for the hypothesis, label)
JUDGED_BY_HAND = [
    ({}, {"object": "fruit"}, 0),
    ({"object": "fruit"}, {"object": "apple"}, 1),
    ({}, {"object": "pear"}, 1),
    ({}, {"subject": "child"}, 0),
    ({}, {"subject": "boy"}, 1),
    ({"object_quality": RED}, {}, 0),
    ({}, {"object_quality": RED}, 1),
    ({"place": 1}, {}, 0),
    ({}, {"place": 1}, 1),
    ({"negated": True, "object": "fruit"}, {"negated": True}, 0),
    ({"negated": True}, {"negated": True, "object": "fruit"}, 1),
    ({"negated": True}, {"negated": True, "object_quality": RED}, 0),
    ({"negated": True, "subject_quality": OLD}, {"negated": True}, 0),
    ({"negated": True}, {"negated": True, "subject_quality": OLD}, 1),
    ({}, {"negated": True}, 2),
    ({}, {"negated": True, "object": "fruit"}, 2),
    ({"object": "fruit"}, {"negated": True, "object": "apple"}, 1),
    ({"negated": True, "object": "fruit"}, {}, 2),
    ({"negated": True}, {"object": "fruit"}, 1),
    ({"verb": "push", "object": "bag"}, {"verb": "move", "object": "bag"}, 0),
    ({"verb": "push", "object": "bag"}, {"verb": "pull", "object": "bag"}, 1),
]


@pytest.mark.parametrize(("premise", "hypothesis", "label"), JUDGED_BY_HAND)
def test_relations_judged_by_hand(premise: dict, hypothesis: dict, label: int) -> None:
    assert relation(replace(GIRL, **premise), replace(GIRL, **hypothesis)) == label


def happenings(event: Event) -> set[tuple]:
    """The most specific things that could happen and make the sentence without its negation true."""
    verbs = [event.verb, *below("verb", event.verb)]
    objects = [event.object, *below("noun", event.object)]
    qualities = range(-1, len(ADJECTIVES)) if event.object_quality is None else [event.object_quality]
    places = range(-1, len(PLACES)) if event.place is None else [event.place]
    return {(v, o, q, p) for v in verbs for o in objects for q in qualities for p in places}


def in_all_worlds(premise: Event, hypothesis: Event) -> int:
    """Truth in every world in which the one subject does at most two things."""
    one, two = happenings(premise), happenings(hypothesis)
    kinds = [*{(thing in one, thing in two) for thing in one | two}, (False, False)]
    truths = {((a[0] or b[0]) != premise.negated, (a[1] or b[1]) != hypothesis.negated) for a in kinds for b in kinds}
    if (True, False) not in truths:
        return 0
    return 2 if (True, True) not in truths else 1


def test_relations_are_truth_in_all_worlds() -> None:
    random = Random(1)
    labels = []
    for _ in range(200):
        premise = draw_event(random, random.random() < 0.5)
        hypothesis = replace(
            vary(random, premise, random.random() < 0.5), subject=premise.subject, subject_quality=None
        )
        labels.append(in_all_worlds(premise, hypothesis))
        assert relation(premise, hypothesis) == labels[-1], (premise, hypothesis)
    assert {labels.count(label) > 20 for label in range(3)} == {True}


def test_hypernyms_have_no_cycles_and_know_their_children() -> None:
    assert line_of("noun", "robin") == ("robin", "bird", "animal")
    assert {"girl", "baker", "poet"} <= set(below("noun", "person"))
    assert "person" not in below("noun", "person")


def test_negation_alone_does_not_tell_the_label() -> None:
    def negated(text: str) -> bool:
        return " not " in text or " never " in text

    rows = generate("toy_entailment", "train", 1200, 2)
    for label in range(3):
        of_label = [row for row in rows if row["label"] == label]
        for column in ("premise", "hypothesis"):
            assert 0.4 < sum(negated(row[column]) for row in of_label) / len(of_label) < 0.6
