"""Groups of least cost, against every way there is to cut a sequence, and by hand."""

import itertools

import numpy as np
import pytest

from lightning_lora.lengths import ATTENTION, ATTENTION_ON_GPU, PaddingCost, cheapest_groups


def cost_of(groups: list[slice], lengths: list[int], cost: PaddingCost) -> float:
    padded = [(len(lengths[part]), max(lengths[part])) for part in groups]
    return sum(cost.group + texts * widest * (cost.token + widest) for texts, widest in padded)


def every_cut(texts: int) -> list[list[slice]]:
    found = []
    for cuts in itertools.product([False, True], repeat=texts - 1):
        bounds = [0, *(place for place, cut in enumerate(cuts, 1) if cut), texts]
        found.append([slice(one, two) for one, two in itertools.pairwise(bounds)])
    return found


@pytest.mark.parametrize("seed", range(20))
def test_no_other_cut_costs_less(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 60, 9).tolist()
    if seed % 2:
        lengths.sort(reverse=True)
    cost = PaddingCost(group=float(generator.integers(0, 3000)), token=float(generator.integers(0, 50)))
    chosen = cost_of(cheapest_groups(lengths, cost), lengths, cost)
    assert chosen == min(cost_of(groups, lengths, cost) for groups in every_cut(len(lengths)))


@pytest.mark.parametrize(
    ("lengths", "group", "expected"),
    [
        ([], 10.0, []),
        ([5], 10.0, [[5]]),
        ([9, 9, 1, 1], 0.5, [[9, 9], [1, 1]]),
        ([9, 9, 1, 1], 1000.0, [[9, 9, 1, 1]]),
        ([10, 8], 35.0, [[10], [8]]),  # together 200, apart 100 + 64 and a group
        ([10, 8], 37.0, [[10, 8]]),
    ],
)
def test_by_hand(lengths: list[int], group: float, expected: list[list[int]]) -> None:
    found = cheapest_groups(lengths, PaddingCost(group=group, token=0.0))
    assert [lengths[part] for part in found] == expected


def test_a_batch_of_short_texts_wants_few_groups_and_one_of_long_texts_many() -> None:
    short, long = list(range(40, 8, -1)), list(range(400, 80, -10))
    assert len(short) == len(long)
    assert len(cheapest_groups(short, ATTENTION)) < 5 < len(cheapest_groups(long, ATTENTION))
    assert len(cheapest_groups(short, ATTENTION_ON_GPU)) == 1 < len(cheapest_groups(long, ATTENTION_ON_GPU)) < 5
