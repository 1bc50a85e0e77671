"""Per-example predictions as parquet: what paired tests between two runs are made of.

Columns: ``idx`` (int64, the row's number in its split), ``label`` (int64, or float32 for regression), ``logits`` (list
of float32). Rows are in the order of ``idx``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lightning_lora.atomic import atomic_file
from lightning_lora.run_folder import PREDICTIONS


@dataclass(frozen=True)
class PredictionTable:
    """The predictions on one split.

    Attributes:
        idx: (rows,) int64.
        labels: (rows,) int64 or float32.
        logits: (rows, outputs) float32.
    """

    idx: NDArray[np.int64]
    labels: NDArray[np.int64] | NDArray[np.float32]
    logits: NDArray[np.float32]


def prediction_files(splits: Sequence[str]) -> dict[str, str]:
    """File name of each dev split: ``predictions.parquet`` where there is one, else with the split's name in it."""
    if len(splits) == 1:
        return {splits[0]: f"{PREDICTIONS}.parquet"}
    return {split: f"{PREDICTIONS}_{split}.parquet" for split in splits}


def write_predictions(tables: Mapping[str, PredictionTable], folder: Path) -> list[Path]:
    """Write one file per split, each atomically; returns their paths.

    Raises:
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    written = []
    for split, name in prediction_files(list(tables)).items():
        predicted = tables[split]
        logits = pa.array(predicted.logits.astype(np.float32).tolist(), type=pa.list_(pa.float32()))
        table = pa.table({"idx": predicted.idx, "label": predicted.labels, "logits": logits})
        with atomic_file(folder / name) as temporary:
            pq.write_table(table, temporary)
        written.append(folder / name)
    return written


def read_predictions(path: Path) -> PredictionTable:
    """Read one file of `write_predictions`.

    Raises:
        ValueError: the file is not there, cut short, or has other columns.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} holds no predictions: {error}") from error
    if table.column_names != ["idx", "label", "logits"]:
        raise ValueError(f"{path} has columns {table.column_names}, not idx, label and logits")
    logits = np.array(table["logits"].to_pylist(), dtype=np.float32)
    return PredictionTable(table["idx"].to_numpy().copy(), table["label"].to_numpy().copy(), logits)
