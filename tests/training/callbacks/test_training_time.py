"""The time of training is that of all processes that a run went on in."""

from pathlib import Path
from typing import Any

import pytest
from tiny_task import TinyData, tiny_module, tiny_trainer

from lightning_lora.training import AtomicCheckpointIO
from lightning_lora.training.callbacks import TrainingTime

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
]


def trained(folder: Path, epochs: int, checkpoint: Path | None = None) -> tuple[TrainingTime, dict[str, Any]]:
    """The time after so many epochs, and the checkpoint that was then written to ``made.ckpt``."""
    time = TrainingTime()
    assert time.seconds == 0.0
    trainer = tiny_trainer(folder, max_epochs=epochs, callbacks=[time], plugins=[AtomicCheckpointIO()])
    trainer.fit(tiny_module(epochs=2), datamodule=TinyData(), ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(folder / "made.ckpt")
    return time, AtomicCheckpointIO().load_checkpoint(folder / "made.ckpt")


def test_a_process_adds_its_time_to_that_of_those_before(tmp_path: Path) -> None:
    first, half = trained(tmp_path, 1)
    assert first.before == 0.0
    assert 0.0 < half["training_seconds"] < first.seconds
    (tmp_path / "made.ckpt").rename(tmp_path / "half.ckpt")
    second, whole = trained(tmp_path, 2, tmp_path / "half.ckpt")
    assert second.before == half["training_seconds"], "what came after the checkpoint is lost"
    assert second.before < whole["training_seconds"] < second.seconds


def test_a_checkpoint_that_holds_no_time_is_taken_up(tmp_path: Path) -> None:
    _, half = trained(tmp_path, 1)
    del half["training_seconds"]
    AtomicCheckpointIO().save_checkpoint(half, tmp_path / "older.ckpt")
    again, _ = trained(tmp_path, 2, tmp_path / "older.ckpt")
    assert again.before == 0.0
    assert again.seconds > 0.0
