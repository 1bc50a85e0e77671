"""Two checkpoints of what was trained: the best by dev score, and the last."""

import os
import tempfile
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from lightning_lora.training.exceptions import NonFiniteError


class AdapterCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt`` (highest ``dev/score``) and ``last.ckpt`` in a folder; what they hold is up to the module.

    When training breaks off, ``last.ckpt`` is brought up to date, except after `NonFiniteError`: what is there then is
    from a step that was known to be good. In several processes only a signal, which all of them see, is answered so.
    """

    def __init__(self, folder: Path) -> None:
        """Touches nothing until training starts.

        Args:
            folder: Where the files go; made if it is not there.
        """
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor="dev/score",
            mode="max",
            save_last=True,
            save_on_exception=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make sure that the folder can be written to, before a step is taken that would be lost.

        Raises:
            ValueError: it cannot.
        """
        if stage == "fit" and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            assert self.dirpath is not None
            _prepare(Path(self.dirpath))
        super().setup(trainer, pl_module, stage)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save ``last.ckpt`` if steps were taken since; the stock callback would do so in a fast check too."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save ``last.ckpt``; the stock callback would write over the best one."""
        if isinstance(exception, NonFiniteError) or not self._should_save_on_exception(trainer):
            return
        if trainer.world_size == 1 or isinstance(exception, SIGTERMException):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if self.monitor in monitor_candidates:
            super()._save_topk_checkpoint(trainer, monitor_candidates)
        # Stock writes last.ckpt only after an epoch that was the best; this makes it do so after every one.
        self._last_global_step_saved = trainer.global_step


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for leftover in folder.glob(".*.ckpt.*.tmp"):  # of a process that was killed while it saved
            leftover.unlink()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ValueError(
            f"checkpoints cannot be written to {folder}: {reason}; choose another output folder"
        ) from error
