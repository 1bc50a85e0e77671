"""A run that is stopped anywhere and goes on ends as the one that was never stopped: bit for bit, dropout on."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from tiny_task import HEAD, TASK, ShuffledTinyData, tiny_bert, tiny_trainer
from torch import Tensor, nn

from lightning_lora.training import AtomicCheckpointIO, JsonlLogger, LoRAClassifier, OptimSettings, optimizer_steps
from lightning_lora.training.callbacks import (
    AdapterCheckpoint,
    AdapterSpectrum,
    BatchSeed,
    DevScoreStopping,
    MergeAtEnd,
    MergeCheck,
    TrainableParameters,
    TrainingLog,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]

EPOCHS, ROWS = 3, 40  # five batches an epoch


class Recorder(Callback):
    """Losses and rows of every batch, and copies of every checkpoint that was written."""

    def __init__(self, folder: Path, copies: Path | None) -> None:
        self.losses: dict[int, float] = {}
        self.rows: dict[int, list[int]] = {}
        self._last, self._copies = folder / "checkpoints" / "last.ckpt", copies
        self._log = folder / "metrics.jsonl"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        number = trainer.fit_loop.total_batch_idx
        self.losses[number] = float(outputs["loss"])
        self.rows[number] = batch["idx"].tolist()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._keep(trainer.global_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(trainer.global_step)

    def _keep(self, step: int) -> None:
        if self._copies is not None and step and not (self._copies / f"{step}.ckpt").exists():
            self._copies.mkdir(exist_ok=True)
            shutil.copy(self._last, self._copies / f"{step}.ckpt")


@dataclass
class Outcome:
    """All that a run gives."""

    losses: dict[int, float]
    rows: dict[int, list[int]]
    weights: dict[str, Tensor]
    logits: Tensor
    best_score: float | None
    rows_seen: int
    metrics: str
    check: MergeCheck | None
    steps: int
    best: dict[str, Tensor]


def train(
    folder: Path, *, resume: Path | None = None, copies: Path | None = None, seed: int = 7, **settings: Any
) -> Outcome:
    """A whole run in a folder, as `running.fit` does it; ``resume`` is the checkpoint to go on from."""
    workers, accumulate = settings.pop("workers", 0), settings.get("accumulate_grad_batches", 1)
    patience = settings.pop("patience", None)
    epochs = settings.pop("epochs", EPOCHS)
    steps = optimizer_steps(-(-ROWS // 8), epochs, accumulate, settings.get("max_steps", -1))
    model = tiny_bert()
    assert any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()), "dropout is on"
    module = LoRAClassifier(model, TASK, OptimSettings(lr=1e-2), steps, HEAD)
    recorder, merge = Recorder(folder, copies), MergeAtEnd()
    stopping = [] if patience is None else [DevScoreStopping(patience)]
    callbacks = [
        BatchSeed(seed),
        TrainableParameters({"total": 1}),
        TrainingLog(),
        *stopping,
        AdapterSpectrum(),
        merge,
        recorder,
        AdapterCheckpoint(folder / "checkpoints", every=1),
    ]
    trainer = tiny_trainer(
        folder,
        max_epochs=epochs,
        enable_checkpointing=True,
        callbacks=callbacks,
        logger=JsonlLogger(folder / "metrics.jsonl"),
        log_every_n_steps=2,
        plugins=[AtomicCheckpointIO()],
        **settings,
    )
    data = ShuffledTinyData(ROWS, workers)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if module.dev_pass_step != trainer.global_step:
        trainer.validate(module, datamodule=data, verbose=False)
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    return Outcome(
        recorder.losses,
        recorder.rows,
        {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad},
        module.predictions["validation"].logits,
        module.best_score,
        module.rows_seen,
        (folder / "metrics.jsonl").read_text(),
        merge.check,
        trainer.global_step,
        best["state_dict"],
    )


def resumed(whole: Path, step: int, folder: Path, **settings: Any) -> Outcome:
    """What comes of a copy of the run's folder in which the process was killed some time after ``step``."""
    shutil.copytree(whole, folder)
    shutil.copy(whole.parent / "copies" / f"{step}.ckpt", folder / "checkpoints" / "last.ckpt")
    with (folder / "metrics.jsonl").open("a") as log:
        log.write('{"step": 99, "of": "the killed process"}\n')
    return train(folder, resume=folder / "checkpoints" / "last.ckpt", **settings)


def assert_same(whole: Outcome, again: Outcome, first_batch: int) -> None:
    for what in ("losses", "rows"):
        expected = {number: v for number, v in getattr(whole, what).items() if number >= first_batch}
        assert getattr(again, what) == expected, what
    assert torch.equal(again.logits, whole.logits)
    for name, weight in whole.weights.items():
        assert torch.equal(again.weights[name], weight), name
    for name, weight in whole.best.items():
        assert torch.equal(again.best[name], weight), name
    assert again.metrics == whole.metrics
    for what in ("best_score", "rows_seen", "check", "steps"):
        assert getattr(again, what) == getattr(whole, what), what


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train(folder, copies=folder.parent / "copies")


@pytest.mark.parametrize("step", range(1, 16))
def test_a_run_goes_on_from_any_step(step: int, whole: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder, outcome = whole
    assert len(outcome.losses) == 15
    assert_same(outcome, resumed(folder, step, tmp_path / "again"), first_batch=step)


@pytest.mark.parametrize("step", [4, 5, 7])
def test_with_workers_too_within_an_epoch_and_at_its_end(
    step: int, whole: tuple[Path, Outcome], tmp_path: Path
) -> None:
    folder, outcome = whole
    assert_same(outcome, resumed(folder, step, tmp_path / "again", workers=2), first_batch=step)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6])
def test_with_gradient_accumulation(step: int, tmp_path: Path) -> None:
    """Of five batches, steps are made of two, two and one."""
    outcome = train(tmp_path / "run", copies=tmp_path / "copies", accumulate_grad_batches=2)
    assert outcome.steps == 9
    first = (step // 3) * 5 + (step % 3) * 2
    assert_same(outcome, resumed(tmp_path / "run", step, tmp_path / "again", accumulate_grad_batches=2), first)


@pytest.mark.parametrize("max_steps", [7, 10])
def test_up_to_the_last_step_of_a_run_that_ends_early(max_steps: int, tmp_path: Path) -> None:
    """Killed after its last step, a run has only its dev pass, its merge check and its record left to do."""
    outcome = train(tmp_path / "run", copies=tmp_path / "copies", max_steps=max_steps)
    for step in (max_steps - 1, max_steps):
        again = resumed(tmp_path / "run", step, tmp_path / str(step), max_steps=max_steps)
        assert_same(outcome, again, first_batch=step)


@pytest.mark.parametrize(("step", "waited"), [(10, 0), (12, 1), (15, 1)])
def test_early_stopping_counts_on(step: int, waited: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of three dev passes is the best, and the checkpoint of a step is written before its dev pass."""
    monkeypatch.setattr("lightning_lora.training.module.score", lambda *_: {"f1": 0.0, "accuracy": 0.0})
    settings = {"epochs": 5, "patience": 2}
    outcome = train(tmp_path / "run", copies=tmp_path / "copies", **settings)
    assert outcome.steps == 15, "of 25: the score did not rise"
    saved = torch.load(tmp_path / "copies" / f"{step}.ckpt", weights_only=True)["callbacks"].values()
    assert [state["wait_count"] for state in saved if "wait_count" in state] == [waited]
    assert_same(outcome, resumed(tmp_path / "run", step, tmp_path / "again", **settings), first_batch=step)


def test_another_seed_draws_otherwise(whole: tuple[Path, Outcome], tmp_path: Path) -> None:
    """The control: what is equal above is not equal by itself."""
    other = train(tmp_path / "run", seed=8)
    assert other.rows == whole[1].rows
    assert all(other.losses[number] != loss for number, loss in whole[1].losses.items())
