"""How many directions each adapter uses, with every dev score."""

from statistics import fmean
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import nn

from lightning_lora.analysis import Spectrum, spectra
from lightning_lora.reporting.log import SPECTRA
from lightning_lora.training.jsonl_logger import JsonlLogger


class AdapterSpectrum(Callback):
    """Logs the singular values of every ΔW after each dev pass, of the very weights that were scored.

    Every log gets the means over the layers of each role: ``spectrum/query/entropy_rank``, ``stable_rank``,
    ``energy_90_rank`` and ``relative_norm``; as many curves for twelve blocks as for two. The run's own log gets the
    whole table besides, in a row ``{"step": ..., "epoch": ..., "spectra": [...]}`` with an entry for each layer and
    role (`Spectrum.as_dict`, to six digits).

    A millisecond for each layer and pass, in the main process alone. A run that is resumed repeats the dev pass that it
    was stopped in, and with it these rows.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log; the dev pass has found the weights to be finite."""
        if not trainer.is_global_zero:
            return
        model, latest = pl_module.model, pl_module.latest
        assert isinstance(model, nn.Module)
        assert isinstance(latest, dict)
        found = spectra(model)
        step, epoch = trainer.global_step - 1, int(latest["epoch"])
        for logger in trainer.loggers:
            logger.log_metrics({**means_by_role(found), "epoch": epoch}, step=step)
            if isinstance(logger, JsonlLogger):
                logger.log_table(SPECTRA, [_rounded(spectrum.as_dict()) for spectrum in found], step=step, epoch=epoch)


def means_by_role(found: list[Spectrum]) -> dict[str, float]:
    """The mean of each figure over the layers of a role, as ``spectrum/<role>/<figure>``."""
    by_role: dict[str, list[dict[str, float]]] = {}
    for spectrum in found:
        by_role.setdefault(spectrum.role, []).append(spectrum.figures())
    return {
        f"spectrum/{role}/{name}": fmean(figures[name] for figures in of_role)
        for role, of_role in by_role.items()
        for name in of_role[0]
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
