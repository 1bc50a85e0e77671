"""Which neighbours are of like length, and so are padded together."""

import itertools
from collections.abc import Sequence

LIKE_LENGTHS = 0.7
"""A text is padded with longer neighbours where it has more than this share of the longest one's tokens.

Less gives fewer and emptier groups, more gives many small ones; 0.6 to 0.8 take the same time on two cores.
"""


def like_lengths(lengths: Sequence[int]) -> list[slice]:
    """Consecutive texts to pad together, the whole sequence covered; fewest where the lengths are sorted."""
    bounds: list[int] = []
    longest = shortest = 0
    for number, length in enumerate(lengths):
        longest, shortest = max(longest, length), min(shortest, length)
        if not bounds or shortest <= LIKE_LENGTHS * longest:
            bounds.append(number)
            longest = shortest = length
    return [slice(start, stop) for start, stop in itertools.pairwise([*bounds, len(lengths)])]
