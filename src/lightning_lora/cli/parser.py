"""The argument parser of the commands that are not Hydra's."""

import argparse
from typing import NoReturn

from lightning_lora.cli import failure
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

    def error(self, message: str) -> NoReturn:
        failure.refuse(ConfigError(f"{message}; see {self.prog} --help"))


def positive_whole(text: str) -> int:
    """An argument's value as a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1")
    return int(text)
