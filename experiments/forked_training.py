"""The command line of `train.py` in a forked process, which starts at once: everything is imported beforehand."""

import os
import sys
from pathlib import Path

from lightning_lora import running
from lightning_lora.cli.train import main as train

assert running.run, "imported here, so that no child has to"


def start(words: list[str], log: Path) -> int:
    """Run `train.py` with these words, its output at the end of the log; returns the process's id."""
    if child := os.fork():
        return child
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1), os.dup2(output, 2)
    status = 1
    try:
        sys.argv = ["train.py", *words]
        train(words)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """The exit status of a process; minus the signal, if one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
