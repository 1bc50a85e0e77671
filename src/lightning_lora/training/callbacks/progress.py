"""The progress bar, for somebody who watches."""

import sys

from lightning.pytorch.callbacks import RichProgressBar


class TerminalProgress(RichProgressBar):
    """Rich's progress bar on a terminal; nothing where output goes to a file or a pipe."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10 if sys.stdout.isatty() else 0)
