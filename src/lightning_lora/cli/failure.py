"""How a command ends when it cannot go on: one line and status 2 for a mistake of the user's."""

import dis
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TextIO

_PACKAGE = Path(__file__).resolve().parents[1]
MISTAKE, UNREAD = 2, 128 + signal.SIGPIPE


def refuse(error: Exception) -> NoReturn:
    """Print the error as one line and leave with status 2."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(MISTAKE)


@contextmanager
def quiet_without_reader() -> Iterator[None]:
    """Within the block, output that nobody reads any more (`| head`) ends the command quietly, as SIGPIPE ends others.

    A pipe to another process may break as well (a worker's, W&B's); that keeps its traceback.

    Raises:
        SystemExit: status 141, which is what a shell shows of SIGPIPE.
        BrokenPipeError: another one broke.
    """
    try:
        try:
            yield
        finally:
            print(end="", flush=True)  # here, for at the interpreter's end nothing can be caught
    except BrokenPipeError:
        if not _has_lost_its_reader(sys.stdout):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is still to be flushed
        raise SystemExit(UNREAD) from None
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich ends with 1
            raise SystemExit(UNREAD) from None
        raise


def _has_lost_its_reader(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def one_line_for_mistakes() -> Iterator[None]:
    """Within the block, a mistake of the user's ends the command in one line; any other error keeps its traceback."""
    try:
        yield
    except Exception as error:
        if is_users_mistake(error):
            refuse(error)
        raise


def is_users_mistake(error: BaseException) -> bool:
    """Whether a ``raise`` statement of this package made the error, about what it was given.

    The rooms check what they are given and raise ValueError or OSError with a message meant to be read. The same
    types out of a library's depths are a fault of ours, and keep their traceback.
    """
    traceback = error.__traceback__
    if traceback is None or not isinstance(error, ValueError | OSError):
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    is_ours = Path(code.co_filename).resolve().is_relative_to(_PACKAGE)
    return is_ours and code.co_code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]
