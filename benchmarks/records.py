"""What a benchmark writes down: its rows, with machine, versions and command, a file for each task."""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_lora.atomic import atomic_file
from lightning_lora.config import RunConfig


def record_of(
    options: argparse.Namespace,
    task: str,
    rows: list[dict[str, Any]],
    *,
    settings: Sequence[str],
    versions: Sequence[str],
) -> dict[str, Any]:
    """A task's rows with what is needed to repeat them; ``settings`` are names of options."""
    model = Path(options.model)
    given = {name: getattr(options, name) for name in settings}
    words = [_as_option(name, value) for name, value in given.items() if value is not None and value is not False]
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    return {
        "command": " ".join(["python", script, "--model MODEL --data GLUE --tasks", task, *words]),
        "settings": {"lora": "qv", "rank": RunConfig().rank} | given,
        "model": model.parent.name if model.name == "model" else model.name,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {"python": sys.version.split()[0]} | {name: importlib.metadata.version(name) for name in versions},
        "rows": [row for row in rows if row["task"] == task],
    }


def _as_option(name: str, value: Any) -> str:
    """As it stands on the command line: a flag alone, a list word by word."""
    words = [] if value is True else value if isinstance(value, list) else [value]
    return " ".join([f"--{name.replace('_', '-')}", *map(str, words)])


def write_record(file: Path, record: dict[str, Any]) -> None:
    """Write it whole or not at all."""
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def earlier_rows(file: Path, now: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier call with the settings, model, versions and machine of the record ``now``."""
    if not file.is_file():
        return []
    earlier = json.loads(file.read_text())
    same = all(earlier[key] == now[key] for key in ("settings", "model", "versions", "machine"))
    return list(earlier["rows"]) if same else []
