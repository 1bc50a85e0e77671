"""`LoraSpec`: its ranges and its scale."""

import math

import pytest
import torch

from lightning_lora.lora import LoraSpec


@pytest.mark.parametrize(
    ("scaling", "scale"),
    [("alpha_over_rank", 2.0), ("alpha_over_sqrt_rank", 16 / math.sqrt(8)), ("constant", 16.0)],
)
def test_scale_of_each_rule_at_rank_8_alpha_16(scaling: str, scale: float) -> None:
    assert LoraSpec(rank=8, alpha=16, scaling=scaling).scale == pytest.approx(scale, rel=1e-15)


@pytest.mark.parametrize("rank", [1, 7, 64])
def test_alpha_left_out_is_twice_the_rank(rank: int) -> None:
    assert LoraSpec(rank=rank).scale == 2
    assert LoraSpec(rank=rank, alpha=rank).scale == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rank": 0}, "rank=0"),
        ({"rank": -3}, "rank=-3"),
        ({"rank": True}, "rank=True"),
        ({"rank": 8, "alpha": 0.0}, "alpha=0.0"),
        ({"rank": 8, "alpha": math.nan}, "alpha=nan"),
        ({"rank": 8, "alpha": math.inf}, "alpha=inf"),
        ({"rank": 8, "alpha": 10**400}, "alpha=1000"),
        ({"rank": 1, "alpha": 2e6}, "alpha=2000000.0 makes the scale 2e[+]06; it must be at most 1048576"),
        ({"rank": 8, "dropout": 1.0}, "dropout=1.0"),
        ({"rank": 8, "dropout": -0.1}, "dropout=-0.1"),
        ({"rank": 8, "scaling": "alpha_over_ranks"}, "did you mean 'alpha_over_rank'"),
        ({"rank": 8, "initialisation": "kaming"}, "did you mean 'kaiming'"),
        ({"rank": 8, "dtype": torch.int64}, "torch.int64"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named.replace("(", r"\(")):
        LoraSpec(**settings)  # type: ignore[arg-type]
