"""The adapter folder, opened by the real PEFT: equal logits, head included."""

import copy
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_models import TINY, tiny_batch
from torch import nn
from two_tasks import two_tasks

from lightning_lora.adapters_io import save_peft_folder
from lightning_lora.inject import enable, inject_adapter, merge
from lightning_lora.lora import LoraSpec, adapter_parameters
from lightning_lora.targets import ROLE_SETS

HEADS = {
    "bert": ("classifier", "bert.pooler"),
    "roberta": ("classifier",),
    "deberta-v2": ("classifier", "pooler"),
    "gpt2": ("score",),
    "modernbert": ("classifier",),
    "llama": ("score",),
}


def new_of(model: nn.Module, heads: tuple[str, ...]) -> list[str]:
    return [name for name, _ in model.named_parameters() if name.startswith(tuple(f"{head}." for head in heads))]


@pytest.mark.parametrize("roles", ["qv", "all"])
@pytest.mark.parametrize("scaling", ["alpha_over_rank", "alpha_over_sqrt_rank", "constant"])
@pytest.mark.parametrize("model_type", HEADS)
def test_peft_opens_it_with_equal_logits_head_included(
    model_type: str, scaling: str, roles: str, tmp_path: Path
) -> None:
    model = TINY[model_type]()
    base = copy.deepcopy(model)
    new = new_of(model, HEADS[model_type])
    inject_adapter(model, LoraSpec(rank=2, alpha=3.0, scaling=scaling), roles=ROLE_SETS[roles], new=new)
    with torch.no_grad():
        for _, parameter in adapter_parameters(model):
            parameter.normal_(std=0.3)
        for name in new:
            model.get_parameter(name).normal_(std=0.3)
    save_peft_folder(model, tmp_path / "adapter", base_name="base", new=new)

    batch = tiny_batch()
    expected = model(**batch).logits
    base_logits = base(**batch).logits.clone()
    peer = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(peer(**batch).logits, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(base_logits, expected, atol=1e-2), "the control: the base model's logits differ"


@pytest.mark.parametrize("while_merged", [None, "a", "b"])
@pytest.mark.parametrize("adapter", ["a", "b"])
def test_peft_opens_each_of_two_adapters_with_its_own_head(
    adapter: str, while_merged: str | None, tmp_path: Path
) -> None:
    model, new = two_tasks("roberta", outputs=2, dtype=torch.float32)
    batch = tiny_batch()
    enable(model, adapter)
    expected = model(**batch).logits
    if while_merged is not None:
        merge(model, while_merged)
    save_peft_folder(model, tmp_path / "adapter", base_name="base", adapter=adapter, new=new)
    torch.manual_seed(0)
    peer = PeftModel.from_pretrained(TINY["roberta"](), tmp_path / "adapter").eval()
    torch.testing.assert_close(peer(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_only_what_was_trained_is_in_the_file(tmp_path: Path) -> None:
    model = TINY["bert"]()
    new = new_of(model, HEADS["bert"])
    report = inject_adapter(model, LoraSpec(rank=2), new=new)
    save_peft_folder(model, tmp_path / "adapter", base_name="base", new=new)
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert size < 4 * report.totals.trainable + 4096
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 4)


def test_a_model_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no adapter named 'default'"):
        save_peft_folder(TINY["bert"](), tmp_path / "adapter", base_name="base")
    assert not (tmp_path / "adapter").exists()
