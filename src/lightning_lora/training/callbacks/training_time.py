"""How long a run has trained, also where it was stopped and went on."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class TrainingTime(Callback):
    """Counts the seconds since training began, dev passes included, in all processes that a run went on in.

    Every checkpoint holds them: of a process that was killed only those since its last one are lost.

    Attributes:
        before: Seconds that earlier processes took, up to the checkpoint that this one goes on from.
    """

    def __init__(self) -> None:
        self.before = 0.0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Those so far."""
        return self.before + (time.perf_counter() - self._started if self._started is not None else 0.0)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._started = time.perf_counter()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["training_seconds"] = self.seconds

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.before = checkpoint.get("training_seconds", 0.0)  # older checkpoints hold none
