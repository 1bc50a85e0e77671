"""The peak is of what was taken since the reset, and not of what an earlier job in the process took."""

from pathlib import Path

import pytest
import torch

from lightning_lora.training import peak_memory
from lightning_lora.training.peak_memory import peak_bytes, reset_peak

CPU = torch.device("cpu")
MIB = 2**20


def test_a_peak_before_the_reset_is_forgotten_and_one_after_it_is_seen() -> None:
    torch.ones(400 * MIB, dtype=torch.uint8)  # given back at once
    with_ballast = peak_bytes(CPU)
    reset_peak(CPU)
    start = peak_bytes(CPU)
    assert start < with_ballast - 300 * MIB
    torch.ones(200 * MIB, dtype=torch.uint8)
    assert 180 * MIB < peak_bytes(CPU) - start < 300 * MIB


@pytest.mark.parametrize("status", ["VmSize:\t 2048 kB\nVmRSS:\t 1024 kB\nVmData:\t 1024 kB\n", None])
def test_a_system_that_tells_no_peak_of_memory_costs_no_run(
    status: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gVisor's /proc/self/status, and none."""
    if status is not None:
        (tmp_path / "status").write_text(status)
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "status")
    assert peak_bytes(CPU) > 50 * MIB


def test_a_gpu_is_woken_before_its_peak_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its allocator refuses before; there is no GPU here to see it."""
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "init", lambda: calls.append("init"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append(f"reset {device}"))
    reset_peak(torch.device("cuda:0"))
    assert calls == ["init", "reset cuda:0"]
