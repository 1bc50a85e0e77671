"""The reference LoRA+: is a higher learning rate for B better, once A's is chosen for each ratio?"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.theory.finding import ROOT, Finding, Verdict, carry_out
from lightning_lora import RunConfig, RunRecord
from lightning_lora.config import DataConfig, LoggerConfig, MergeConfig, ModelConfig, OptimConfig, TrainerConfig
from lightning_lora.reporting.inference import LEVEL, Runs, difference, holm
from lightning_lora.reporting.plots.style import MUTED, SERIES, new_figure, styled
from lightning_lora.reporting.resampling import example_covariance
from lightning_lora.reporting.scored import read_scored
from lightning_lora.running import run_once
from lightning_lora.training import NonFiniteError

RESAMPLING_SEED = 0
# Of the score: the smallest gain that the paper's abstract claims.
CLAIMED = 0.01
RUNS = ROOT / "multirun" / "lora_plus"


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


def measure(quick: bool) -> dict[str, Any]:
    """The long version keeps its runs, and goes on where it stopped."""
    with tempfile.TemporaryDirectory() if quick else nullcontext(RUNS) as folder:
        return {"studies": [studied(study, Path(folder) / study.task) for study in (QUICK if quick else LONG)]}


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
        model=ModelConfig(name=os.environ["MINILM"] if study.model == "MINILM" else study.model),
        data=DataConfig(
            task=study.task,
            path=str(Path(os.environ["GLUE"]) / study.task) if real else None,
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
    estimates = {ratio: difference(options[ratio], options[1], covariance) for ratio in rates if ratio != 1}
    corrected = holm([estimate.p_value() for estimate in estimates.values()])
    return {
        "metric": metric,
        "dev_rows": len(tables[0].labels),
        "options": [{"ratio": ratio, "lr": lr, "scores": scores[ratio]} for ratio, lr in rates.items()],
        "contrasts": [
            {"ratio": ratio, **asdict(estimate.interval()), "p": float(p), "detectable": estimate.detectable()}
            for (ratio, estimate), p in zip(estimates.items(), corrected, strict=True)
        ],
    }


def is_better(comparison: dict[str, Any]) -> bool:
    return any(contrast["p"] < LEVEL and contrast["value"] > 0 for contrast in comparison["contrasts"])


def findings(data: dict[str, Any]) -> list[Finding]:
    studies = data["studies"]
    tuned = [study["task"] for study in studies if is_better(study["tuned"])]
    given = [study["task"] for study in studies if is_better(study["at the lowest rate"])]
    verdict: Verdict = "undecided"
    if len(tuned) == len(studies):
        verdict = "holds"
    elif tuned or given:
        verdict = "holds with conditions"
    elif all(contrast["high"] < CLAIMED for study in studies for contrast in study["tuned"]["contrasts"]):
        verdict = "false"
    return [
        Finding(
            "LoRA+",
            "a higher learning rate for B",
            "Listed as a reference (Hayou et al. 2024, arXiv 2402.12354), whose claim it is: with a learning rate of B "
            "above that of A, LoRA scores 1 to 2 % more and learns up to twice as fast at the same cost.",
            "A ratio and a learning rate are one choice in two numbers. Where the rate is given, and low, a ratio "
            f"above 1 makes up for it: shown here on {listed(given)}. That it is better than the ratio 1 at a rate "
            f"chosen as carefully: shown here on {listed(tuned)}.",
            verdict,
            "\n\n".join(map(measured, studies)),
        )
    ]


def listed(tasks: Sequence[str]) -> str:
    return " and ".join(tasks) or "no task"


def measured(study: dict[str, Any]) -> str:
    tuned = study["tuned"]
    lines = ["| | ratio | rate of A | dev score | less the ratio 1 | p |", "|---|---:|---:|---:|---|---:|"]
    for name, title in (("at the lowest rate", "the lowest rate"), ("tuned", "its best rate")):
        against = {contrast["ratio"]: contrast for contrast in study[name]["contrasts"]}
        lines += [row(title, option, against.get(option["ratio"])) for option in study[name]["options"]]
    unseen = max(contrast["detectable"] for contrast in tuned["contrasts"])
    return (
        f"{study['task']} with {study['model']}, rank 8 on query and value, {study['rows']:,} rows, "
        f"{study['epochs']} epochs, the head at {study['head_lr']:g} throughout. Rates of A from "
        f"{min(study['rates']):g} to {max(study['rates']):g}, each ratio's best one chosen on held-out rows with "
        f"another seed. {tuned['metric']} in points on {tuned['dev_rows']:,} dev rows, {len(study['seeds'])} seeds, "
        f"paired; 95 % intervals for other seeds and examples, p by Holm. At their best rates differences of up to "
        f"{100 * unseen:.1f} points may go unseen.\n\n" + "\n".join(lines)
    )


def row(title: str, option: dict[str, Any], contrast: dict[str, Any] | None) -> str:
    said = " | |"
    if contrast:
        value, low, high = (100 * contrast[end] for end in ("value", "low", "high"))
        said = f" {value:+.1f} ({low:+.1f} to {high:+.1f}) | {contrast['p']:.3f} |"
    return f"| {title} | {option['ratio']} | {option['lr']:g} | {100 * mean(option['scores']):.1f} |{said}"


def plot(data: dict[str, Any]) -> Figure:
    """A row for each task: scores over the rate of A on held-out rows, and differences from the ratio 1 on dev."""
    studies = data["studies"]
    with styled():
        figure = new_figure(2.9 * len(studies))
        for study, (left, right) in zip(studies, figure.subplots(len(studies), 2, squeeze=False), strict=True):
            draw_grid(left, study)
            draw_contrasts(right, study)
    return figure


def draw_grid(axes: Any, study: dict[str, Any]) -> None:
    for place, ratio in enumerate(study["ratios"]):
        scores = [100 * cell_of(study["grid"], ratio, lr) for lr in study["rates"]]
        style = {"marker": "os^Dvx"[place], "linestyle": ("-", "--", ":", "-.")[place % 4]}
        axes.plot(study["rates"], scores, color=SERIES[place % len(SERIES)], label=f"{ratio}", **style)
    axes.set_xscale("log")
    axes.set_xticks(study["rates"], [f"{lr:g}" for lr in study["rates"]])
    axes.minorticks_off()
    axes.set_title(f"{study['task']}: held-out rows", fontsize=8.5)
    axes.set_xlabel("learning rate of A")
    axes.set_ylabel(f"{study['tuned']['metric']}, points")
    axes.legend(
        title="rate of B / rate of A",
        title_fontsize=8,
        fontsize=8,
        framealpha=1,
        facecolor="white",
        edgecolor="none",
        ncols=2,
    )


def draw_contrasts(axes: Any, study: dict[str, Any]) -> None:
    places = {ratio: place for place, ratio in enumerate(ratio for ratio in study["ratios"] if ratio != 1)}
    for name, marker, colour, shift in (("at the lowest rate", "s", SERIES[1], 0.12), ("tuned", "o", SERIES[0], -0.12)):
        contrasts = study[name]["contrasts"]
        values = [100 * contrast["value"] for contrast in contrasts]
        ends = [[100 * abs(contrast[end] - contrast["value"]) for contrast in contrasts] for end in ("low", "high")]
        label = {"tuned": "each at its best rate", "at the lowest rate": f"both at {min(study['rates']):g}"}[name]
        where = [places[contrast["ratio"]] + shift for contrast in contrasts]
        axes.errorbar(where, values, ends, color=colour, marker=marker, linestyle="", capsize=3, label=label)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xticks(list(places.values()), [str(ratio) for ratio in places])
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.set_title(f"{study['task']}: dev set, 95 % intervals", fontsize=8.5)
    axes.set_xlabel("rate of B / rate of A")
    axes.set_ylabel("points above the ratio 1")
    axes.legend(fontsize=8, frameon=False)


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
