"""Writes that either happen whole or not at all, also when the process is killed or the disk is full.

The temporary file lies in the target's own folder: a rename across file systems is a copy, and a copy can be cut short.
"""

import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Endings of hidden names: what is being written, and what it is about to replace.
_UNFINISHED, _REPLACED = "tmp", "old"
# Between the name and the ending stand so many random bytes, in two digits each; in nobody else's file do they.
_RANDOM_BYTES = 6
_TOKEN = "[0-9a-f]" * 2 * _RANDOM_BYTES
# Of what nobody has written to for so long, the writer is taken for dead, on whatever machine it was.
_ABANDONED_SECONDS = 24 * 3600

ADVICE = {
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.ENOSPC: "free some space, or choose a folder on another disk",
    errno.EDQUOT: "free some space, or choose a folder on another disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "a part of the path is a file",
    errno.EISDIR: "there is a folder of this name",
    errno.ENOTEMPTY: "there is a folder of this name",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class CannotWriteError(OSError):
    """The file system refused a write; the message says which, why, and what to do.

    Attributes:
        reason: The reason alone, as the operating system words it.
    """

    def __init__(self, target: Path, number: int) -> None:
        """Words it.

        Args:
            target: What was to be written.
            number: The operating system's number of the reason, a key of ``ADVICE``.
        """
        self.reason = os.strerror(number)
        super().__init__(f"cannot write {target}: {self.reason}; {ADVICE[number]}")


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes ``target``, on an error it is removed.

    The file is flushed to the disk before the rename, so that a power cut leaves the old file or the new one. A link
    stays one: what it leads to is replaced. What `takes_bytes` names is given the bytes instead.

    Raises:
        CannotWriteError: the folder cannot be written to, or the disk is full; ``target`` is as it was.
    """
    with explained(target):
        if target.is_dir():  # "." and "/" have no name to put the temporary file beside
            raise CannotWriteError(target, errno.EISDIR)
        with _passed_on(target) if takes_bytes(target) else _replacing(Path(os.path.realpath(target))) as temporary:
            yield temporary


def takes_bytes(target: Path) -> bool:
    """Whether it is no file to be replaced: a pipe, a device, or an open file (/dev/stdout, also below `>> file`)."""
    return target.exists() and (not target.is_file() or _open_file(target) is not None)


def _open_file(target: Path) -> int | None:
    """The number of the open file of this process for which a path stands, directly or by links."""
    own = os.path.realpath("/proc/self/fd")
    while target.is_symlink():
        if os.path.realpath(target.parent) == own:
            return int(target.name)
        target = target.parent / os.readlink(target)
    return None


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
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
def _passed_on(target: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, "whole")
        temporary.touch()
        yield temporary
        number = _open_file(target)
        descriptor = os.open(target, os.O_WRONLY) if number is None else os.dup(number)  # which keeps the place in it
        with temporary.open("rb") as source, open(descriptor, "wb") as sink:
            shutil.copyfileobj(source, sink)


def second_name(file: Path, name: Path) -> None:
    """Keep under ``name`` what ``file`` holds now, whatever is put in its place. Where files can be linked it is free.

    Raises:
        CannotWriteError: as `atomic_file`.
    """
    with explained(name):
        try:
            os.link(file, name)
        except OSError:  # no such file system, or the name is taken
            with atomic_file(name) as temporary:
                shutil.copyfile(file, temporary)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it becomes ``target``, replacing what was there.

    No system call swaps two folders everywhere, so for an instant the old one is hidden and the new one is
    not in its place yet; whoever is killed in it gets the old one back by `clear_leftovers`.

    Raises:
        CannotWriteError: as `atomic_file`.
    """
    with explained(target):
        temporary = _beside(target)
        temporary.mkdir()
        try:
            yield temporary
            readable = temporary.stat().st_mode & 0o666
            for path in temporary.rglob("*"):
                if path.is_file():
                    path.chmod(readable)  # libraries that write through temporary files leave them to their owner alone
                _flush(path)
            _flush(temporary)
            old = _beside(target, _REPLACED)
            if target.exists():
                target.rename(old)  # whole, until the new one is in its place
            try:
                temporary.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
            _flush(target.parent)
            _remove(old)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(target: Path) -> None:
    """Raise ValueError where there is something already: a folder that a user names for a model is never replaced."""
    if target.exists():
        raise ValueError(f"{target} is there already; choose a folder that is not")


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Within the block, a write that the file system refuses is an error that says what to do.

    Raises:
        CannotWriteError: it did refuse, in this process's own calls, or in those of torch or safetensors.
    """
    try:
        yield
    except CannotWriteError:
        raise
    except Exception as error:
        number = _refusal(error)
        if number is None:
            raise
        raise CannotWriteError(target, number) from error


def _refusal(error: BaseException) -> int | None:
    """The file system's reason behind an error. torch raises another one on top; Rust gives it as text.

    A ValueError is a room's own, about what it was given, whatever it was made from.
    """
    link = None if isinstance(error, ValueError) else error
    while link is not None:
        told = re.search(r"\(os error (\d+)\)", str(link))
        number = link.errno if isinstance(link, OSError) else int(told[1]) if told else None
        if number in ADVICE:
            return number
        link = link.__cause__ or link.__context__
    return None


def clear_leftovers(folder: Path) -> None:
    """Undo what processes that were killed in the midst of a write have left in a folder that is this one's alone.

    Raises:
        CannotWriteError: the folder cannot be written to.
    """
    with explained(folder):
        for leftover in folder.glob(f".*.{_TOKEN}.{_UNFINISHED}"):
            _remove(leftover)
        for replaced in folder.glob(f".*.{_TOKEN}.{_REPLACED}"):
            target = folder / replaced.name[1:].rsplit(".", 2)[0]
            if target.exists():
                _remove(replaced)
            else:
                replaced.rename(target)


def clear_abandoned(folder: Path) -> None:
    """Remove what killed processes have left in a folder that others write to at the same time, after a day.

    What cannot be removed stays: it may be another user's, or gone by now.
    """
    for leftover in folder.glob(f".*.{_TOKEN}.{_UNFINISHED}"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS:
                _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _beside(target: Path, ending: str = _UNFINISHED) -> Path:
    """A fresh name in the target's folder. Not from tempfile, whose files nobody but their owner may read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{secrets.token_hex(_RANDOM_BYTES)}.{ending}")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
