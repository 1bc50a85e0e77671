"""One process at a time at a folder's work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_lora.atomic import explained


@contextmanager
def held(lock: Path, *, refusal: str = "", waiting: str = "") -> Iterator[None]:
    """Hold a lock while the block lasts; the system gives it free when the process ends, however it ends.

    Where another process holds it, this one refuses or waits.

    Args:
        lock: A file of its own, in the folder that is held; both are made if they are not there.
        refusal: Why it refuses; "" where it waits.
        waiting: What it says on stderr before it waits; "" for nothing.

    Raises:
        ValueError: another process holds the lock; the message is ``refusal``.
        CannotWriteError: the folder cannot be written to.
    """
    from filelock import FileLock, Timeout  # late: Hydra's plugins import this module before every command

    claim = FileLock(lock)
    with explained(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            claim.acquire(blocking=False)
        except Timeout:
            if refusal:
                raise ValueError(refusal) from None
            if waiting:
                print(waiting, file=sys.stderr)
            claim.acquire()
    try:
        yield
    finally:
        claim.release()
