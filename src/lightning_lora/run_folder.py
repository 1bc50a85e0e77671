"""The folder of a run: what lies in it under which name, and which run's a path is of. Standard library only."""

from pathlib import Path

RECORD = "result.json"
ADAPTER = "adapter"
MERGED = "merged"
CHECKPOINTS = "checkpoints"
LAST_CHECKPOINT = "last.ckpt"


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
