"""A signal ends training after a whole step, with the status that a shell gives it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from tiny_task import TinyData, tiny_module, tiny_trainer

from lightning_lora.training import Interrupted, StopOnSignal
from lightning_lora.training.callbacks import AdapterCheckpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


class Kill(Callback):
    """Sends a signal to this process in a hook, once or several times."""

    def __init__(self, hook: str, number: int, at: int = 0, times: int = 1) -> None:
        self.calls = 0
        setattr(self, hook, self.send)
        self.number, self.at, self.times = number, at, times

    def send(self, *_: Any) -> None:
        self.calls += 1
        if self.calls == self.at + 1:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


def stopped(folder: Path, kill: Kill, *, accumulate: int = 1) -> tuple[Interrupted, int]:
    """The exception, and the step of the checkpoint."""
    stop = StopOnSignal()
    checkpoint = AdapterCheckpoint(folder / "checkpoints")
    trainer = tiny_trainer(
        folder,
        max_epochs=2,
        enable_checkpointing=True,
        callbacks=[stop, kill, checkpoint],
        accumulate_grad_batches=accumulate,
    )
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Interrupted) as caught, stop:
        trainer.fit(tiny_module(epochs=2), datamodule=TinyData())
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return caught.value, saved["global_step"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_within_a_step_it_waits_for_its_end(number: int, status: int, tmp_path: Path) -> None:
    error, step = stopped(tmp_path, Kill("on_before_backward", number, at=5))
    assert (error.code, step) == (status, 6)
    assert str(error) == f"stopped by {signal.Signals(number).name}"


def test_a_sigterm_that_comes_twice_at_once_is_one(tmp_path: Path) -> None:
    """A sweep passes on to its job what both have received. Of a later one test_resume.py has a test."""
    error, step = stopped(tmp_path, Kill("on_before_backward", signal.SIGTERM, at=5, times=2))
    assert (error.code, step) == (143, 6)


def test_between_accumulated_batches_it_waits_for_the_step(tmp_path: Path) -> None:
    _, step = stopped(tmp_path, Kill("on_train_batch_end", signal.SIGTERM, at=4), accumulate=2)
    assert step == 3, "batches 0 to 3 made two steps, 4 and 5 the third"


def test_in_a_dev_pass_it_stops_at_once(tmp_path: Path) -> None:
    kill = Kill("on_validation_batch_start", signal.SIGTERM)
    _, step = stopped(tmp_path, kill)
    assert (step, kill.calls) == (4, 1)


@pytest.fixture
def managed() -> Iterator[list[int]]:
    """A job manager, as submitit is one: SIGTERM is passed by, SIGUSR2 answered; the signals that reach it."""
    reached: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGUSR2)
    before = [signal.signal(number, lambda received, _: reached.append(received)) for number in numbers]
    yield reached
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_under_a_job_manager_usr2_stops_the_run(managed: list[int], tmp_path: Path) -> None:
    error, step = stopped(tmp_path, Kill("on_before_backward", signal.SIGUSR2, at=5))
    assert (error.number, error.code, step) == (signal.SIGUSR2, 140, 6)
    assert not managed, "nothing has been requeued yet: the record is still to be written"


def test_under_a_job_manager_term_is_the_managers(managed: list[int], tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_epochs=2, callbacks=[stop := StopOnSignal(), Kill("on_before_backward", 15)])
    with stop:
        trainer.fit(tiny_module(epochs=2), datamodule=TinyData())
    assert managed == [signal.SIGTERM]
    assert trainer.global_step == 8, "to the end: Lightning alone would have stopped after the step"


def test_outside_of_training_it_does_not_wait() -> None:
    waited = False

    def interrupted() -> None:
        nonlocal waited
        with StopOnSignal():
            os.kill(os.getpid(), signal.SIGTERM)
            waited = True

    with pytest.raises(Interrupted):
        interrupted()
    assert not waited


def test_stock_ends_without_a_checkpoint(tmp_path: Path) -> None:
    """The control: Ctrl-C gives status 1, and nothing is saved."""
    # Python's own answer, which a process started in the background does not have: shells let those ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    trainer = tiny_trainer(
        tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[Kill("on_before_backward", signal.SIGINT)]
    )
    with pytest.raises(SystemExit) as caught:
        trainer.fit(tiny_module(epochs=2), datamodule=TinyData())
    signal.signal(signal.SIGINT, before)
    assert caught.value.code == 1
    assert not list(tmp_path.rglob("*.ckpt"))
