"""Every trainable parameter is in exactly one group, with the rate and the decay that are its own."""

from itertools import chain

import pytest
from tiny_models import TINY

from lightning_lora.inject import inject, train_baseline
from lightning_lora.lora import LoraSpec
from lightning_lora.training.optimizer import OptimSettings, parameter_groups

HEAD = ["classifier.weight", "classifier.bias"]
SETTINGS = OptimSettings(lr=1e-3, lora_plus_ratio=16.0, head_lr=5e-4, weight_decay=0.1)


def test_lora_plus_gives_b_its_own_rate_and_the_head_its_own() -> None:
    model = TINY["bert"]()
    inject(model, LoraSpec(rank=2), new=HEAD)
    groups = {group["name"]: group for group in parameter_groups(model, SETTINGS, HEAD)}
    assert {name: group["lr"] for name, group in groups.items()} == pytest.approx(
        {"adapter_A": 1e-3, "adapter_B": 16e-3, "head": 5e-4, "head (no decay)": 5e-4}
    )
    assert all(p.shape[0] == 2 for p in groups["adapter_A"]["params"])
    assert all(p.shape[1] == 2 for p in groups["adapter_B"]["params"])


@pytest.mark.parametrize("method", ["lora", "head", "bitfit", "full"])
@pytest.mark.parametrize("model_type", ["bert", "t5", "llama", "gpt2"])
def test_each_trainable_parameter_is_in_one_group(model_type: str, method: str) -> None:
    model = TINY[model_type]()
    new = [name for name, _ in model.named_parameters() if name.startswith(("classifier", "score", "classification"))]
    if method == "lora":
        inject(model, LoraSpec(rank=2), new=new)
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


@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_biases_and_norms_are_not_decayed(model_type: str) -> None:
    model = TINY[model_type]()
    train_baseline(model, "full")
    names = {id(p): name for name, p in model.named_parameters()}
    for group in parameter_groups(model, SETTINGS):
        for parameter in group["params"]:
            name = names[id(parameter)]
            spared = name.endswith("bias") or "norm" in name.lower()
            assert group["weight_decay"] == (0.0 if spared else 0.1), name
