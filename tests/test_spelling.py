"""The names that a misspelt one may have meant."""

import pytest

from lightning_lora.spelling import check_known, did_you_mean, nearest


@pytest.mark.parametrize(
    ("typed", "known", "near"),
    [
        ("rnk", ["rank", "lr", "seed"], ["rank"]),
        ("qw", ["q", "qkvo", "qv", "v"], ["q", "qv"]),
        ("xyzzy", ["rank", "lr"], []),
        ("SST2", ["sst2", "stsb"], ["sst2"]),
    ],
)
def test_the_nearest_names(typed: str, known: list[str], near: list[str]) -> None:
    assert nearest(typed, known) == near


def test_a_hint_names_what_is_close_and_is_silent_where_nothing_is() -> None:
    assert did_you_mean("qw", ["q", "qkvo", "qv"]) == "; did you mean 'q' or 'qv'?"
    assert did_you_mean("xyzzy", ["rank"]) == ""


def test_a_name_that_is_not_known_is_refused_with_those_that_are() -> None:
    check_known("dtype", "bf16", ["fp32", "bf16"])
    with pytest.raises(ValueError, match=r"^dtype='bf61' is unknown; choose one of fp32, bf16; did you mean 'bf16'\?$"):
        check_known("dtype", "bf61", ["fp32", "bf16"])
