"""The reference to LoRA+ (Hayou et al. 2024, arXiv 2402.12354): a higher learning rate for B than for A.

The quick version is on the generated task; the whole one takes the folders MINILM and GLUE from the environment.
"""

import os
import sys
import tempfile
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.theory.finding import Finding, Verdict, carry_out
from experiments.theory.short_runs import train
from lightning_lora.config import DataConfig
from lightning_lora.reporting import inference
from lightning_lora.reporting.plots.style import SERIES, new_figure, styled
from lightning_lora.reporting.resampling import example_covariance
from lightning_lora.reporting.scored import Scored, read_scored

QUICK_RATIOS, QUICK_RATES = (1, 4, 16), (1e-3, 3e-3, 1e-2, 3e-2)
RATIOS, RATES = (1, 2, 4, 8, 16, 32), (3e-4, 1e-3, 3e-3, 1e-2)
SEARCH_SEED, SEEDS = 0, {True: (1, 2, 3), False: (1, 2, 3, 4, 5)}


def setting(quick: bool, folder: Path) -> tuple[DataConfig, str]:
    """Rows and model; both versions train one epoch at rank 8."""
    if quick:
        return DataConfig(task="toy_acceptability", train_rows=1600, cache_dir=str(folder / "cache")), "tiny"
    if not {"MINILM", "GLUE"} <= os.environ.keys():
        sys.exit("the whole version needs the folders MINILM and GLUE in the environment; or give --quick")
    data = DataConfig(task="mrpc", path=str(Path(os.environ["GLUE"]) / "mrpc"), cache_dir=str(folder / "cache"))
    return data, os.environ["MINILM"]


def measure(quick: bool) -> dict[str, Any]:
    """A grid with one seed chooses the rates; the two that it chose meet again with other seeds."""
    ratios, rates = (QUICK_RATIOS, QUICK_RATES) if quick else (RATIOS, RATES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, model = setting(quick, folder)

        def scored(ratio: float, lr: float, seed: int) -> tuple[float, Scored, str]:
            of_run = folder / f"{ratio:g}-{lr:g}-{seed}"
            record = train(of_run, data, model=model, lr=lr, lora_plus_ratio=ratio, seed=seed)
            return float(record.score or 0.0), read_scored(of_run, record), record.metric

        grid = [
            {"ratio": ratio, "lr": lr, "score": scored(ratio, lr, SEARCH_SEED)[0]}
            for ratio, lr in product(ratios, rates)
        ]
        plain, plus = (
            best([cell for cell in grid if cell["ratio"] == 1]),
            best([cell for cell in grid if cell["ratio"] != 1]),
        )
        again = [[scored(cell["ratio"], cell["lr"], seed) for seed in SEEDS[quick]] for cell in (plain, plus)]
    return {
        "task": data.task,
        "metric": again[0][0][2],
        "rows": len(again[0][0][1].labels),
        "grid": grid,
        "seeds": SEEDS[quick],
        "plain": plain | {"scores": [score for score, _, _ in again[0]]},
        "plus": plus | {"scores": [score for score, _, _ in again[1]]},
        "difference": compared(again, SEEDS[quick]),
    }


def best(cells: list[dict[str, float]]) -> dict[str, float]:
    """The highest score; of equal ones the smallest rate."""
    return max(cells, key=lambda cell: (cell["score"], -cell["lr"]))


def compared(again: list[list[tuple[float, Scored, str]]], seeds: tuple[int, ...]) -> dict[str, float]:
    """LoRA+ less plain LoRA over paired seeds and common dev examples, with the 95 % interval and what it could see."""
    every = [run for runs in again for run in runs]
    predictions = np.stack([table.predictions for _, table, _ in every])
    covariance = example_covariance(every[0][2], every[0][1].labels, predictions, seed=0)
    plain, plus = (
        inference.Runs(seeds, np.array([score for score, _, _ in runs]), np.arange(len(seeds)) + len(seeds) * place)
        for place, runs in enumerate(again)
    )
    estimate = inference.difference(plus, plain, covariance)
    return {**asdict(estimate.interval()), "p": estimate.p_value(), "detectable": estimate.detectable()}


def findings(data: dict[str, Any]) -> list[Finding]:
    plain, plus, difference = data["plain"], data["plus"], data["difference"]
    verdict: Verdict = "holds" if difference["low"] > 0 else "false" if difference["high"] < 0 else "undecided"
    outcome = {
        "holds": "Here it did better than one rate at its own best.",
        "false": "Here it did worse than one rate at its own best.",
        "undecided": "Here it could not be told from one rate at its own best.",
    }[verdict]
    at_the_rate = next(c["score"] for c in data["grid"] if (c["ratio"], c["lr"]) == (plus["ratio"], plain["lr"]))
    rates = sorted({cell["lr"] for cell in data["grid"]})
    scores = {(cell["ratio"], cell["lr"]): cell["score"] for cell in data["grid"]}
    at_edge = [
        f"{ratio:g}"
        for ratio in sorted({cell["ratio"] for cell in data["grid"]})
        if best([cell for cell in data["grid"] if cell["ratio"] == ratio])["lr"] in (rates[0], rates[-1])
    ]
    lines = ["| ratio \\ lr of A | " + " | ".join(f"{lr:g}" for lr in rates) + " |", "|---:|" + "---:|" * len(rates)]
    lines += [
        f"| {ratio} | {' | '.join(f'{100 * scores[ratio, lr]:.1f}' for lr in rates)} |"
        for ratio in sorted({cell["ratio"] for cell in data["grid"]})
    ]
    return [
        Finding(
            "LoRA+",
            "a higher learning rate for B",
            "The document names the paper without a claim. The paper's: with a rate for B some 16 times that for A, "
            "LoRA scores 1 to 2 % higher and trains up to twice as fast.",
            f"{outcome} A ratio above 1 also raises the mean rate, so each side needs its own best rate.",
            verdict,
            f"{data['task']}, {data['metric']} in points on {data['rows']:,} dev rows, one epoch. One seed chose "
            f"lr {plain['lr']:g} for ratio 1 and lr {plus['lr']:g} with ratio {plus['ratio']:g} for the others; over "
            f"{len(data['seeds'])} other seeds they score {100 * np.mean(plain['scores']):.1f} and "
            f"{100 * np.mean(plus['scores']):.1f}: a difference of {100 * difference['value']:+.1f} "
            f"({100 * difference['low']:+.1f} to {100 * difference['high']:+.1f} at 95 %, p = {difference['p']:.2g}; "
            f"{100 * difference['detectable']:.1f} would be found in four cases of five). At plain LoRA's best rate "
            f"that ratio scored {100 * at_the_rate:.1f} with the seed that chose. At the grid's edge lies "
            f"the best rate of ratio {', '.join(at_edge) or 'none'}. The grid, of one seed:\n\n" + "\n".join(lines),
        )
    ]


def plot(data: dict[str, Any]) -> Figure:
    """The grid: a line for each ratio over the rate of A."""
    with styled():
        figure = new_figure(2.9)
        axes = figure.subplots()
        for place, ratio in enumerate(sorted({cell["ratio"] for cell in data["grid"]})):
            cells = [cell for cell in data["grid"] if cell["ratio"] == ratio]
            axes.plot(
                [cell["lr"] for cell in cells],
                [100 * cell["score"] for cell in cells],
                color=SERIES[place % len(SERIES)],
                linestyle=("-", "--", ":")[place % 3],
                marker="os^Dv*"[place],
                label=f"{ratio:g}",
            )
        axes.set_xscale("log")
        rates = sorted({cell["lr"] for cell in data["grid"]})
        axes.set_xticks(rates, [f"{lr:g}" for lr in rates])
        axes.minorticks_off()
        axes.set_xlabel("learning rate of A (and of the head)")
        axes.set_title(f"{data['task']}, one seed")
        axes.set_ylabel(f"{data['metric']}, points")
        axes.legend(title="rate of B over A", frameon=False)
    return figure


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings, plot)
