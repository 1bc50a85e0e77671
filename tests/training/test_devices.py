"""Devices that are not there are refused in words, before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator
from short_runs import short_configuration
from train_command import to_the_end

from lightning_lora import build
from lightning_lora.config import TrainerConfig
from lightning_lora.training import check_devices


def with_gpus(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts that Lightning asks torch for."""
    for kind in (CUDAAccelerator, MPSAccelerator, XLAAccelerator):
        monkeypatch.setattr(kind, "is_available", lambda kind=kind: kind is CUDAAccelerator and count > 0)
    monkeypatch.setattr(CUDAAccelerator, "auto_device_count", lambda: count)


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices", "said"),
    [
        (0, "gpu", 1, "trainer.accelerator=gpu is not possible here: torch sees no GPU; leave it out or use"),
        (0, "cuda", "auto", "trainer.accelerator=cuda is not possible here: torch sees no CUDA"),
        (1, "tpu", 1, "trainer.accelerator=tpu is not possible here: torch sees no TPU"),
        (0, "auto", [0, 1], r"trainer.devices=\[0,1\] is not possible on a CPU: it must be a number of processes"),
        (1, "cpu", -1, "trainer.devices=-1 is not possible on a CPU"),
        (1, "gpu", 2, "trainer.devices=2 is not possible here: torch sees 1, numbered from 0"),
        (2, "auto", [0, 2], r"trainer.devices=\[0,2\] is not possible here: torch sees 2, numbered from 0"),
    ],
)
def test_what_is_not_there_is_named(
    gpus: int, accelerator: str, devices: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(gpus, monkeypatch)
    with pytest.raises(ValueError, match=said):
        check_devices(accelerator, devices)


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices"),
    [(0, "auto", 2), (0, "cpu", "auto"), (2, "gpu", [1]), (2, "auto", 2), (2, "cuda", -1), (1, "cpu", 4)],
)
def test_what_is_there_passes(gpus: int, accelerator: str, devices: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(gpus, monkeypatch)
    check_devices(accelerator, devices)


def test_a_run_is_refused_before_its_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(0, monkeypatch)
    monkeypatch.setattr(build, "load_backbone", None)
    with pytest.raises(ValueError, match=r"trainer\.accelerator=gpu is not possible here"):
        build.assemble(short_configuration(trainer=TrainerConfig(accelerator="gpu")), tmp_path)


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    """Whether or not there is a GPU, it has no 99."""
    status, _, errors = to_the_end("trainer.devices=[99]", "logger=disabled", cwd=tmp_path)
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: trainer.devices=[99] is not possible")
