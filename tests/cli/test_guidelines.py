"""What is allowed and seldom meant gets a warning of one line, and nothing else does."""

import itertools

import pytest

from lightning_lora.cli import guidelines, precheck


@pytest.mark.parametrize(
    ("words", "phrases"),
    [
        (["rank=3"], ["rank=3"]),
        (["rank=65"], ["rank=65"]),
        (["rank=8", "alpha=7"], ["alpha=7 at rank=8"]),
        (["rank=8", "alpha=17"], ["alpha=17 at rank=8"]),
        (["lr=2e-3"], ["lr=0.002"]),
        (["lr=9e-5"], ["lr=9e-05"]),
        (["lora.dropout=0.2"], ["lora.dropout=0.2"]),
        (["rank=128", "alpha=8", "lr=1", "lora.dropout=0.5"], ["rank=128", "alpha=8 at", "lr=1", "lora.dropout=0.5"]),
        (["-m", "rank=2,4,128"], ["rank=2", "rank=128"]),
        (["-m", "seed=0,1,2", "lr=1"], ["lr=1"]),
        (["-m", "rank=4,8", "alpha=8,16"], ["alpha=16 at rank=4"]),
        (["-m", "rank=8,4", "alpha=8,16"], ["alpha=16 at rank=4"]),
        (["-m", "rank=8,4", "alpha=8,16", "lora=full,qv"], ["alpha=16 at rank=4"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_values_outside_the_usual_ranges_get_one_line(words: list[str], phrases: list[str]) -> None:
    (warning,) = precheck.check(words).warnings
    assert "\n" not in warning
    assert warning.startswith("warning: ")
    named = warning.rpartition("): ")[2].split(", ")
    assert len(named) == len(phrases)
    assert all(found.startswith(phrase) for found, phrase in zip(named, phrases, strict=True))


def test_of_very_many_the_first_are_named() -> None:
    (warning,) = precheck.check(["-m", "rank=4,8,16,32,64", "alpha=8,16,32,64,128"]).warnings
    named = warning.rpartition("): ")[2].split(", ")
    assert len(named) == guidelines.MOST_PHRASES
    assert (named[0], named[-1]) == ("alpha=16 at rank=4", "alpha=16 at rank=32 and 4 more")


@pytest.mark.parametrize(
    "words",
    [[], ["lora=full", "lr=2e-5"], *(["rank=" + r, "alpha=" + a] for r, a in itertools.product(["8"], ["8", "16"])),
     ["rank=4", "lr=1e-4"], ["rank=64", "lr=1e-3", "lora.dropout=0.1"]],
)  # fmt: skip
def test_values_inside_get_none(words: list[str]) -> None:
    assert precheck.check(words).warnings == ()


OWN_TASK = ["data=custom", "data.path=.", "data.text_columns=[a]", "data.labels=[no,yes]"]


@pytest.mark.parametrize(
    ("words", "tasks"),
    [
        (["data=rte"], "rte"),
        (["lora=full", "data=stsb"], "stsb"),
        (["model.name=tiny", "data=sst2"], "sst2"),
        (OWN_TASK, "custom"),
        (["-m", "data=toy_sentiment,mrpc,rte", "seed=0,1"], "mrpc,rte"),
        (["-m", "model=roberta_base,tiny", "data=cola"], "cola"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_real_text_on_the_embedded_encoder_gets_one_line(words: list[str], tasks: str) -> None:
    (warning,) = precheck.check(words).warnings
    assert "\n" not in warning
    assert warning.startswith("warning: model=tiny ")
    assert "no English" in warning
    assert warning.endswith(f"for data={tasks} give model=roberta_base or model.name=path/to/encoder")


@pytest.mark.parametrize(
    "words",
    [
        ["data=toy_similarity"],
        ["-m", "data=toy_sentiment,toy_entailment"],
        ["model=roberta_base", "data=rte"],
        ["model.name=someone/tiny", "data=rte"],
        ["model=roberta_base", *OWN_TASK],
        ["resume=runs/DAY/TIME"],
    ],
    ids=" ".join,
)
def test_what_the_encoder_can_read_gets_none(words: list[str]) -> None:
    assert precheck.check(words).warnings == ()


def test_two_kinds_of_warning_are_two_lines() -> None:
    ranges, model = precheck.check(["rank=2", "data=rte"]).warnings
    assert ranges.endswith(": rank=2")
    assert model.startswith("warning: model=tiny ")
