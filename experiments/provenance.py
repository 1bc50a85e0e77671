"""What was run, where, and with what: the beginning of every record."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]


def provenance(command: str) -> dict[str, Any]:
    """Of what is about to be measured; asked for beforehand, since the commit may be another one afterwards."""
    return {
        "command": command,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        "commit": commit(),
    }


def commit() -> str:
    """The tree's, with "-dirty" where it differs from that; "unknown" outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
