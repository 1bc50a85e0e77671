"""Sentences and numbers of the page."""

from dataclasses import replace

import pytest
from comparisons import layer_choice, many, option, task_of, two_options

from lightning_lora.reporting.comparison import Interval
from lightning_lora.reporting.page.wording import difference, interval, points, summary_sentence


def test_the_summary_by_hand() -> None:
    assert summary_sentence(layer_choice()) == (
        "all (75.0) is best; full (74.3) and qkvo (74.0) cannot be told apart from it; "
        "the other 5 are worse by 1.7 to 13.3 points."
    )
    assert summary_sentence(two_options()) == "all (71.8) is best; qv (71.0) cannot be told apart from it."


def test_the_summary_where_one_is_worse() -> None:
    task = task_of([option({"lora": "qv"}, 0.6), option({"lora": "all"}, 0.72)])
    best, worse = (replace(one, mean=Interval(mean)) for one, mean in zip(task.options, (0.72, 0.605), strict=True))
    (contrast,) = task.contrasts
    lost = replace(contrast, difference=Interval(-0.115))
    assert summary_sentence(replace(task, options=(best, worse), contrasts=(lost,))) == (
        "all (72.0) is best; qv (60.5) is worse by 11.5 points."
    )


def test_the_summary_names_a_few_of_many() -> None:
    sentence = summary_sentence(many())
    assert "and 10 others cannot be told apart from it; the other 186 are worse" in sentence
    assert sentence.count("rank") == 4


def test_the_summary_of_less_than_two() -> None:
    task = layer_choice()
    assert summary_sentence(replace(task, options=task.options[:1])) == "all (75.0) is the only option."
    assert summary_sentence(replace(task, options=())) == "No run has finished."


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (points(0.9104), "91.0"),
        (points(-0.052), "−5.2"),
        (difference(0.0123), "+1.23"),
        (difference(-0.0123), "−1.23"),
        (interval(Interval(0.9, 0.88, 0.91)), "[88.0, 91.0]"),
        (interval(Interval(0.0, -0.01, 0.01), signed=True), "[−1.00, +1.00]"),
        (interval(Interval(0.9)), ""),
    ],
)
def test_numbers(written: str, expected: str) -> None:
    assert written == expected
