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

from lightning_lora.atomic import ADVICE, CannotWriteError

_PACKAGE = Path(__file__).resolve().parents[1]
MISTAKE, STOPPED, UNREAD = 2, 128 + signal.SIGINT, 128 + signal.SIGPIPE


def refuse(error: Exception) -> NoReturn:
    """Print the error as one line and leave with status 2."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(MISTAKE)


@contextmanager
def answering_for_output() -> Iterator[None]:
    """Within the block, output that cannot be written any more, and Ctrl-C, end the command without a traceback.

    What nobody reads (`| head`) ends it quietly, as SIGPIPE ends others; a full disk below `> file` with the reason.
    A pipe to another process may break as well (a worker's, W&B's), and so may a write elsewhere; that keeps its
    traceback.

    Raises:
        SystemExit: status 141 without a reader, which is what a shell shows of SIGPIPE; 2 where a write was refused;
            130 for Ctrl-C, where nothing within has answered it.
        OSError: it was not the output.
    """
    try:
        try:
            yield
        finally:
            print(end="", flush=True)  # here, for at the interpreter's end nothing can be caught
    except BrokenPipeError:
        if not _has_lost_its_reader(sys.stdout):
            raise
        _drop_output()
        raise SystemExit(UNREAD) from None
    except OSError as error:
        if error.errno not in ADVICE or not _is_refused(sys.stdout):
            raise
        _drop_output()
        refuse(CannotWriteError(Path("standard output"), error.errno))
    except KeyboardInterrupt:
        raise SystemExit(STOPPED) from None
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich ends with 1
            raise SystemExit(UNREAD) from None
        raise


def _has_lost_its_reader(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _is_refused(stream: TextIO) -> bool:
    """Whether the stream takes nothing more: an empty line tells, for what it holds may be lost by now."""
    try:
        os.write(stream.fileno(), b"\n")
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Send what is still to be flushed nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
