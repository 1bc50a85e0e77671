"""The run's own log: a line of JSON per row, with the operating system before training goes on."""

import json
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_lora.atomic import explained
from lightning_lora.reporting import finite


class JsonlLogger(Logger):
    """Appends rows: first ``{"hyperparameters": {...}}``, then ``{"step": 10, "epoch": 0, name: value}`` and so on.

    Every row is one write to a file that is opened and closed for it (some 30 µs), so that no row is lost or cut when
    the process is killed; only a power cut may take the last ones. A value that is not finite is ``null``, since JSON
    has no NaN.
    """

    def __init__(self, path: Path) -> None:
        """Touches nothing until the first row.

        Args:
            path: The file; rows are added to what it holds, so that a resumed run continues it.
        """
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @property
    def size(self) -> int:
        """Bytes written so far, by this process and those before it."""
        return self.path.stat().st_size if self.path.exists() else 0

    @rank_zero_only
    def cut(self, size: int) -> None:
        """Forget every row behind the first ``size`` bytes."""
        if self.size > size:
            os.truncate(self.path, size)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, int | float], step: int | None = None) -> None:
        """Append one row.

        Raises:
            CannotWriteError: the file cannot be written. It is the record, so training does not go on without it.
        """
        epoch = {"epoch": int(metrics["epoch"])} if "epoch" in metrics else {}
        values = {name: finite(float(value)) for name, value in metrics.items() if name != "epoch"}
        self._append({"step": step, **epoch, **values})

    @rank_zero_only
    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]], *, step: int, epoch: int) -> None:
        """Append one row that holds a whole table, of a kind that other loggers have no place for.

        Args:
            name: What stands in front of the table.
            rows: Plain values.
            step: Of the optimizer, as in `log_metrics`.
            epoch: In which it was.

        Raises:
            CannotWriteError: as `log_metrics`.
        """
        self._append({"step": step, "epoch": epoch, name: finite(list(rows))})

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Write the hyper-parameters as the first row; a log that goes on has them.

        Raises:
            CannotWriteError: as `log_metrics`.
        """
        values = vars(params) if isinstance(params, Namespace) else dict(params)
        if values and self.size == 0:
            self._append({"hyperparameters": values})

    def _append(self, row: Mapping[str, Any]) -> None:
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                file.write((json.dumps(row, default=str) + "\n").encode())
