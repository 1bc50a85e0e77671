"""Neighbours of like length, by hand."""

import pytest

from lightning_lora.lengths import like_lengths


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([], []),
        ([5], [[5]]),
        ([10, 8, 7, 5, 4, 3], [[10, 8], [7, 5], [4, 3]]),
        ([1, 1, 1], [[1, 1, 1]]),
        ([3, 10, 9], [[3], [10, 9]]),
        ([10, 9, 13, 14], [[10, 9], [13, 14]]),
    ],
)
def test_each_has_more_than_seven_tenths_of_the_longest(lengths: list[int], groups: list[list[int]]) -> None:
    assert [lengths[part] for part in like_lengths(lengths)] == groups
