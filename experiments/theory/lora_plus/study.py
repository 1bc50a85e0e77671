"""The runs of one task: ratios and rates on held-out rows, and ratios compared on the dev set."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from experiments.theory.environment import location
from lightning_lora import RunConfig, RunRecord
from lightning_lora.config import DataConfig, LoggerConfig, MergeConfig, ModelConfig, OptimConfig, TrainerConfig
from lightning_lora.reporting.inference import Runs, difference
from lightning_lora.reporting.multiplicity import holm
from lightning_lora.reporting.resampling import Floats, example_covariance
from lightning_lora.reporting.scored import read_scored
from lightning_lora.running import run_once
from lightning_lora.training import NonFiniteError

RESAMPLING_SEED = 0


@dataclass(frozen=True)
class Study:
    """One task: every ratio at every rate on held-out rows, then each ratio at its best rate on the dev set.

    Attributes:
        model: As ``model.name``; "MINILM" is the environment's.
        task: A task of the library; one of GLUE is read from below the environment's GLUE.
        rows: Trained on, drawn anew by every seed.
        head_lr: Of the head, the same throughout: with ``lr`` it would follow A's, and a ratio would change it too.
        held_out: Share of the training rows that rates are chosen on.
        tuning_seeds: Of the runs on held-out rows; none of them is among those of the dev set.
        seeds: Of the runs on the dev set.
    """

    model: str
    task: str
    rows: int
    epochs: int
    ratios: tuple[int, ...]
    rates: tuple[float, ...]
    head_lr: float
    held_out: float
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]


QUICK = (
    Study(
        model="tiny",
        task="toy_acceptability",
        rows=1000,
        epochs=2,
        ratios=(1, 16),
        rates=(3e-4, 1e-3, 3e-3),
        head_lr=3e-3,
        held_out=0.1,
        tuning_seeds=(10,),
        seeds=(0, 1, 2),
    ),
)
LONG = (
    Study(
        model="tiny",
        task="toy_acceptability",
        rows=2000,
        epochs=2,
        ratios=(1, 2, 4, 8, 16, 32),
        rates=(3e-4, 1e-3, 3e-3, 1e-2),
        head_lr=3e-3,
        held_out=0.1,
        tuning_seeds=(10,),
        seeds=(0, 1, 2, 3, 4),
    ),
    Study(
        model="MINILM",
        task="sst2",
        rows=2000,
        epochs=1,
        ratios=(1, 4, 16),
        rates=(3e-4, 1e-3, 3e-3, 1e-2),
        head_lr=1e-3,
        held_out=0.02,
        tuning_seeds=(10,),
        seeds=(0, 1, 2),
    ),
)


def studied(study: Study, folder: Path) -> dict[str, Any]:
    """The grid on held-out rows, and on the dev set the ratios, each at its best rate and all at the lowest one."""
    grid = [
        {
            "ratio": ratio,
            "lr": lr,
            "scores": [held_out_score(study, ratio, lr, seed, folder) for seed in study.tuning_seeds],
        }
        for ratio in study.ratios
        for lr in study.rates
    ]
    lowest = min(study.rates)
    fixed = max(study.ratios, key=lambda ratio: cell_of(grid, ratio, lowest))
    return {
        **asdict(study),
        "grid": grid,
        "tuned": compared(study, {ratio: best_rate(grid, ratio) for ratio in study.ratios}, folder),
        "at the lowest rate": compared(study, {1: lowest, fixed: lowest}, folder),
    }


def held_out_score(study: Study, ratio: int, lr: float, seed: int, folder: Path) -> float:
    """Of a run that diverged, 0: its rate is not chosen."""
    try:
        return trained(study, ratio, lr, seed, folder, study.held_out)[0].score or 0.0
    except NonFiniteError:
        return 0.0


def trained(
    study: Study, ratio: int, lr: float, seed: int, folder: Path, holdout: float | None = None
) -> tuple[RunRecord, Path]:
    """One run on a CPU in fp32, rank 8 on query and value, or what an earlier start has left of the very same."""
    real = not study.task.startswith("toy")
    config = RunConfig(
        rank=8,
        lr=lr,
        seed=seed,
        epochs=study.epochs,
        model=ModelConfig(name=location("MINILM") if study.model == "MINILM" else study.model),
        data=DataConfig(
            task=study.task,
            path=str(Path(location("GLUE")) / study.task) if real else None,
            train_rows=study.rows,
            holdout=holdout,
            cache_dir=str(folder / "cache"),
        ),
        optim=OptimConfig(lora_plus_ratio=ratio, head_lr=study.head_lr),
        trainer=TrainerConfig(accelerator="cpu", precision="32-true", progress_bar=False),
        logger=LoggerConfig(wandb="disabled"),
        merge=MergeConfig(at_end=False),
    )
    own = folder / f"{ratio}-{lr:g}-{seed}{'-held-out' if holdout else ''}"
    return run_once(config, own)[0], own


def cell_of(grid: Sequence[dict[str, Any]], ratio: int, lr: float) -> float:
    (scores,) = (cell["scores"] for cell in grid if (cell["ratio"], cell["lr"]) == (ratio, lr))
    return mean(scores)


def best_rate(grid: Sequence[dict[str, Any]], ratio: int) -> float:
    """The rate of the best mean score; of equal ones the smallest."""
    rates = sorted(cell["lr"] for cell in grid if cell["ratio"] == ratio)
    return max(rates, key=lambda lr: cell_of(grid, ratio, lr))


def compared(study: Study, rates: dict[int, float], folder: Path) -> dict[str, Any]:
    """Ratios at these rates on the dev set; each less the ratio 1 with the report's paired interval, p by Holm."""
    runs = [(ratio, *trained(study, ratio, lr, seed, folder)) for ratio, lr in rates.items() for seed in study.seeds]
    tables = [read_scored(path, record) for _, record, path in runs]
    metric = runs[0][1].metric
    predictions = np.stack([table.predictions for table in tables])
    covariance = example_covariance(metric, tables[0].labels, predictions, RESAMPLING_SEED)
    scores = {ratio: [record.score for other, record, _ in runs if other == ratio] for ratio in rates}
    places = {ratio: [place for place, (other, *_) in enumerate(runs) if other == ratio] for ratio in rates}
    options = {ratio: Runs(study.seeds, np.array(scores[ratio]), np.array(places[ratio])) for ratio in rates}
    return {
        "metric": metric,
        "dev_rows": len(tables[0].labels),
        "options": [{"ratio": ratio, "lr": lr, "scores": scores[ratio]} for ratio, lr in rates.items()],
        "contrasts": contrasts(options, covariance),
    }


def contrasts(options: dict[int, Runs], covariance: Floats) -> list[dict[str, Any]]:
    """Each ratio less the ratio 1: the estimate with its interval, p by Holm, and what is found after it."""
    estimates = {ratio: difference(runs, options[1], covariance) for ratio, runs in options.items() if ratio != 1}
    corrected = holm([estimate.p_value() for estimate in estimates.values()])
    return [
        {
            "ratio": ratio,
            **asdict(estimate),
            **asdict(estimate.interval()),
            "p": float(p),
            "detectable": estimate.detectable(len(estimates)),
        }
        for (ratio, estimate), p in zip(estimates.items(), corrected, strict=True)
    ]
