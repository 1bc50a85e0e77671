"""How much trains, in every log."""

from collections.abc import Mapping

from lightning import Callback, LightningModule, Trainer


class TrainableParameters(Callback):
    """Logs the parameter counts once, before the first step: ``params/adapter``, …, ``params/trainable_percent``."""

    def __init__(self, totals: Mapping[str, int | float]) -> None:
        """Keep the counts.

        Args:
            totals: `ParameterTotals.as_dict()`: parameters by what happens to them, and the trainable percentage.
        """
        self._row = {f"params/{name}": float(value) for name, value in totals.items()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step:  # a run that goes on has them in its log
            return
        for logger in trainer.loggers:
            logger.log_metrics(self._row, step=trainer.global_step)
