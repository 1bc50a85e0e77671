"""best.ckpt is the best, last.ckpt the last, whatever happens in between."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny_task import TinyData, tiny_trainer
from torch import Tensor, nn

from lightning_lora.atomic import CannotWriteError
from lightning_lora.training.callbacks import AdapterCheckpoint, DevScoreStopping

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


class Scripted(LightningModule):
    """Takes four steps an epoch, gets the dev scores it is given, and may raise once ``fail_at`` steps are done."""

    def __init__(self, scores: Sequence[float], fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.scores, self.fail_at = scores, fail_at

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        if self.global_step == self.fail_at:
            raise RuntimeError("the disk is on fire")
        return -self.weight.sum()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing: the score is known."""

    def on_validation_epoch_end(self) -> None:
        self.log("dev/score", self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(module: Scripted, folder: Path, callback: Any, **settings: Any) -> Trainer:
    trainer = tiny_trainer(
        folder,
        **{
            "max_epochs": len(module.scores),
            "enable_checkpointing": True,
            "callbacks": callback if isinstance(callback, list) else [callback],
            **settings,
        },
    )
    trainer.fit(module, datamodule=TinyData())
    return trainer


def weights(folder: Path) -> dict[str, float]:
    """Of every checkpoint in a folder, the weight, which is the number of steps that were taken."""
    files = sorted(folder.iterdir()) if folder.exists() else []
    return {file.name: float(torch.load(file, weights_only=True)["state_dict"]["weight"]) for file in files}


def test_the_best_and_the_last_are_kept(tmp_path: Path) -> None:
    fit(Scripted([0.1, 0.9, 0.5]), tmp_path, AdapterCheckpoint(tmp_path / "checkpoints"))
    assert weights(tmp_path / "checkpoints") == {"best.ckpt": 8.0, "last.ckpt": 12.0}


def test_stock_leaves_the_last_behind(tmp_path: Path) -> None:
    stock = ModelCheckpoint(tmp_path, "best", monitor="dev/score", mode="max", save_last=True)
    fit(Scripted([0.1, 0.9, 0.5]), tmp_path, stock)
    assert weights(tmp_path) == {"best.ckpt": 8.0, "last.ckpt": 8.0}


def test_a_score_of_nan_is_never_better(tmp_path: Path) -> None:
    fit(Scripted([float("nan"), 0.2, float("nan")]), tmp_path, AdapterCheckpoint(tmp_path / "checkpoints"))
    assert weights(tmp_path / "checkpoints") == {"best.ckpt": 8.0, "last.ckpt": 12.0}


def test_a_run_without_a_dev_pass_has_a_last_checkpoint(tmp_path: Path) -> None:
    fit(Scripted([0.1]), tmp_path, AdapterCheckpoint(tmp_path / "checkpoints"), max_steps=3)
    assert weights(tmp_path / "checkpoints") == {"last.ckpt": 3.0}


@pytest.mark.parametrize(("closing", "best"), [(0.9, 6.0), (0.1, 4.0)])
def test_the_score_that_closes_a_run_inside_an_epoch_counts_too(closing: float, best: float, tmp_path: Path) -> None:
    module = Scripted([0.5, closing, closing])
    trainer = fit(module, tmp_path, AdapterCheckpoint(tmp_path / "checkpoints"), max_steps=6)
    trainer.validate(module, datamodule=TinyData(), verbose=False)
    assert weights(tmp_path / "checkpoints") == {"best.ckpt": best, "last.ckpt": 6.0}


@pytest.mark.parametrize(("closing", "best"), [(0.9, 6.0), (0.1, 4.0)])
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_it_counts_also_where_the_run_was_killed_behind_its_last_step(
    closing: float, best: float, tmp_path: Path
) -> None:
    module, folder = Scripted([0.5, closing, closing]), tmp_path / "checkpoints"
    fit(module, tmp_path, AdapterCheckpoint(folder), max_steps=6)
    assert weights(folder) == {"best.ckpt": 4.0, "last.ckpt": 6.0, "last_good.ckpt": 4.0}
    settings = {"max_epochs": 3, "max_steps": 6, "enable_checkpointing": True}
    again = tiny_trainer(tmp_path, callbacks=[AdapterCheckpoint(folder)], **settings)
    again.fit(module, datamodule=TinyData(), ckpt_path=folder / "last.ckpt")
    again.validate(module, datamodule=TinyData(), verbose=False)
    assert weights(folder) == {"best.ckpt": best, "last.ckpt": 6.0}


def test_an_exception_brings_the_last_up_to_date_and_leaves_the_best(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="on fire"):
        fit(Scripted([0.1, 0.9, 0.5], fail_at=10), tmp_path, AdapterCheckpoint(tmp_path / "checkpoints"))
    kept = weights(tmp_path / "checkpoints")
    assert kept == {"best.ckpt": 8.0, "last.ckpt": 10.0, "last_good.ckpt": 8.0}, "no pass has seen the last two steps"


def test_stock_writes_over_the_best_after_an_exception(tmp_path: Path) -> None:
    stock = ModelCheckpoint(tmp_path, "best", monitor="dev/score", mode="max", save_on_exception=True)
    with pytest.raises(RuntimeError, match="on fire"):
        fit(Scripted([0.1, 0.9, 0.5], fail_at=10), tmp_path, stock)
    assert weights(tmp_path) == {"best.ckpt": 10.0}


def test_a_folder_that_cannot_be_written_to_is_an_error_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    module = Scripted([0.1])
    with pytest.raises(CannotWriteError, match=r"cannot write .*/file/checkpoints: Not a directory; a part of"):
        fit(module, tmp_path, AdapterCheckpoint(tmp_path / "file" / "checkpoints"))
    assert module.weight.item() == 0.0


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    leftover = tmp_path / ".last.ckpt.0a1b2c3d4e5f.tmp"
    leftover.write_bytes(b"half")
    AdapterCheckpoint(tmp_path).setup(tiny_trainer(tmp_path), Scripted([]), "fit")
    assert not leftover.exists()


def test_a_fast_check_writes_nothing(tmp_path: Path) -> None:
    fit(Scripted([0.1]), tmp_path, AdapterCheckpoint(tmp_path / "checkpoints"), fast_dev_run=True)
    assert not (tmp_path / "checkpoints").exists()


def test_every_nth_step_has_a_checkpoint_too(tmp_path: Path) -> None:
    seen: list[float] = []

    class Watch(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            seen.append(weights(tmp_path / "checkpoints").get("last.ckpt", 0.0))

    fit(Scripted([0.1, 0.2]), tmp_path, [AdapterCheckpoint(tmp_path / "checkpoints", every=3), Watch()])
    assert seen == [0, 0, 0, 3, 4, 4, 6, 6], "after steps 3 and 6, and at the end of an epoch"


def test_a_new_run_clears_what_an_older_one_left_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    fit(Scripted([0.1, 0.9]), tmp_path, AdapterCheckpoint(folder))
    with pytest.warns(UserWarning, match="exists and is not empty"), pytest.raises(RuntimeError, match="on fire"):
        fit(Scripted([0.1], fail_at=0), tmp_path, AdapterCheckpoint(folder))
    assert weights(folder) == {}


def test_a_step_that_is_half_taken_is_not_saved(tmp_path: Path) -> None:
    class HalfTaken(torch.optim.SGD):
        steps = 0

        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            self.steps += 1
            if self.steps == 6:
                raise torch.OutOfMemoryError("while the sixth step was taken")
            return loss

    module = Scripted([0.1, 0.9])
    module.configure_optimizers = lambda: HalfTaken(module.parameters(), lr=1.0)  # type: ignore[method-assign]
    with pytest.raises(torch.OutOfMemoryError):
        fit(module, tmp_path, AdapterCheckpoint(tmp_path / "checkpoints"))
    assert weights(tmp_path / "checkpoints") == {"best.ckpt": 4.0, "last.ckpt": 4.0}
    assert module.weight.item() == 6.0, "the control: what a checkpoint would have held"


def test_the_best_is_remembered_in_a_folder_that_was_moved(tmp_path: Path) -> None:
    fit(Scripted([0.9]), tmp_path, AdapterCheckpoint(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    trainer = tiny_trainer(
        tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[AdapterCheckpoint(tmp_path / "new")]
    )
    with pytest.warns(UserWarning, match="exists and is not empty"):
        trainer.fit(Scripted([0.9, 0.5]), datamodule=TinyData(), ckpt_path=tmp_path / "new" / "last.ckpt")
    assert weights(tmp_path / "new") == {"best.ckpt": 4.0, "last.ckpt": 8.0}


def test_early_stopping_still_leaves_both_checkpoints(tmp_path: Path) -> None:
    callbacks = [DevScoreStopping(patience=2), AdapterCheckpoint(tmp_path / "checkpoints")]
    trainer = fit(Scripted([0.1, 0.9, 0.5, 0.6, 0.7]), tmp_path, callbacks)
    assert trainer.global_step == 16
    assert weights(tmp_path / "checkpoints") == {"best.ckpt": 8.0, "last.ckpt": 16.0}


def test_what_breaks_off_before_training_goes_on_leaves_the_checkpoint_as_it_was(tmp_path: Path) -> None:
    """Lightning has set its step counter by then, and not yet what comes after it."""
    folder = tmp_path / "checkpoints"
    fit(Scripted([0.1, 0.9]), tmp_path, AdapterCheckpoint(folder))
    before = (folder / "last.ckpt").read_bytes()

    def out_of_memory() -> None:
        raise torch.OutOfMemoryError("another process has the GPU")

    data = TinyData()
    data.train_dataloader = out_of_memory
    again = tiny_trainer(tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=[AdapterCheckpoint(folder)])
    with (
        pytest.warns(UserWarning, match="exists and is not empty"),
        pytest.raises(torch.OutOfMemoryError, match="another process"),
    ):
        again.fit(Scripted([0.1, 0.9, 0.5]), datamodule=data, ckpt_path=folder / "last.ckpt")
    assert (folder / "last.ckpt").read_bytes() == before
