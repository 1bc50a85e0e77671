"""Steps are recorded where that is possible; that they are the same steps, benchmarks/gpu.py looks at on a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from short_runs import short_configuration

from lightning_lora import build, running
from lightning_lora.config import LoraConfig, TrainerConfig
from lightning_lora.training.callbacks import cuda_graph_replay
from lightning_lora.training.callbacks.cuda_graph_replay import CudaGraphReplay, can_be_recorded, is_possible


def test_not_on_a_cpu() -> None:
    assert not is_possible(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))


def test_not_with_several_batches_for_a_step_nor_under_autocast_nor_with_deterministic_kernels() -> None:
    assert can_be_recorded(batches_per_step=1, autocast=False)
    assert not can_be_recorded(batches_per_step=2, autocast=False)
    assert not can_be_recorded(batches_per_step=1, autocast=True)
    torch.use_deterministic_algorithms(True)
    try:
        assert not can_be_recorded(batches_per_step=1, autocast=False)
    finally:
        torch.use_deterministic_algorithms(False)


WITH_GRAPHS = TrainerConfig(accelerator="cpu", progress_bar=False, limit_val_batches=2, cuda_graphs=True)


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        ({}, False),
        ({"trainer": WITH_GRAPHS}, True),
        ({"trainer": WITH_GRAPHS, "lora": LoraConfig(method="full")}, False),
    ],
    ids=["not asked for", "asked for", "full"],
)
def test_where_it_is_asked_for_and_not_all_is_trained(settings: dict[str, Any], there: bool, tmp_path: Path) -> None:
    """Each graph keeps a gradient of all that is trained."""
    trainer: Any = build.assemble(short_configuration(**settings), tmp_path).trainer
    assert any(isinstance(callback, CudaGraphReplay) for callback in trainer.callbacks) is there


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_it_is_left_after_training(fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph_replay, "is_possible", lambda trainer: True)
    assembled = build.assemble(short_configuration(trainer=WITH_GRAPHS), tmp_path)
    module, before = assembled.module, []
    step = module.training_step

    def watched(batch: Any, batch_idx: int) -> torch.Tensor:
        before.append(module.graphs)
        if fails:
            raise RuntimeError("in the midst")
        return step(batch, batch_idx)

    monkeypatch.setattr(module, "training_step", watched)
    if fails:
        with pytest.raises(RuntimeError, match="midst"):
            running.fit(assembled)
    else:
        running.fit(assembled)
    assert before
    assert None not in before
    assert module.graphs is None
