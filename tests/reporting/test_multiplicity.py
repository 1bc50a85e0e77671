"""Corrections for many options against statsmodels, and letters against what they stand for."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from lightning_lora.reporting.multiplicity import groups, holm


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_holm_is_statsmodels(size: int) -> None:
    p_values = (np.random.default_rng(size).integers(0, 40, size) / 400).tolist()  # with ties
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])


def test_letters_worked_out_by_hand() -> None:
    assert groups(4, [(0, 2), (0, 3), (1, 3)]) == ["a", "ab", "bc", "c"]
    assert groups(3, []) == ["a", "a", "a"]
    assert groups(1, []) == ["a"]
    assert groups(0, []) == []


@given(st.data())
def test_two_share_a_letter_exactly_where_they_are_not_different(data: st.DataObject) -> None:
    options = data.draw(st.integers(1, 7))
    pairs = list(combinations(range(options), 2))
    different = [pair for pair in pairs if data.draw(st.booleans())]
    letters = groups(options, different)
    assert all(letters)
    assert [pair for pair in pairs if not {*letters[pair[0]]} & {*letters[pair[1]]}] == different


def test_where_letters_do_not_suffice_one_marks_those_not_worse_than_the_best() -> None:
    """Ten sets of three, different only within a set: 3^10 groups."""
    different = [pair for k in range(10) for pair in combinations(range(3 * k, 3 * k + 3), 2)]
    assert groups(30, different) == ["a", "", "", *["a"] * 27]
