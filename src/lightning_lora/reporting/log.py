"""What a run's ``metrics.jsonl`` says, row by row."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_lora.run_folder import LOG

SPECTRA = "spectra"
"""Key of the rows that hold the adapters' singular values, a table with an entry for each layer and role."""


def log_rows(folder: Path, key: str, *, last_first: bool = False) -> Iterator[dict[str, Any]]:
    """The rows of a run's log that have a key; none without a log. A row that cannot be read is left out.

    Only lines that name the key are parsed, and each when it is asked for.

    Args:
        folder: The run's.
        key: What a row must have.
        last_first: Whether to begin at the end.
    """
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in reversed(lines) if last_first else lines:
        if f'"{key}"' in line:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and key in row:
                yield row
