"""Runs on the generated task that differ from a centre in one hyperparameter."""

import contextlib
import io
from pathlib import Path
from typing import Any

from lightning_lora import RunConfig, run
from lightning_lora.config import DataConfig, LoggerConfig, LoraConfig, MergeConfig, TrainerConfig
from lightning_lora.training import NonFiniteError

TASK = "toy_acceptability"
CENTRE = {"rank": 8, "alpha / rank": 2.0, "learning rate": 3e-3, "dropout": 0.0}
QUICK = {
    "rank": (1, 4, 8, 64),
    "alpha / rank": (0.5, 1.0, 2.0, 4.0),
    "learning rate": (1e-4, 1e-3, 3e-3, 1e-2),
    "dropout": (0.0, 0.1, 0.3),
}
LONG = {
    "rank": (1, 2, 4, 8, 16, 32, 64),
    "alpha / rank": (0.5, 1.0, 2.0, 4.0),
    "learning rate": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "dropout": (0.0, 0.05, 0.1, 0.2, 0.3),
}


def swept(folder: Path, grid: dict[str, tuple[float, ...]], seeds: int, rows: int) -> dict[str, list[dict[str, Any]]]:
    """One factor at a time from the centre; the centre itself is run once."""
    data = DataConfig(task=TASK, train_rows=rows, cache_dir=str(folder / "cache"))
    scores: dict[tuple[float, ...], list[float]] = {}
    lines: dict[str, list[dict[str, Any]]] = {}
    for factor, values in grid.items():
        lines[factor] = []
        for value in values:
            rank, per_rank, lr, dropout = key = tuple((CENTRE | {factor: value}).values())
            if key not in scores:
                settings = {"rank": int(rank), "alpha": per_rank * rank, "lr": lr, "dropout": dropout}
                scores[key] = [
                    train(folder / f"{len(scores)}-{seed}", data, seed=seed, **settings) for seed in range(seeds)
                ]
            lines[factor].append({"value": value, "scores": scores[key]})
    return lines


def train(folder: Path, data: DataConfig, *, rank: int, alpha: float, lr: float, dropout: float, seed: int) -> float:
    """One epoch on a CPU in fp32, query and value adapted: its score, 0 of a run that diverged.

    The summary that a run prints is left out.
    """
    config = RunConfig(
        rank=rank,
        alpha=alpha,
        lr=lr,
        seed=seed,
        epochs=1,
        lora=LoraConfig(dropout=dropout),
        data=data,
        trainer=TrainerConfig(accelerator="cpu", precision="32-true", progress_bar=False),
        logger=LoggerConfig(wandb="disabled"),
        merge=MergeConfig(at_end=False),
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(NonFiniteError):
        return run(config, folder).score or 0.0
    return 0.0
