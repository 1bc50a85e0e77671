"""What two jobs of the same configuration could differ in, found without assembling a run."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lightning_lora.adapters_io import factors_fingerprint
from lightning_lora.backbone import base_stamps, load_backbone
from lightning_lora.config import RunConfig
from lightning_lora.data.fingerprint import data_fingerprint
from lightning_lora.data.sources import source_stamps
from lightning_lora.data.splits import drawn, read_splits
from lightning_lora.file_stamps import Stamp
from lightning_lora.tasks import Task
from lightning_lora.training.precision import precision_of


@dataclass(frozen=True)
class Fingerprints:
    """What the settings only point at.

    Attributes:
        base: Of the base model's tensors.
        data: Of the rows that are trained and scored on.
        precision: What is trained in: where it is "auto", the device decides.
        start: Of the factors of a warm start; None without one.
    """

    base: str
    data: str
    precision: str
    start: str | None = None


def fingerprints(config: RunConfig) -> Fingerprints:
    """Those that a run of this configuration would have, each worked out once in a process, unless files change.

    Raises:
        ValueError: model or data are not available.
    """
    task, data = config.data.find_task(), config.data
    # The seed draws the rows only where not all are taken.
    seed = config.seed if data.train_rows is not None else 0
    rows = source_stamps(task, data.path, train_only=data.holdout is not None)
    return Fingerprints(
        _base_fingerprint(config.model.name, task, config.model.revision, base_stamps(config.model.name)),
        _data_fingerprint(task, data.path, data.holdout, data.train_rows, seed, rows),
        precision_of(config),
        None if config.warm_start is None else factors_fingerprint(Path(config.warm_start)),
    )


@cache
def _base_fingerprint(name: str, task: Task, revision: str | None, found: tuple[Stamp, ...]) -> str:
    return load_backbone(name, task, revision).fingerprint


@cache
def _data_fingerprint(
    task: Task, path: str | None, holdout: float | None, train_rows: int | None, seed: int, found: tuple[Stamp, ...]
) -> str:
    return data_fingerprint(drawn(read_splits(task, path, holdout), task, train_rows, seed))
