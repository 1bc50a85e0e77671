"""What other processes and threads do: waiting for it, with an end, and which of them there are."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Found = TypeVar("Found")
MINUTES = 5
"""Far longer than what is waited for takes on the slowest machine: whoever waits so long waits for nothing."""


def until(look: Callable[[], Found], what: str, pause: float = 0.01) -> Found:
    """Look until there is something, and give it; after `MINUTES` the test fails."""
    last = time.monotonic() + 60 * MINUTES
    while not (found := look()):
        if time.monotonic() > last:
            pytest.fail(f"waited {MINUTES} minutes for {what}")
        time.sleep(pause)
    return found


def descendants_of(process: int) -> list[int]:
    """The processes that it has started, and they, and so on."""
    children = [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return children + [further for child in children for further in descendants_of(child)]


def is_alive(process: int) -> bool:
    """Whether it has not ended; one that has is there until its parent, or who stands in for it, has asked."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")
