"""What the runs' logs say of the directions that their adapters use."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from lightning_lora.reporting.comparison import RankUse
from lightning_lora.reporting.log import SPECTRA, log_rows


def read_rank_use(folder: Path) -> tuple[RankUse, ...]:
    """The last table of spectra in a run's ``metrics.jsonl``; empty without a log that has one that can be read."""
    for row in log_rows(folder, SPECTRA, last_first=True):
        try:
            return tuple(_of_row(entry) for entry in row[SPECTRA])
        except (ValueError, KeyError, TypeError):
            continue
    return ()


def mean_over_runs(runs: Sequence[tuple[RankUse, ...]]) -> tuple[RankUse, ...]:
    """For each layer and role the mean over the runs that have it, in the order of the first."""
    found: dict[tuple[str, str], list[RankUse]] = {}
    for run in runs:
        for use in run:
            found.setdefault((use.module, use.role), []).append(use)
    return tuple(
        RankUse(use.module, use.block, use.role, use.rank, fmean(one.entropy_rank for one in same))
        for same in found.values()
        for use in same[:1]
    )


def _of_row(row: dict[str, object]) -> RankUse:
    """An entry of the table.

    Raises:
        ValueError: it is not one.
    """
    module, block, role, rank, entropy_rank = (row[key] for key in ("module", "block", "role", "rank", "entropy_rank"))
    if not (isinstance(module, str) and isinstance(role, str) and isinstance(block, int | None)):
        raise ValueError("not an entry of a table of spectra")
    if not (isinstance(rank, int) and rank > 0 and isinstance(entropy_rank, int | float)):
        raise ValueError("not an entry of a table of spectra")
    return RankUse(module, block, role, rank, float(entropy_rank))
