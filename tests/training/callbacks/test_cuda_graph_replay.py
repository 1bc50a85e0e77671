"""Steps are recorded where that is possible; that they are the same steps, benchmarks/gpu.py looks at on a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import short_configuration

from lightning_lora import build
from lightning_lora.config import LoraConfig, TrainerConfig
from lightning_lora.training.callbacks.cuda_graph_replay import CudaGraphReplay, possible

GPU = torch.device("cuda", 0)
ALONE: dict[str, Any] = {"devices": 1, "batches_per_step": 1, "autocast": False}


def test_it_is_possible_on_one_gpu() -> None:
    assert possible(GPU, **ALONE)


@pytest.mark.parametrize(
    ("changes", "there"),
    [({}, True), ({"trainer": TrainerConfig(cuda_graphs=False)}, False), ({"lora": LoraConfig(method="full")}, False)],
    ids=["lora", "switched off", "full"],
)
def test_a_run_has_it_unless_it_trains_all_or_says_no(changes: dict[str, Any], there: bool, tmp_path: Path) -> None:
    """Each graph keeps a gradient of all that is trained."""
    trainer = build.assemble(short_configuration(**changes), tmp_path).trainer
    assert any(isinstance(callback, CudaGraphReplay) for callback in trainer.callbacks) is there  # type: ignore[attr-defined]


@pytest.mark.parametrize("otherwise", [{"devices": 2}, {"batches_per_step": 2}, {"autocast": True}], ids=str)
def test_it_is_not(otherwise: dict[str, Any]) -> None:
    assert not possible(GPU, **ALONE | otherwise)


def test_nor_on_a_cpu_and_with_deterministic_kernels() -> None:
    assert not possible(torch.device("cpu"), **ALONE)
    torch.use_deterministic_algorithms(True)
    try:
        assert not possible(GPU, **ALONE)
    finally:
        torch.use_deterministic_algorithms(False)
