"""The merge check tells the truth, on the rows it should, and leaves the model as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from tiny_task import TinyData, tiny_bert, tiny_module, tiny_trainer
from torch import nn

from lightning_lora.inject import merged
from lightning_lora.lora import LoRALinear
from lightning_lora.training.callbacks import MergeAtEnd, MergeCheck
from lightning_lora.training.callbacks.merge_at_end import compare_logits, evaluating

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


def fit(folder: Path, **settings: Any) -> tuple[MergeCheck | None, nn.Module]:
    callback, module = MergeAtEnd(), tiny_module(epochs=3)
    tiny_trainer(folder, **{"max_epochs": 3, "callbacks": [callback], **settings}).fit(module, datamodule=TinyData())
    return callback.check, module.model


def dev_logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        batches = TinyData().val_dataloader()[0]
        return torch.cat([model(input_ids=b["input_ids"], attention_mask=b["attention_mask"]).logits for b in batches])


def test_the_check_is_what_a_comparison_by_hand_finds(tmp_path: Path) -> None:
    check, model = fit(tmp_path)
    model.eval()
    adapted = dev_logits(model)
    with merged(model):
        after = dev_logits(model)
    assert check is not None
    assert check.rows == 21
    assert check.max_logit_difference == float((adapted - after).abs().max())
    assert 0 < check.max_logit_difference < 1e-5, "merging adds in another order: close, and not the very same"
    assert check.changed_predictions == 0


def test_the_adapted_model_is_not_run_anew(tmp_path: Path) -> None:
    passes = 0

    class Count(Callback):
        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert isinstance(pl_module.model, nn.Module)
            pl_module.model.register_forward_hook(self.seen)

        def seen(self, model: nn.Module, *_: object) -> None:
            nonlocal passes
            passes += not model.training

    fit(tmp_path, callbacks=[callback := MergeAtEnd(), Count()])
    assert callback.check is not None
    assert passes == 3 * 3 + 3, "three batches: after each epoch, and merged"


def test_where_the_last_step_has_no_dev_pass_yet_it_waits_for_it(tmp_path: Path) -> None:
    callback, module, data = MergeAtEnd(), tiny_module(epochs=3), TinyData()
    trainer = tiny_trainer(tmp_path, max_epochs=2, max_steps=6, callbacks=[callback])
    trainer.fit(module, datamodule=data)
    assert callback.check is None
    trainer.validate(module, datamodule=data, verbose=False)
    assert callback.check is not None
    assert callback.check.rows == 21


def test_a_merge_that_goes_wrong_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = LoRALinear.merge

    def perturbed(layer: LoRALinear, *args: Any) -> None:
        merge(layer, *args)
        with torch.no_grad():
            layer.weight.add_(torch.randn_like(layer.weight))

    monkeypatch.setattr(LoRALinear, "merge", perturbed)
    check, _ = fit(tmp_path)
    assert check is not None
    assert check.changed_predictions > 0
    assert check.max_logit_difference > 0.1


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    _, checked = fit(tmp_path)
    _, untouched = fit(tmp_path, callbacks=[])
    for (name, one), (_, other) in zip(checked.state_dict().items(), untouched.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    assert [m.training for m in checked.modules()] == [m.training for m in untouched.modules()]


@pytest.mark.parametrize(("limit", "rows"), [(1, 8), (2, 16), (1.0, 21), (0.7, 16)])
def test_it_keeps_to_the_limit_on_dev_batches(limit: float, rows: int, tmp_path: Path) -> None:
    check, _ = fit(tmp_path, limit_val_batches=limit)
    assert check is not None
    assert check.rows == rows


def test_without_dev_batches_there_is_nothing_to_compare(tmp_path: Path) -> None:
    check, _ = fit(tmp_path, limit_val_batches=0)
    assert check is None


def test_it_runs_in_the_precision_of_training(tmp_path: Path) -> None:
    """In bf16 the merged weights are rounded elsewhere than the sum: more difference than in fp32, by orders."""
    check, model = fit(tmp_path, precision="bf16-mixed")
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        adapted = dev_logits(model)
        with merged(model):
            after = dev_logits(model)
    assert check is not None
    assert check.max_logit_difference == float((adapted.float() - after.float()).abs().max())
    assert check.max_logit_difference > 1e-4


def test_predictions_of_classes_and_of_numbers() -> None:
    assert compare_logits(
        torch.tensor([[0.0, 1.0], [2.0, 1.5]]), torch.tensor([[0.0, 1.25], [1.0, 1.5]])
    ) == MergeCheck(1.0, 1, 2)
    numbers = torch.tensor([[1.0], [2.0], [3.0]])
    moved = numbers + torch.tensor([[0.0], [0.0005], [-0.25]])
    assert compare_logits(numbers, moved) == MergeCheck(0.25, 1, 3)


def test_evaluating_gives_every_module_its_own_mode_back() -> None:
    model = tiny_bert().train()
    frozen_mode = next(m for m in model.modules() if isinstance(m, nn.LayerNorm)).eval()
    with evaluating(model):
        assert not any(m.training for m in model.modules())
    assert [m for m in model.modules() if not m.training] == [frozen_mode]
