"""What a benchmark writes down: its rows with command, settings, versions, and the machine and code that made them."""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml

import lightning_lora
from lightning_lora.atomic import atomic_file
from lightning_lora.config import RunConfig
from lightning_lora.training.precision import native_bf16

BENCHMARKS = Path(__file__).resolve().parent
CPU = torch.device("cpu")


class MixedRecordsError(ValueError):
    """A record's rows are of other settings, another machine or other code than those that would join them."""


def provenance(device: torch.device = CPU) -> dict[str, Any]:
    """What a row depends on besides its settings: processor, native bf16, torch and code.

    ``sources`` is a digest of the package and of these scripts as they lie there, committed or not; ``commit``, None
    without git, says where to find them.
    """
    return {
        "processor": _processor(device),
        "native_bf16": native_bf16(device),
        "torch": torch.__version__,
        "sources": _sources(),
        "commit": _commit(),
    }


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "model name" in told:  # virtual machines often leave the number of the model out of its name
            return f"{told['model name']} (family {told.get('cpu family')}, model {told.get('model')})"
    return platform.processor() or platform.machine()


def _sources() -> str:
    digest = hashlib.sha256()
    package = Path(str(lightning_lora.__file__)).parent
    for folder, pattern in ((package, "**/*.py"), (BENCHMARKS, "*.py")):
        for file in sorted(folder.glob(pattern)):
            digest.update(f"{file.relative_to(folder)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _commit() -> str | None:
    command = ["git", "-C", str(BENCHMARKS), "rev-parse", "HEAD"]
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None


def max_length_of(task: str) -> int:
    """Where training cuts a text of the task, in tokens: as `data=TASK` has it."""
    settings = yaml.safe_load((BENCHMARKS.parent / "conf" / "data" / f"{task}.yaml").read_text())
    return int(settings["max_length"])


def content_of(folder: Path) -> str | None:
    """A digest of a folder's files, their names and what is in them; None where there is no such folder."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(folder)}\n".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def record_of(
    options: argparse.Namespace,
    task: str,
    rows: list[dict[str, Any]],
    *,
    settings: Sequence[str],
    versions: Sequence[str],
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """A task's rows with what is needed to repeat them.

    Args:
        options: Of the command line; ``model`` and ``data`` may be folders, and are then told by their content, too.
        task: Whose rows, of the folder of its name in ``data``.
        rows: Of this task, and perhaps of others.
        settings: Names of the options that all rows of a record share.
        versions: Names of the packages.
        more: Names of the options that belong to the command and not to the settings, such as the number of rounds.
    """
    model = Path(options.model)
    given = {name: getattr(options, name) for name in settings}
    told = given | {name: getattr(options, name) for name in more}
    words = [_as_option(name, value) for name, value in told.items() if value is not None and value is not False]
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    content = {"model_content": content_of(model), "data_content": content_of(Path(options.data) / task)}
    return {
        "command": " ".join(["python", script, "--model MODEL --data GLUE --tasks", task, *words]),
        "settings": {"lora": "qv", "rank": RunConfig().rank, "max_length": max_length_of(task), **content} | given,
        "model": model.parent.name if model.name == "model" else model.name,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {"python": sys.version.split()[0]} | {name: importlib.metadata.version(name) for name in versions},
        "rows": [row for row in rows if row["task"] == task],
    }


def _as_option(name: str, value: Any) -> str:
    """As it stands on the command line: a flag alone, a list word by word."""
    words = [] if value is True else value if isinstance(value, list) else [value]
    return " ".join([f"--{name.replace('_', '-')}", *(shlex.quote(str(word)) for word in words)])


def write_record(file: Path, record: dict[str, Any]) -> None:
    """Write it whole or not at all."""
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def earlier_rows(file: Path, now: dict[str, Any], made_by: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier call, to go on with.

    Args:
        file: Of the record; it need not be there.
        now: The record as it is about to be written.
        made_by: The `provenance` of the rows that would join.

    Raises:
        MixedRecordsError: the rows there are of other settings, another model, machine, version or other code.
    """
    if not file.is_file():
        return []
    earlier = json.loads(file.read_text())
    rows: list[dict[str, Any]] = earlier["rows"]
    pairs = [(_shared(earlier), _shared(now)), *((row.get("provenance", {}), made_by) for row in rows)]
    for there, here in pairs:
        for name in here:
            if name != "commit" and there.get(name) != here[name]:
                found = there.get(name, "not recorded")
                raise MixedRecordsError(
                    f"{file} holds rows with another {name} ({found}; now it is {here[name]}), and a record is of one: "
                    "give another folder with --out"
                )
    return rows


def _shared(record: dict[str, Any]) -> dict[str, Any]:
    return {"model": record["model"], "machine": record["machine"], **record["settings"], **record["versions"]}
