from dataclasses import replace
from random import Random

import pytest
from scipy.stats import spearmanr

from lightning_lora.data.toy import generate
from lightning_lora.data.toy.events import Event, draw_event, sentence
from lightning_lora.data.toy.similarity import likeness

DOG = Event("dog", None, "push", "car", None, None, negated=False)


@pytest.mark.parametrize(
    ("changes", "score"),
    [
        ({}, 5.0),
        ({"subject": "cat"}, 4.4),
        ({"subject": "animal"}, 4.4),
        ({"subject": "baker"}, 3.8),
        ({"object": "apple", "verb": "fix"}, 2.6),
        ({"object_quality": 7}, 4.6),
        ({"place": 0, "subject_quality": 1}, 4.0),
        ({"negated": True}, 2.5),
        ({"negated": True, "subject": "baker"}, 1.9),
        (
            {
                "subject": "baker",
                "verb": "buy",
                "object": "apple",
                "place": 1,
                "object_quality": 1,
                "subject_quality": 1,
            },
            0.0,
        ),
    ],
)
def test_scores_computed_by_hand(changes: dict, score: float) -> None:
    assert likeness(DOG, replace(DOG, **changes)) == score


def test_likeness_is_symmetric_and_five_only_for_the_same_meaning() -> None:
    random = Random(4)
    events = [draw_event(random, random.random() < 0.3) for _ in range(60)]
    for one in events:
        for two in events:
            assert likeness(one, two) == likeness(two, one)
            assert (likeness(one, two) == 5.0) == (one == two)


def test_the_passive_keeps_who_did_what() -> None:
    random = Random(0)
    event = replace(DOG, subject="baker", object="apple", verb="carry", object_quality=7)
    assert sentence(random, event) == "the baker carried a red apple ."
    assert sentence(random, event, passive=True) == "a red apple was carried by the baker ."


def test_shared_words_are_related_to_the_score_but_do_not_give_it() -> None:
    rows = generate("toy_similarity", "train", 2000, 0)
    pairs = [(set(row["sentence1"].split()), set(row["sentence2"].split())) for row in rows]
    overlap = [len(one & two) / len(one | two) for one, two in pairs]
    labels = [row["label"] for row in rows]
    assert min(labels) == 0.0
    assert max(labels) == 5.0
    assert 0.3 < spearmanr(overlap, labels).statistic < 0.85
