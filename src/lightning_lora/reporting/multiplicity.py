"""Many options at once: p values corrected for how many they are, and the groups that cannot be told apart."""

from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np

from lightning_lora.reporting.resampling import Floats


def holm(p_values: Sequence[float]) -> Floats:
    """Corrected for how many they are (Holm 1979, "A simple sequentially rejective multiple test procedure")."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(raised, 1.0)
    return corrected


def groups(options: int, different: Sequence[tuple[int, int]]) -> list[str]:
    """The letters of each option: two share one exactly where they are not different.

    By insertion and absorption (Piepho 2004, "An algorithm for a letter-based representation of all-pairwise
    comparisons", Journal of Computational and Graphical Statistics 13). Where that takes more letters than there are,
    "a" marks the options that are not different from the first, and the others have none.

    Args:
        options: How many there are, the best first; "a" is a group of the first.
        different: Pairs of positions, the lower first.
    """
    sets = [frozenset(range(options))]
    for first, second in different:
        both = [group for group in sets if first in group and second in group]
        parts = [group - {gone} for group in both for gone in (first, second)]
        sets = list(dict.fromkeys([*(group for group in sets if group not in both), *parts]))
        sets = [group for group in sets if not any(group < larger for larger in sets)]
        if len(sets) > len(ascii_lowercase):
            return ["" if (0, i) in different else "a" for i in range(options)]
    named = list(zip(ascii_lowercase, sorted(sets, key=sorted), strict=False))
    return ["".join(letter for letter, group in named if i in group) for i in range(options)]
