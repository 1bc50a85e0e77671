"""The record of a run: `result.json`, which tables, plots and resumed sweeps read, and nothing else.

Fields and their meaning are those of the class below; the file holds exactly them. A record is written whole, when
the run begins and when it ends.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lightning_lora.atomic import atomic_file
from lightning_lora.run_folder import RECORD

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What one run was and what came out.

    Attributes:
        job_id: Hash of all that determines the result; equal for two runs of the same job.
        status: "running" (also of a process that was killed), "finished", "interrupted" (by a signal), "failed" or
            "diverged" (a loss or gradient was not finite).
        config: The resolved configuration.
        task: Name of the task.
        metric: Name of the headline metric.
        score: Headline metric of the last epoch on the first dev split, as a fraction; None where there is none.
        best_score: The best of all epochs. Choosing by it is choosing on the dev set.
        metrics: Every metric and the loss, per dev split, of the last epoch.
        parameters: adapter, head, other_trainable, frozen, total, trainable_percent.
        seconds: total, fit, start_up. Of a run that was resumed, total and fit include what its earlier processes
            trained, each up to the checkpoint from which the next one went on; start_up is that of the last one.
        examples_per_second: Training rows that went through in a second of ``seconds.fit``.
        peak_memory_bytes: While it trained and was scored: of the accelerator where there is one, else of the process.
        device: What it ran on.
        precision: What it trains in, known before the first step: as Lightning names it, or "bf16-frozen", the frozen
            base in bf16 while training lasts.
        versions: Of Python and the libraries that matter.
        base: name, revision, fingerprint of the base model; warm_start: run, task, fingerprint of the adapter that the
            run's own started from, job_id and settings of the run that trained it (`WarmStart`), or None.
        data: name, fingerprint, rows (per split); drawn_from, the fingerprint before data.train_rows drew a subset,
            which is the same for all seeds; examples, a fingerprint of the texts and labels of each dev split.
        merge_check: What merging changed: max_logit_difference, changed_predictions, rows; None without a merge.
        error: One line, where the run did not finish.
    """

    job_id: str
    status: str
    config: dict[str, Any]
    task: str
    metric: str
    score: float | None = None
    best_score: float | None = None
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    parameters: dict[str, int | float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    examples_per_second: float | None = None
    peak_memory_bytes: int | None = None
    device: str = ""
    precision: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    merge_check: dict[str, Any] | None = None
    error: str | None = None
    schema_version: int = SCHEMA_VERSION


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write ``folder/result.json`` atomically and return its path. Numbers that are not finite become null.

    Raises:
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    path = folder / RECORD
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(finite(asdict(record)), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_record(path: Path) -> RunRecord:
    """Read a record from its file or from its run's folder.

    Raises:
        ValueError: it is not a record, or of a schema this version does not know.
    """
    path = path / RECORD if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path.parent}: no run's folder, it holds no {RECORD}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a run's record: {error}") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path} has schema_version {version!r}; this version reads {SCHEMA_VERSION}")
    names = {f.name for f in fields(RunRecord)}
    if difference := names.symmetric_difference(values):
        raise ValueError(f"{path} does not hold a record's fields: {', '.join(sorted(difference))}")
    return RunRecord(**values)


def require(record: RunRecord, keys: Iterable[str], path: Path) -> None:
    """See that a record has what is read of it.

    Args:
        record: As it was read.
        keys: Of its fields, with what is in them: ``config.lora.method``.
        path: Where it was read from, for the message.

    Raises:
        ValueError: it lacks one.
    """
    for key in keys:
        found: Any = vars(record)
        for part in key.split("."):
            if not isinstance(found, dict) or part not in found:
                raise ValueError(f"{path} has no {key}, which every run writes")
            found = found[part]


def finite(value: Any) -> Any:
    """A value for JSON, which has no NaN: None in place of every number in it that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
