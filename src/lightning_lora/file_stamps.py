"""Whether a file is still the one that was read, without reading it again."""

from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[str, int, int, int]


def stamps(files: Iterable[Path]) -> tuple[Stamp, ...]:
    """Place, number, size in bytes and time of change in ns of each file: what git goes by for the same question.

    Raises:
        OSError: a file is not there, or may not be looked at.
    """
    found = [(file.resolve(), file.stat()) for file in files]
    return tuple((str(place), status.st_ino, status.st_size, status.st_mtime_ns) for place, status in found)
