"""The folder of a run: what lies in it under which name, and which run's a path is of. Standard library only."""

import shutil
from pathlib import Path

RECORD = "result.json"
ADAPTER = "adapter"
MERGED = "merged"
CHECKPOINTS = "checkpoints"
LAST_CHECKPOINT = "last.ckpt"
LOG = "metrics.jsonl"
PREDICTIONS = "predictions"


def run_of(path: Path) -> tuple[Path, str]:
    """The run that is meant, and which model of it.

    Args:
        path: A run's folder, or `ADAPTER`, `MERGED` or ``merged-bf16`` and the like in it; also relative, and "." in
            one of them.

    Returns:
        The run's folder and the part's name, "" where none is said. A folder with a record is a run's, whatever it is
        called.
    """
    given = path.absolute()
    is_part = given.name in (ADAPTER, MERGED) or given.name.startswith(f"{MERGED}-")
    if is_part and not (path / RECORD).is_file():
        return given.parent, given.name
    return path, ""


def _results(folder: Path) -> list[Path]:
    """What a run leaves beside its record."""
    names = (CHECKPOINTS, ADAPTER, MERGED, f"{MERGED}-*", f"{PREDICTIONS}.parquet", f"{PREDICTIONS}_*.parquet", LOG)
    return [path for name in names for path in sorted(folder.glob(name))]


def refuse_other_folder(folder: Path) -> None:
    """Raise ValueError where a folder holds what `clear_results` would remove and is no run's; a run's has a record."""
    if not (folder / RECORD).exists() and (there := _results(folder)):
        raise ValueError(f"{folder}: {there[0].name} is there already, of no run; choose a folder without it")


def clear_results(folder: Path) -> None:
    """Remove what another run has left, so that no model stands beside a record that is not its own."""
    for result in _results(folder):
        if result.is_dir() and not result.is_symlink():
            shutil.rmtree(result, ignore_errors=True)
        else:
            result.unlink(missing_ok=True)
