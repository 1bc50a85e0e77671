"""The peak is of what was taken since the reset, and not of what an earlier job in the process took."""

import torch

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
