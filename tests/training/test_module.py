"""A real Lightning run of the module: what moves, what does not, and what is measured."""

from pathlib import Path

import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import Callback
from tiny_models import SETTINGS, TINY, build
from tiny_task import HEAD, TASK, TinyData, tiny_bert, tiny_module, tiny_trainer
from torch import nn

from lightning_lora.inject import inject_adapter, train_baseline
from lightning_lora.lora import LoraSpec
from lightning_lora.tasks import TASKS, score
from lightning_lora.training import LoRAClassifier, NonFiniteError, OptimSettings, optimizer_steps
from lightning_lora.training.module import each_row_once
from lightning_lora.training.schedule import schedule_factor

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


def test_training_moves_adapters_and_head_only_and_learns(tmp_path: Path) -> None:
    module = tiny_module(epochs=12)
    before = {name: p.clone() for name, p in module.model.named_parameters()}
    tiny_trainer(tmp_path, max_epochs=12).fit(module, datamodule=TinyData())
    moved = {name for name, p in module.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if ".adapters." in name} | set(HEAD)
    assert module.dev_metrics["validation"]["accuracy"] > 0.9
    assert module.best_score is not None


def test_the_base_has_its_dropout_in_training_and_not_in_dev_passes(tmp_path: Path) -> None:
    seen: dict[str, set[bool]] = {"train": set(), "dev": set()}

    class Modes(Callback):
        def on_train_batch_end(self, trainer: object, pl_module: LightningModule, *_: object) -> None:
            seen["train"] |= {m.training for m in pl_module.modules() if isinstance(m, nn.Dropout)}

        def on_validation_batch_end(self, trainer: object, pl_module: LightningModule, *_: object) -> None:
            seen["dev"] |= {m.training for m in pl_module.modules() if isinstance(m, nn.Dropout)}

    model = tiny_bert().eval()  # as from_pretrained hands it over
    tiny_trainer(tmp_path, max_epochs=2, callbacks=[Modes()]).fit(tiny_module(model, epochs=2), datamodule=TinyData())
    assert seen == {"train": {True}, "dev": {False}}


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(
    ("rows", "accumulate", "limit", "max_steps", "steps"),
    [
        (32, 1, 1.0, -1, 8),
        (32, 3, 1.0, -1, 4),  # in each epoch a step of three batches and one of one
        (17, 2, 1.0, -1, 4),  # two batches of eight and one of a single row, which counts
        (32, 2, 3, -1, 4),
        (32, 1, 0.5, -1, 4),
        (32, 1, 1.0, 5, 5),
        (32, 1, 3, 4, 4),
    ],
)
def test_the_rate_follows_the_formula_over_the_true_number_of_steps(
    schedule: str, rows: int, accumulate: int, limit: float, max_steps: int, steps: int, tmp_path: Path
) -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_before_optimizer_step(
            self, trainer: object, pl_module: object, optimizer: torch.optim.Optimizer
        ) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    batches = -(-rows // 8)
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    total = optimizer_steps(batches, 2, accumulate, max_steps)
    assert total == steps
    module = LoRAClassifier(tiny_bert(), TASK, OptimSettings(lr=1.0, warmup_ratio=0.2, schedule=schedule), total)
    trainer = tiny_trainer(
        tmp_path,
        max_epochs=2,
        max_steps=max_steps,
        accumulate_grad_batches=accumulate,
        limit_train_batches=limit,
        limit_val_batches=0,
        callbacks=[Rates()],
    )
    trainer.fit(module, datamodule=TinyData(train=rows))
    assert trainer.global_step == steps
    factor = schedule_factor(schedule, steps, 2 if steps == 8 else 1)
    assert rates == pytest.approx([factor(step) for step in range(steps)])
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0)


@pytest.mark.parametrize("method", ["bitfit", "full"])
def test_the_rate_that_is_logged_is_not_the_heads_own(method: str, tmp_path: Path) -> None:
    model = TINY["bert"]()
    train_baseline(model, method, HEAD)
    module = tiny_module(model, lr=1e-4, head_lr=0.05, schedule="constant", warmup_ratio=0.0)
    tiny_trainer(tmp_path, limit_val_batches=0).fit(module, datamodule=TinyData())
    assert module.latest["lr"] == 1e-4


def test_metrics_are_over_the_whole_split_not_averaged_over_batches(tmp_path: Path) -> None:
    module, data = tiny_module(), TinyData()
    tiny_trainer(tmp_path).fit(module, datamodule=data)
    found = module.predictions["validation"]
    assert found.idx.tolist() == list(range(21))
    with torch.no_grad():
        module.eval()
        batches = [(batch, module.logits(batch)) for batch in data.val_dataloader()[0]]
    logits, labels = torch.cat([x for _, x in batches]), torch.cat([batch["labels"] for batch, _ in batches])
    torch.testing.assert_close(found.logits, logits)
    assert torch.equal(found.labels, labels)
    whole = score(TASK, logits, labels)
    assert {name: module.dev_metrics["validation"][name] for name in whole} == pytest.approx(whole)
    averaged = sum(score(TASK, x, batch["labels"])["f1"] for batch, x in batches) / len(batches)
    assert averaged != pytest.approx(whole["f1"], abs=1e-3), "the control: batch averages differ here"


def test_rows_repeated_to_fill_a_batch_count_once() -> None:
    idx = torch.tensor([3, 0, 2, 1, 0, 3])
    found = each_row_once(idx, 10 * idx, idx.float().unsqueeze(1))
    assert found.idx.tolist() == [0, 1, 2, 3]
    assert found.labels.tolist() == [0, 10, 20, 30]
    assert found.logits.tolist() == [[0.0], [1.0], [2.0], [3.0]]


def test_regression_is_mean_squared_error_on_one_output() -> None:
    module = LoRAClassifier(tiny_bert(), TASKS["stsb"], OptimSettings(lr=1e-3), 4, HEAD)
    logits, labels = torch.tensor([[1.0], [3.0]]), torch.tensor([2.0, 5.0])
    assert float(module.loss(logits, labels)) == pytest.approx((1 + 4) / 2)


def test_dev_logits_that_are_not_finite_stop_the_run(tmp_path: Path) -> None:
    module = tiny_module()
    with torch.no_grad():
        module.model.get_parameter("classifier.weight").fill_(torch.inf)
    with pytest.raises(NonFiniteError, match="logits on validation are not finite at step 0"):
        tiny_trainer(tmp_path).validate(module, datamodule=TinyData(), verbose=False)


def test_a_checkpoint_holds_what_was_trained_and_restores_it(tmp_path: Path) -> None:
    module, trainer = tiny_module(), tiny_trainer(tmp_path)
    trainer.fit(module, datamodule=TinyData())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(tmp_path / "run.ckpt", weights_only=True)["state_dict"]
    assert set(saved) == {f"model.{name}" for name, p in module.model.named_parameters() if p.requires_grad}

    fresh, again = tiny_module(), tiny_trainer(tmp_path)
    again.validate(fresh, datamodule=TinyData(), verbose=False)
    assert not torch.equal(fresh.predictions["validation"].logits, module.predictions["validation"].logits)
    again.validate(fresh, datamodule=TinyData(), ckpt_path=tmp_path / "run.ckpt", verbose=False, weights_only=True)
    assert torch.equal(fresh.predictions["validation"].logits, module.predictions["validation"].logits)


def test_a_checkpoint_does_not_grow_with_the_frozen_base(tmp_path: Path) -> None:
    sizes, base_sizes = set(), set()
    for vocabulary in (100, 20_000):
        torch.manual_seed(0)
        model = build("bert", SETTINGS["bert"][1] | {"vocab_size": vocabulary})
        inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD)
        trainer = tiny_trainer(tmp_path)
        trainer.fit(tiny_module(model), datamodule=TinyData())
        trainer.save_checkpoint(tmp_path / "run.ckpt")
        torch.save(model.state_dict(), tmp_path / "base.pt")
        sizes.add((tmp_path / "run.ckpt").stat().st_size)
        base_sizes.add((tmp_path / "base.pt").stat().st_size)
    assert len(sizes) == 1
    assert max(base_sizes) - min(base_sizes) > 19_900 * 16 * 4


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    module, trainer = tiny_module(), tiny_trainer(tmp_path)
    trainer.fit(module, datamodule=TinyData())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    other = tiny_module()
    for name, parameter in other.model.named_parameters():
        parameter.requires_grad_(name in HEAD)
    with pytest.raises(ValueError, match="the checkpoint is of another run"):
        tiny_trainer(tmp_path).validate(
            other, datamodule=TinyData(), ckpt_path=tmp_path / "run.ckpt", verbose=False, weights_only=True
        )
