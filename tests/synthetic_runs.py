"""Folders of runs that never ran: records, predictions and logs as a run writes them, from scores of one's choice."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_lora.config import RunConfig
from lightning_lora.reporting import Comparison, PredictionTable, RunRecord, write_predictions, write_record
from lightning_lora.reporting.collecting import collect
from lightning_lora.reporting.comparing import compare
from lightning_lora.reporting.comparison import TaskComparison
from lightning_lora.sweeping import determines_result
from lightning_lora.targets import ROLE_SETS

ROWS = 200


def configuration(lora: str = "qv", **changed: Any) -> dict[str, Any]:
    """The plain values of a configuration; a section's keys with two underscores: ``optim__schedule="cosine"``."""
    config = asdict(RunConfig())
    adapted = lora in ROLE_SETS
    config["lora"]["method"] = "lora" if adapted else lora
    config["lora"]["roles"] = sorted(role.value for role in ROLE_SETS[lora]) if adapted else []
    for name, value in changed.items():
        section, _, key = name.rpartition("__")
        (config[section] if section else config)[key] = value
    return config


def compared(*folders: Path, **choices: Any) -> Comparison:
    """The comparison of the runs below the folders, as `lightning-lora report` makes it."""
    found = collect(folders)
    return compare(found.records, determines_result=determines_result, unreadable=found.unreadable, **choices)


def the_task(*folders: Path, **choices: Any) -> TaskComparison:
    """Its only task."""
    (task,) = compared(*folders, **choices).tasks
    return task


def labels_of(rows: int = ROWS) -> NDArray[np.int64]:
    """Two classes in turn."""
    return np.arange(rows) % 2


def write_run(
    folder: Path,
    right: NDArray[np.bool_],
    *,
    config: dict[str, Any],
    job: str | None = None,
    best: float | None = None,
    **fields: Any,
) -> RunRecord:
    """Write the folder of a finished run on two classes, scored by accuracy.

    Args:
        folder: Is made.
        right: (rows,), which examples it got right.
        config: Its configuration.
        job: Its job_id; None for the folder's path.
        best: Score of the best epoch; None for that of the last.
        fields: Of the record, in place of what a finished run has.
    """
    labels = labels_of(len(right))
    predicted = np.where(right, labels, 1 - labels)
    logits = np.stack([1.0 - predicted, predicted], axis=1).astype(np.float32)
    score = float(right.mean())
    folder.mkdir(parents=True)
    write_predictions({"validation": PredictionTable(np.arange(len(right)), labels, logits)}, folder)
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in _log(score)) + "\n")
    known: dict[str, Any] = {
        "job_id": job or str(folder),
        "status": "finished",
        "task": "toy_sentiment",
        "metric": "accuracy",
        "score": score,
        "best_score": score if best is None else best,
        "metrics": {"validation": {"accuracy": score, "loss": 0.5}},
        "parameters": {"adapter": 64, "head": 34, "frozen": 902, "total": 1000, "trainable_percent": 9.8},
        "seconds": {"total": 12.0, "fit": 10.0, "start_up": 1.0},
        "peak_memory_bytes": 2**30,
        "precision": "32-true",
        "versions": {"lightning-lora": "0.1.0"},
        "base": {"name": "tiny", "revision": None, "fingerprint": "ba5e"},
        "data": {"name": "toy_sentiment", "fingerprint": "da7a", "rows": {"train": 800, "validation": len(right)}},
    }
    record = RunRecord(config=config, **(known | fields))
    write_record(record, folder)
    return record


def write_sweep(
    folder: Path, accuracies: dict[str, float], *, seeds: int = 3, rows: int = ROWS, **changed: Any
) -> None:
    """A run for each choice of layers and each seed, every example right with the choice's chance."""
    generator = np.random.default_rng(0)
    for lora, accuracy in accuracies.items():
        for seed in range(seeds):
            right = generator.random(rows) < accuracy
            write_run(folder / f"{lora}-{seed}", right, config=configuration(lora, seed=seed, **changed))


def _log(score: float) -> list[dict[str, Any]]:
    return [
        {"hyperparameters": {"rank": 8}},
        {"step": 9, "epoch": 0, "train/loss": 0.7, "lr": 1e-3},
        {"step": 24, "epoch": 0, "validation/accuracy": score / 2, "dev/score": score / 2},
        {"step": 49, "epoch": 1, "validation/accuracy": score, "dev/score": score},
    ]
