"""Every trainable parameter is in exactly one group, with the rate and the decay that are its own."""

from itertools import chain

import pytest
import torch
from tiny_models import TINY
from transformers import Trainer

from lightning_lora.inject import inject_adapter, train_baseline
from lightning_lora.lora import LoraSpec
from lightning_lora.training.optimizer import OptimSettings, main_rate, parameter_groups

HEAD = ["classifier.weight", "classifier.bias"]
SETTINGS = OptimSettings(lr=1e-3, lora_plus_ratio=16.0, head_lr=5e-4, weight_decay=0.1)


def test_lora_plus_gives_b_its_own_rate_and_the_head_its_own() -> None:
    model = TINY["bert"]()
    inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD)
    groups = {group["name"]: group for group in parameter_groups(model, SETTINGS, HEAD)}
    assert {name: group["lr"] for name, group in groups.items()} == pytest.approx(
        {"adapter_A": 1e-3, "adapter_B": 16e-3, "head": 5e-4, "head (no decay)": 5e-4}
    )
    assert all(p.shape[0] == 2 for p in groups["adapter_A"]["params"])
    assert all(p.shape[1] == 2 for p in groups["adapter_B"]["params"])


@pytest.mark.parametrize(("head_lr", "rate"), [(None, 1e-3), (0.0, 0.0), (5e-4, 5e-4)])
def test_the_head_has_its_own_rate_or_that_of_the_rest(head_lr: float | None, rate: float) -> None:
    model = TINY["bert"]()
    inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD)
    groups = {g["name"]: g["lr"] for g in parameter_groups(model, OptimSettings(lr=1e-3, head_lr=head_lr), HEAD)}
    assert groups == {"adapter_A": 1e-3, "adapter_B": 1e-3, "head": rate, "head (no decay)": rate}


@pytest.mark.parametrize(("method", "rate"), [("lora", 1e-3), ("bitfit", 1e-3), ("full", 1e-3), ("head", 5e-4)])
def test_the_main_rate_is_not_that_of_the_head_or_of_b(method: str, rate: float) -> None:
    model = TINY["bert"]()
    if method == "lora":
        inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD)
    else:
        train_baseline(model, method, HEAD)
    assert main_rate(torch.optim.AdamW(parameter_groups(model, SETTINGS, HEAD))) == rate


@pytest.mark.parametrize("method", ["lora", "head", "bitfit", "full"])
@pytest.mark.parametrize("model_type", ["bert", "t5", "llama", "gpt2"])
def test_each_trainable_parameter_is_in_one_group(model_type: str, method: str) -> None:
    model = TINY[model_type]()
    new = [name for name, _ in model.named_parameters() if name.startswith(("classifier", "score", "classification"))]
    if method == "lora":
        inject_adapter(model, LoraSpec(rank=2), new_parameters=new)
    elif method == "bitfit" and model_type in ("t5", "llama"):
        with pytest.raises(ValueError, match="lora=bitfit has no effect"):
            train_baseline(model, method, new)
        return
    else:
        train_baseline(model, method, new)
    grouped = list(chain.from_iterable(group["params"] for group in parameter_groups(model, SETTINGS, new)))
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert len(grouped) == len({id(p) for p in grouped}) == len(trainable)
    assert {id(p) for p in grouped} == {id(p) for p in trainable}


@pytest.mark.parametrize("model_type", TINY)
def test_what_is_decayed_is_what_transformers_decays(model_type: str) -> None:
    """Except T5's table of position biases: transformers takes it for a bias by its name; it is an embedding."""
    model = TINY[model_type]()
    train_baseline(model, "full")
    groups = parameter_groups(model, SETTINGS)
    decayed = {id(p) for group in groups if group["weight_decay"] == 0.1 for p in group["params"]}
    spared = {id(p) for group in groups if group["weight_decay"] == 0.0 for p in group["params"]}
    expected = {id(model.get_parameter(name)) for name in Trainer.get_decay_parameter_names(None, model)}
    tables = {id(p) for name, p in model.named_parameters() if name.endswith("relative_attention_bias.weight")}
    assert decayed == expected | tables
    assert spared
