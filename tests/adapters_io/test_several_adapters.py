"""Folders of several adapters on one base: each with its own head, written from it and read onto it."""

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft_peer import assert_equal, logits, new_of, randomise
from tiny_models import TINY, tiny_batch
from torch import nn
from two_tasks import two_tasks

from lightning_lora.adapters_io import load_peft_folder, save_peft_folder
from lightning_lora.inject import enable, inject_adapter, merge, mixed_logits
from lightning_lora.lora import LoraSpec


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
    save_peft_folder(model, tmp_path / "adapter", base_name="base", adapter=adapter, new_parameters=new)
    torch.manual_seed(0)
    peer = PeftModel.from_pretrained(TINY["roberta"](), tmp_path / "adapter").eval()
    torch.testing.assert_close(peer(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_adapters_of_several_tasks_load_onto_one_base_each_with_its_own_head(tmp_path: Path) -> None:
    """Two with two labels and one with a number, trained apart; on the shared base, mixed too, each is what it was."""
    base, expected = TINY["bert"](), {}
    new = new_of(base, ("classifier",))
    for adapter, outputs in {"mrpc": 2, "rte": 2, "stsb": 1}.items():
        model = copy.deepcopy(base)
        if outputs == 1:
            model.classifier, model.config.num_labels = nn.Linear(model.config.hidden_size, 1), 1
        inject_adapter(model, LoraSpec(rank=2), new_parameters=new)
        randomise(parameter for parameter in model.parameters() if parameter.requires_grad)
        save_peft_folder(model, tmp_path / adapter, base_name="base", new_parameters=new)
        expected[adapter] = logits(model)
    for adapter in expected:
        load_peft_folder(base, tmp_path / adapter, adapter=adapter, new_parameters=new)
    for adapter, alone in expected.items():
        enable(base, adapter)
        assert_equal(logits(base), alone)
    torch.manual_seed(7)  # the batch of logits()
    batch, names = tiny_batch(), ["stsb", "mrpc"]
    with torch.no_grad():
        rows = mixed_logits(base.eval(), names, batch)
    for row, name in enumerate(names):
        torch.testing.assert_close(rows[row][: expected[name].shape[1]], expected[name][row], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(expected["mrpc"], expected["rte"], atol=1e-2), "the control"
