"""The rows of training in every log, each exactly once, also where the run was killed and resumed."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from lightning_lora.training.jsonl_logger import JsonlLogger


class TrainingLog(Callback):
    """Logs ``pl_module.latest`` at every n-th optimizer step (the trainer's ``log_every_n_steps``) and at the last one.

    Lightning writes a row after the hooks in which a checkpoint may be saved; of a run that is resumed there it would
    be missing. Here it is written before, and a checkpoint holds the length of the run's own log: what a killed process
    wrote behind it is cut off when the run goes on.
    """

    def __init__(self) -> None:
        self._logged = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Log if this batch ended a step that is due."""
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        due = bool(every) and (step % every == 0 or step == pl_module.total_steps)
        if due and step != self._logged:
            self._log(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the last step of a run that early stopping ended."""
        if trainer.log_every_n_steps and trainer.global_step not in (0, self._logged):  # type: ignore[attr-defined]
            self._log(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["training_log"] = {"logged": self._logged, "bytes": [log.size for log in _own(trainer)]}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._logged = checkpoint["training_log"]["logged"]
        for log, size in zip(_own(trainer), checkpoint["training_log"]["bytes"], strict=True):
            log.cut(size)

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logged = trainer.global_step
        latest: Any = pl_module.latest
        row = {name: float(value) for name, value in latest.items()}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step - 1)


def _own(trainer: Trainer) -> list[JsonlLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, JsonlLogger)]
