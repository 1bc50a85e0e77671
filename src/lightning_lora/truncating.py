"""From a trained adapter to the same at lower ranks, layer by layer, and what that costs in weights and in scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightning_lora.adapters_io import save_peft_folder
from lightning_lora.analysis import spectra
from lightning_lora.atomic import refuse_existing
from lightning_lora.data.files import DataError
from lightning_lora.inject import CombinationReport, compress_adapter, enable
from lightning_lora.predicting import evaluate
from lightning_lora.reporting import SplitScores
from lightning_lora.restoring import AdaptedBase

TRUNCATED = "truncated"


@dataclass(frozen=True)
class Truncation:
    """What became of an adapter that was cut.

    Attributes:
        report: The error of each layer, and the least that its rank allows.
        parameters: Adapter parameters before and after, without the head; see `analysis.Spectrum.size`.
        scores: Every metric before and after, by dev split; empty where there was nothing to score.
        not_scored: Why there was not, or "".
    """

    report: CombinationReport
    parameters: tuple[int, int]
    scores: Mapping[str, tuple[SplitScores, SplitScores]] = field(default_factory=dict)
    not_scored: str = ""


def truncate(adapted: AdaptedBase, ranks: Mapping[str, int], out: Path, *, batch_size: int = 64) -> Truncation:
    """Cut every layer's ΔW to its largest singular values, write the adapter as PEFT's folder, and score both.

    No training comes after it. The head is that of the uncut adapter.

    Args:
        adapted: What `restore_adapter` gave; it has the second adapter then, "truncated", which is the active one.
        ranks: The rank of each adapted layer, by its full name.
        out: The folder to make.
        batch_size: Rows per batch in scoring.

    Raises:
        ValueError: a layer has no rank or one it cannot have, or ``out`` is there already.
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    refuse_existing(out)
    backbone = adapted.backbone
    before, not_scored = _scores(adapted, batch_size)
    report = compress_adapter(backbone.model, "default", ranks, TRUNCATED)
    enable(backbone.model, TRUNCATED)
    save_peft_folder(
        backbone.model,
        out,
        base_name=backbone.source,
        revision=backbone.revision,
        adapter=TRUNCATED,
        new_parameters=adapted.parameters,
        facts=adapted.facts,
    )
    after, _ = _scores(adapted, batch_size)
    scores = {split: (before[split], after[split]) for split in before}
    return Truncation(report, (_size(adapted, "default"), _size(adapted, TRUNCATED)), scores, not_scored)


def _size(adapted: AdaptedBase, adapter: str) -> int:
    return sum(one.size for one in spectra(adapted.backbone.model, adapter))


def _scores(adapted: AdaptedBase, batch_size: int) -> tuple[dict[str, SplitScores], str]:
    """Scores of the active adapter on what the run was scored on, or why there are none."""
    if adapted.trained is None:
        return {}, "the adapter comes without a run, so there are no dev data to score it on"
    try:
        return evaluate(adapted.trained, batch_size=batch_size), ""
    except DataError as error:
        return {}, f"the dev data are not available ({error})"
