"""SIGTERM and Ctrl-C, or a job manager's SIGUSR2, end a run after the step that is being taken."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lightning_lora.training.exceptions import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
_SAME_REQUEST = 2.0
"""Seconds in which a further SIGTERM asks for nothing new: who stops a machine or a service sends it to every process,
and a sweep passes on to its jobs what it has received.
"""


class StopOnSignal(Callback):
    """Within a ``with`` block, answers SIGTERM and SIGINT by raising `Interrupted`; a second one ends the process.

    Where SIGUSR2 has a handler, the process is a job manager's, such as submitit's: it is then SIGUSR2 that stops the
    run, for that handler to requeue the job once the run has ended, and SIGTERM is left to the manager. submitit passes
    it by: Slurm sends it when it preempts a job, some time before the SIGUSR2.

    While the trainer trains, it waits for the end of the optimizer step, or of the dev batch; with several processes
    all of them stop at the same step, whichever got the signal. Lightning alone would end with status 0 or 1, and save
    in the midst of a step.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._received_at = 0.0
        self._training = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopOnSignal":
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self._install()
        return self

    def __exit__(self, *_: object) -> None:
        if _in_main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._before = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on wait for a step's end. Lightning has put its own handler before ours; put ours back."""
        self._training = True
        if self._before:
            self._install()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop where a step has just been taken.

        Raises:
            Interrupted: a signal was received, here or in another process.
        """
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._stop_if_asked(trainer)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop before a dev batch.

        Raises:
            Interrupted: as `on_train_batch_end`.
        """
        self._stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = False
        self._stop_if_asked(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._training = False

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self._received is not None, all=False):
            raise Interrupted(self._received or signal.SIGTERM)

    def _install(self) -> None:
        if _in_main_thread():
            managed = callable(self._before[signal.SIGUSR2])
            for number, before in self._before.items():
                ours = number == signal.SIGINT or managed == (number == signal.SIGUSR2)
                signal.signal(number, self._answer if ours else before)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            same = number == self._received == signal.SIGTERM
            if same and time.monotonic() - self._received_at < _SAME_REQUEST:
                return
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received, self._received_at = number, time.monotonic()
        if not self._training:
            raise Interrupted(number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
