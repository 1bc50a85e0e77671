"""Baselines by name."""

import pytest
from tiny_models import TINY

from lightning_lora.inject import train_baseline


@pytest.mark.parametrize("name", ["lora", "biffit"])
def test_a_name_of_no_baseline_is_refused_and_nothing_is_frozen(name: str) -> None:
    model = TINY["bert"]()
    with pytest.raises(ValueError, match=f"method='{name}' is unknown; choose one of head, bitfit, full"):
        train_baseline(model, name)
    assert all(parameter.requires_grad for parameter in model.parameters())
