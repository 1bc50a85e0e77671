"""The state dict of a merged model is the merged model's: nowhere is an adapter added to weights that hold it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import TINY
from torch import Tensor
from transformers import AutoModelForSequenceClassification
from two_tasks import batch, two_tasks

from lightning_lora.inject import delete_adapter, inject_adapter, merge, merged_adapter, unmerge
from lightning_lora.lora import LoraSpec, adapter_parameters, lora_layers


@torch.no_grad()
def logits(model: Any) -> Tensor:
    torch.manual_seed(2)
    found: Tensor = model.eval()(**batch()).logits
    return found


def merged_model(architecture: str) -> Any:
    """With adapter "a" merged, the only one."""
    model, _ = two_tasks(architecture)
    delete_adapter(model, "b")
    merge(model, "a")
    return model


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_it_is_a_state_dict_of_the_plain_model(architecture: str) -> None:
    model = merged_model(architecture)
    plain = TINY[architecture]().double()
    plain.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(logits(plain), logits(model))
    unmerge(model)
    assert any(".adapters." in key for key in model.state_dict()), "the control"


def test_hugging_faces_own_saving_writes_the_merged_model(tmp_path: Path) -> None:
    model = merged_model("bert")
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, dtype=torch.float64, output_loading_info=True
    )
    assert not info["unexpected_keys"]
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("adapter", ["a", "b"])
def test_a_model_with_adapters_does_not_take_it(adapter: str) -> None:
    model, _ = two_tasks("bert")
    merge(model, adapter)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    unmerge(model)
    with pytest.raises(RuntimeError, match=r'Missing key.*"bert\..*\.adapters\.a\.A"'):
        model.load_state_dict(state)


def test_a_merged_model_takes_none() -> None:
    model, _ = two_tasks("bert")
    state = {key: value.clone() for key, value in model.state_dict().items()}
    factors = {key: value for key, value in state.items() if ".adapters." in key}
    expected = logits(model)
    merge(model)
    before = logits(model)
    for values, strict in ((state, True), (factors, False)):
        with pytest.raises(RuntimeError, match=r"^adapter 'b' is merged; call unmerge\(\) before loading"):
            model.load_state_dict(values, strict=strict)
    assert torch.equal(logits(model), before)
    unmerge(model)
    model.load_state_dict(state)
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@pytest.mark.parametrize("part", ["all", "one layer", "its factors"])
def test_layers_without_values_are_refused_with_what_to_do_and_nothing_is_merged(architecture: str, part: str) -> None:
    model = TINY[architecture]()
    values = {name: value.clone() for name, value in model.state_dict().items()}
    inject_adapter(model, LoraSpec(rank=2))
    name, last = list(lora_layers(model))[-1]
    {"all": model, "one layer": last, "its factors": last.delta("default")}[part].to("meta")
    with pytest.raises(RuntimeError, match=r"layer is on the meta device.*no values to merge; load the model") as error:
        merge(model)
    assert len(str(error.value).splitlines()) == 1
    assert part == "all" or str(error.value).startswith(f"{name}: ")
    assert merged_adapter(model) is None
    model.to_empty(device="cpu").load_state_dict(values, strict=False)
    for _, parameter in adapter_parameters(model):
        torch.nn.init.normal_(parameter)
    delta = last.delta("default").weight()
    expected = last.weight + (delta.T if last.weight_is_in_by_out else delta)
    merge(model)
    torch.testing.assert_close(last.weight, expected.float())
