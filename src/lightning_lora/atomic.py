"""Writes that either happen whole or not at all, also when the process is killed or the disk is full.

The temporary file lies in the target's own folder: a rename across file systems is a copy, and a copy can be cut short.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes ``target``, on an error it is removed.

    The file is flushed to the disk before the rename, so that a power cut leaves the old file or the new one.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; ``target`` is as it was.
    """
    temporary = _beside(target)
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
        _flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it becomes ``target``, replacing what was there.

    Raises:
        OSError: as `atomic_file`.
    """
    temporary = _beside(target)
    temporary.mkdir()
    try:
        yield temporary
        readable = temporary.stat().st_mode & 0o666
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(readable)  # libraries that write through temporary files leave them to their owner alone
            _flush(path)
        old = _beside(target)
        if target.exists():
            target.rename(old)  # whole, until the new one is in its place
        temporary.rename(target)
        _flush(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what processes that were killed in the midst of a write have left in a folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    for leftover in folder.glob(".*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _beside(target: Path) -> Path:
    """A fresh name in the target's folder. Not from tempfile, whose files nobody but their owner may read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
