"""From fp64 to a narrower type in one rounding, which torch does not do."""

import numpy as np
import pytest
import torch

from lightning_lora.lora.functional import round_once


def hard_cases() -> torch.Tensor:
    """Values all around the middles between neighbouring bf16 and fp16 numbers, and ordinary ones."""
    torch.manual_seed(0)
    near = torch.randn(4000, dtype=torch.float64)
    middles = [near.to(dtype).double() * (1 + torch.finfo(dtype).eps / 2) for dtype in (torch.bfloat16, torch.float16)]
    nudged = [middle * (1 + shift) for middle in middles for shift in (-(2.0**-30), 0.0, 2.0**-30)]
    return torch.cat([near, *nudged, torch.tensor([0.0, -0.0, 6e-8, 1e-41, 65519.999, 65520.0])])


def test_to_fp16_it_is_numpys_rounding_and_torchs_own_is_not() -> None:
    exact = hard_cases()
    with np.errstate(over="ignore"):
        expected = torch.from_numpy(exact.numpy().astype(np.float16))
    assert torch.equal(round_once(exact, torch.float16), expected)
    assert not torch.equal(exact.to(torch.float16), expected), "the control: torch rounds twice"


def test_to_bf16_no_neighbour_is_nearer() -> None:
    exact = hard_cases()
    rounded = round_once(exact, torch.bfloat16)
    distance = (rounded.double() - exact).abs()
    for step in (-1, 1):
        neighbour = (rounded.view(torch.int16) + step).view(torch.bfloat16).double()
        assert bool((distance <= (neighbour - exact).abs())[neighbour.isfinite()].all())
    twice = (exact.to(torch.bfloat16).double() - exact).abs()
    assert bool((twice > distance).any()), "the control: torch rounds twice"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_has_no_number_stays_so(dtype: torch.dtype) -> None:
    exact = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e300], dtype=torch.float64)
    rounded = round_once(exact, dtype)
    assert bool(rounded[0].isnan())
    assert rounded[1:].tolist() == [float("inf"), -float("inf"), float("inf")]
