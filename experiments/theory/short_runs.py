"""Short training runs through the library's own entry point, for the experiments that ask what a setting does."""

import contextlib
import io
from pathlib import Path

from lightning_lora import RunConfig, RunRecord, run
from lightning_lora.config import (
    DataConfig,
    LoggerConfig,
    LoraConfig,
    MergeConfig,
    ModelConfig,
    OptimConfig,
    TrainerConfig,
)


def train(
    folder: Path,
    data: DataConfig,
    *,
    model: str = "tiny",
    rank: int = 8,
    alpha: float | None = None,
    lr: float = 3e-3,
    dropout: float = 0.0,
    lora_plus_ratio: float = 1.0,
    seed: int = 0,
) -> RunRecord:
    """One epoch on a CPU in fp32, query and value adapted; the summary that a run prints is left out.

    Args:
        folder: The run's, a new one.
        data: The task and its rows.
        model: As ``model.name``.
        rank: Of the adapters.
        alpha: None for twice the rank.
        lr: Peak learning rate, of A and of the head.
        dropout: On the adapters' input.
        lora_plus_ratio: Learning rate of B over that of A.
        seed: Of everything random, the choice of training rows with it.
    """
    config = RunConfig(
        rank=rank,
        alpha=alpha,
        lr=lr,
        seed=seed,
        epochs=1,
        lora=LoraConfig(dropout=dropout),
        model=ModelConfig(name=model),
        data=data,
        optim=OptimConfig(lora_plus_ratio=lora_plus_ratio),
        trainer=TrainerConfig(accelerator="cpu", precision="32-true", progress_bar=False),
        logger=LoggerConfig(wandb="disabled"),
        merge=MergeConfig(at_end=False),
    )
    with contextlib.redirect_stdout(io.StringIO()):
        return run(config, folder)
