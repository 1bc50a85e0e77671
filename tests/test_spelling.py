"""The names that a misspelt one may have meant."""

import pytest

from lightning_lora.spelling import did_you_mean, nearest


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
