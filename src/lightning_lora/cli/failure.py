"""How a command ends when it cannot go on: one line and status 2 for a mistake of the user's."""

import dis
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

_PACKAGE = Path(__file__).resolve().parents[1]
MISTAKE = 2


def refuse(error: Exception) -> NoReturn:
    """Print the error as one line and leave with status 2."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(MISTAKE)


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
