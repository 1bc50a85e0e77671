"""Which neighbours are padded together: in the groups that cost the least to compute."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PaddingCost:
    """The cost of n texts padded to w tokens: ``group + n · w · (token + w)``, in units of a pair of tokens.

    Attributes:
        group: Of computing one group more, however small.
        token: Of a token, for what is done once for each, padding included.
    """

    group: float
    token: float


ATTENTION = PaddingCost(group=2000.0, token=20.0)
"""Where attention alone is padded. Tried on all-MiniLM-L6-v2's, one thread of an AMD EPYC, real lengths of five tasks:
500 to 2,000 for a group and 0 to 40 for a token take the same time within a tenth.
"""
ATTENTION_ON_GPU = PaddingCost(group=200_000.0, token=30.0)
"""The same on a GPU. Reasoned, not measured: at BERT-base's width a pair of tokens is 14 · 768 operations, forward and
backward, a nanosecond at 10 TFLOP/s; a group some thirty kernels, 200 µs to launch; a token 50 kB to move. 32 texts of
8 to 128 tokens are one group then, of up to 256 three.
"""
WHOLE_MODEL = PaddingCost(group=26_000.0, token=800.0)
"""Where the whole model is padded. Fitted to forward and backward of an MPNet the size of all-MiniLM-L6-v2, on the same
CPU as `ATTENTION`."""


def cheapest_groups(lengths: Sequence[int], cost: PaddingCost) -> list[slice]:
    """Consecutive texts to pad together, the whole sequence covered, at the least sum of costs.

    Best where the lengths are sorted. Dynamic programming over the last group's start: O(n²), vectorised, a
    millisecond for 100 texts. Nothing, where all padding that can be saved costs less than one group more.

    Args:
        lengths: Tokens of each text.
        cost: Of a group.
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    longest = tokens.max(initial=0)
    padding = len(tokens) * longest * (cost.token + longest) - (tokens * (cost.token + tokens)).sum()
    if len(tokens) and padding <= cost.group:
        return [slice(0, len(tokens))]
    least = np.zeros(len(tokens) + 1)
    start = np.zeros(len(tokens) + 1, dtype=np.int64)
    for stop in range(1, len(tokens) + 1):
        widest = np.maximum.accumulate(tokens[stop - 1 :: -1])[::-1]  # of a group that begins at each text before
        texts = np.arange(stop, 0, -1)
        total = least[:stop] + cost.group + texts * widest * (cost.token + widest)
        start[stop] = total.argmin()
        least[stop] = total[start[stop]]
    bounds = [len(tokens)]
    while bounds[-1] > 0:
        bounds.append(int(start[bounds[-1]]))
    return [slice(one, two) for one, two in itertools.pairwise(reversed(bounds))]
