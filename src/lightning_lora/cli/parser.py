"""The argument parser of the commands that are not Hydra's."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lightning_lora.cli import failure
from lightning_lora.run_folder import RECORD
from lightning_lora.settings import ConfigError


class CommandParser(argparse.ArgumentParser):
    """argparse, whose mistakes end in one line as everywhere else."""

    def __init__(self, command: str, text: str) -> None:
        """A parser without arguments yet.

        Args:
            command: What stands behind ``lightning-lora``.
            text: What the command does, with examples; shown as it is.
        """
        super().__init__(
            prog=f"lightning-lora {command}",
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_model(self) -> None:
        """The argument ``run``, for what `restore` reads."""
        self.add_argument("run", type=Path, help="a run's folder, or adapter/ or merged/ in it")

    def add_batch_size(self) -> None:
        """The option ``--batch-size``."""
        self.add_argument("--batch-size", type=_positive_whole, default=64, help="rows per batch (64)")

    def error(self, message: str) -> NoReturn:
        failure.refuse(ConfigError(f"{message}; see {self.prog} --help"))


def refuse_missing(folders: Sequence[Path]) -> None:
    """Refuse folders in which runs are to be looked for, and that are not there.

    Raises:
        ConfigError: one of them is no folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder")


def refuse_without_runs(folders: Sequence[Path], found: int) -> None:
    """Refuse folders in which runs were looked for.

    Raises:
        ConfigError: none was found.
    """
    if not found:
        named = ", ".join(map(str, folders))
        raise ConfigError(f"{named}: no run in it or below it; a run's folder holds a {RECORD}")


def _positive_whole(text: str) -> int:
    """An argument's value as a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1")
    return int(text)
