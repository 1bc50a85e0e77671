"""`lightning-lora list`: the runs below a folder, a line each."""

from collections.abc import Sequence
from pathlib import Path

from lightning_lora.cli import failure
from lightning_lora.cli.parser import CommandParser, refuse_missing, refuse_without_runs

_HELP = """\
List the runs below a folder, in order of their names (so of dates, newest last): task, method, rank, seed, score,
trainable parameters, status. Records that cannot be read stand under them.

  lightning-lora list runs
  lightning-lora list multirun/rank_alpha"""


def main(words: Sequence[str]) -> None:
    """List.

    Args:
        words: What stands after the command's name.

    Raises:
        SystemExit: status 2 where there is no such folder, or no run in it.
    """
    parser = CommandParser("list", _HELP)
    parser.add_argument("folder", type=Path, help="a folder with runs somewhere below it")
    options = parser.parse_args(words)
    with failure.one_line_for_mistakes():
        _list(options.folder)


def _list(folder: Path) -> None:
    from lightning_lora.reporting import print_runs

    refuse_missing([folder])
    refuse_without_runs([folder], print_runs(folder))
