"""What stops a run on purpose."""

import signal

REMEDY = "try a smaller lr or more warm-up"


class NonFiniteError(RuntimeError):
    """A loss, a gradient or a dev logit was NaN or infinite; the checkpoints are of steps that were good."""


class Interrupted(SystemExit):
    """A signal stopped the run, which can go on from its last step.

    Where nothing catches it, the process ends with the status that a shell gives to one that the signal ended, 143 for
    SIGTERM and 130 for SIGINT, and so does a sweep.
    """

    def __init__(self, number: int) -> None:
        """Keep which signal it was."""
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"
