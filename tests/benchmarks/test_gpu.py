"""What the script for a GPU takes for a failure; the rest of it runs on a GPU only."""

import math

import gpu
import pytest
import torch


def test_a_value_that_is_not_a_number_is_no_small_difference() -> None:
    expected = [torch.tensor([1.0, -4.0]), torch.tensor([2.0])]
    assert gpu.largest_relative(expected, [torch.tensor([1.0, -3.0]), torch.tensor([2.2])]) == 0.25
    behind_a_number = [torch.tensor([1.0, -4.0]), torch.tensor([math.nan])]
    assert math.isnan(gpu.largest_relative(expected, behind_a_number))


def test_an_architecture_that_fails_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def instead(architecture: str) -> dict[str, float]:
        if architecture == "bert":
            raise RuntimeError("no graph of this")
        return {"as it is": 1e-15, "replayed": math.nan if architecture == "gpt2" else 1e-15}

    monkeypatch.setattr(gpu, "differences", instead)
    found, failures = gpu.architectures(gpu.argparse.Namespace())
    assert len(found["largest_relative_difference_in_fp64"]) == len(gpu.FIRST_TOKEN | gpu.LAST_TOKEN) - 1
    assert [failure.partition(":")[0] for failure in failures] == ["bert", "gpt2"]
    assert "no graph of this" in failures[0]
