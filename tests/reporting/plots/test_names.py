"""Long names of options lose what they share, and stay apart."""

from itertools import product

import pytest

from lightning_lora.reporting.plots.names import fitted

RULES = ("alpha_over_rank", "alpha_over_sqrt_rank")
SWEEP = [
    f"rank {rank}, alpha {alpha}, lr {lr}, scaling {rule}"
    for rank, alpha, lr, rule in product((1, 64), (16, 128), ("0.001", "0.0003"), RULES)
]


@pytest.mark.parametrize(
    ("labels", "longest", "short"),
    [
        (["qv, rank 8", "all, rank 8"], 11, ["qv, rank 8", "all, rank 8"]),
        (["qv, rank 8", "all, rank 8"], 10, ["qv", "all"]),
        (["qv, rank 8", "all, rank 8", "head"], 10, ["qv, rank 8", "all, …nk 8", "head"]),
        ([f"scaling {rule}" for rule in RULES], 20, ["scaling …rank", "scaling …sqrt_rank"]),
        (["start left_a_right", "start left_b_right"], 10, ["start …a…", "start …b…"]),
        (["start a_a", "start a_a_a"], 10, ["start …a", "start …a_a"]),
        (["rank 8, text a, b", "rank 8, text a, c"], 10, ["b", "c"]),
        (["a long label alone"], 10, ["a lon…lone"]),
        ([], 10, []),
    ],
)
def test_by_hand(labels: list[str], longest: int, short: list[str]) -> None:
    assert fitted(labels, longest) == short


@pytest.mark.parametrize("longest", [50, 52, 54])
def test_the_options_of_a_sweep_stay_apart_where_cutting_their_middles_made_them_one(longest: int) -> None:
    names = fitted(SWEEP, longest)
    assert names[-1] == "rank 64, alpha 128, lr 0.0003, scaling …sqrt_rank"
    assert len(set(names)) == len(SWEEP) == 16
    assert all(len(name) <= longest for name in names)
