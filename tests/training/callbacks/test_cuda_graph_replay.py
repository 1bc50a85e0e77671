"""Steps are recorded where that is possible; that they are the same steps, benchmarks/gpu.py looks at on a GPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from short_runs import short_configuration
from torch import nn

from lightning_lora import build, running
from lightning_lora.config import LoraConfig, TrainerConfig
from lightning_lora.training.callbacks import cuda_graph_replay
from lightning_lora.training.callbacks.cuda_graph_replay import why_not

ON_A_CPU = TrainerConfig(accelerator="cpu", progress_bar=False, limit_val_batches=2)
WITH_GRAPHS = replace(ON_A_CPU, cuda_graphs=True)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "there is no GPU"),
        ({"trainer": replace(WITH_GRAPHS, accumulate_grad_batches=2)}, "several batches make a step"),
        ({"trainer": replace(WITH_GRAPHS, precision="bf16-mixed")}, "autocast chooses types anew at each step"),
        ({"trainer": replace(WITH_GRAPHS, devices=2)}, "several devices share a step"),
        ({"lora": LoraConfig(method="full")}, "the whole model is trained"),
    ],
    ids=["cpu", "accumulation", "autocast", "devices", "full"],
)
def test_the_first_hindrance_is_named(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assembled = build.assemble(short_configuration(**{"trainer": WITH_GRAPHS, **settings}), tmp_path)
    assert why_not(assembled.trainer, assembled.module.model) == reason


def test_deterministic_kernels_are_a_hindrance() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        assert why_not(trainer, nn.Linear(1, 1)) == "kernels are to be deterministic"
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("asked_for", [False, True])
def test_where_it_is_asked_for_in_vain_one_line_says_so(
    asked_for: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running.fit(build.assemble(short_configuration(trainer=WITH_GRAPHS if asked_for else ON_A_CPU), tmp_path))
    said = capsys.readouterr().err.count("trainer.cuda_graphs=true has no effect: there is no GPU\n")
    assert said == asked_for


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_it_is_left_after_training(fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph_replay, "why_not", lambda trainer, model: None)
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
