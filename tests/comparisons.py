"""Comparisons made up for the tests of what is drawn and written of them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from lightning_lora.reporting.comparison import (
    Contrast,
    Curve,
    Interval,
    OptionSummary,
    RankUse,
    TaskComparison,
    Unfinished,
)

SIZES = {"head": 0.04, "q": 0.06, "qv": 0.12, "qkvo": 0.24, "mlp": 0.6, "all": 0.84, "bitfit": 0.09, "full": 100.0}


def option(settings: dict[str, str | int | float | bool | None], quality: float, seeds: int = 3) -> OptionSummary:
    """An option whose seeds score about ``quality``; the same for the same arguments."""
    label = ", ".join(value if isinstance(value, str) else f"{name} {value}" for name, value in settings.items())
    noise = np.random.default_rng([int(1e6 * quality), seeds]).normal(0, 0.004, (seeds, 5))
    curves = tuple(
        Curve(seed, (1.0, 2.0, 3.0, 4.0, 5.0), tuple(quality - 0.2 * 0.4 ** np.arange(1, 6) + noise[seed]))
        for seed in range(seeds)
    )
    scores = [curve.scores[-1] for curve in curves]
    mean, deviation = float(np.mean(scores)), float(np.std(scores, ddof=1)) if seeds > 1 else None
    half = 4.303 * deviation / seeds**0.5 if deviation is not None else None
    percent = SIZES[str(settings.get("lora", "qv"))] * (int(settings.get("rank") or 8) / 8)
    return OptionSummary(
        label=label,
        settings=settings,
        folders=tuple(Path(f"multirun/{label}/{seed}") for seed in range(seeds)),
        seeds=tuple(range(seeds)),
        scores=tuple(scores),
        best_epoch_scores=tuple(max(curve.scores) for curve in curves),
        mean=Interval(mean) if half is None else Interval(mean, mean - half, mean + half),
        median=float(np.median(scores)),
        deviation=deviation,
        relative=Interval(mean / 0.9, mean / 0.9 - 0.01, mean / 0.9 + 0.01),
        adapter_parameters=int(percent * 1_247_000),
        trainable_percent=min(percent, 100.0),
        fit_seconds=300 + 40 * percent**0.5 + 20 * quality,
        peak_memory_bytes=int((1.5 + percent / 30) * 2**30),
        curves=curves,
    )


def task_of(options: Sequence[OptionSummary], *, task: str = "rte", apart: float = 0.012) -> TaskComparison:
    """The options as a task; two whose means are nearer than ``apart`` cannot be told apart."""
    ordered = sorted(options, key=lambda one: -one.mean.value)
    best = ordered[0].mean.value
    axes = dict.fromkeys(name for one in ordered for name in one.settings)
    contrasts = []
    for one in ordered[1:]:
        difference = one.mean.value - best
        p = 0.001 if -difference > apart else 0.4
        interval = Interval(difference, difference - apart, difference + apart)
        contrasts.append(Contrast(one.label, interval, p / 2, p / 1.5, p, 0.014))
    return TaskComparison(
        task=task,
        metric="accuracy",
        base="roberta-base",
        base_fingerprint="ba5e",
        split="validation",
        dev_rows=277,
        axes=tuple(axes),
        options=tuple(ordered),
        contrasts=tuple(contrasts),
        groups={one.label: "a" if best - one.mean.value <= apart else "b" for one in ordered},
        reference="full",
        unfinished=(),
    )


def two_options() -> TaskComparison:
    """The smallest comparison: two sets of projections."""
    return task_of([option({"lora": "qv"}, 0.71), option({"lora": "all"}, 0.72)])


def layer_choice() -> TaskComparison:
    """The ablation of projections, with baselines and a failed run."""
    qualities = {
        "head": 0.62, "q": 0.68, "bitfit": 0.705, "qv": 0.732, "qkvo": 0.741, "mlp": 0.736, "all": 0.748, "full": 0.744,
    }  # fmt: skip
    task = task_of([option({"lora": lora}, quality, seeds=5) for lora, quality in qualities.items()])
    failed = Unfinished(Path("multirun/7"), "all", 5, "diverged", "loss is nan at step 120 (seed 5)")
    note = "Scores are of the last epoch; choosing the best epoch on the dev set flatters."
    return TaskComparison(**{**vars(task), "unfinished": (failed,), "notes": (note,)})


def sweep() -> TaskComparison:
    """Forty options: two sets of projections, four ranks, five learning rates."""
    return task_of([
        option({"lora": lora, "rank": rank, "lr": lr}, 0.7 + 0.01 * np.log2(rank) - 0.03 * np.log10(lr / 4e-4) ** 2
               + (0.012 if lora == "all" else 0.0))
        for lora, rank, lr in product(("qv", "all"), (1, 2, 4, 8), (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3))
    ])  # fmt: skip


def learning_rates() -> TaskComparison:
    """Four sets of projections, each at three learning rates."""
    return task_of([
        option({"lora": lora, "lr": lr}, quality - 0.05 * np.log10(lr / best) ** 2)
        for lora, quality, best in (("q", 0.7, 8e-4), ("qv", 0.72, 4e-4), ("all", 0.735, 2e-4), ("full", 0.71, 1e-4))
        for lr in (1e-4, 2e-4, 4e-4)
    ])  # fmt: skip


def rank_and_alpha() -> TaskComparison:
    """Two sets of projections, two ranks, two alphas and two learning rates."""
    return task_of([
        option({"lora": lora, "rank": rank, "alpha": alpha, "lr": lr},
               0.66 + 0.015 * np.log2(rank) + 0.002 * alpha + (0.01 if lora == "all" else 0.0) + 10 * lr)
        for lora, rank, alpha, lr in product(("qv", "all"), (2, 8), (8, 32), (2e-4, 4e-4))
    ])  # fmt: skip


def rank_use(
    blocks: int, ranks: tuple[int, ...] = (8,), roles: tuple[str, ...] = ("query", "value")
) -> tuple[RankUse, ...]:
    """Directions in use: one more in each block, half of one more in each role; the ranks take turns."""
    return tuple(
        RankUse(f"encoder.layer.{block}.{role}", block, role, ranks[block % len(ranks)], 1 + block + number / 2)
        for block in range(blocks)
        for number, role in enumerate(roles)
    )


def with_rank_use(*found: tuple[RankUse, ...]) -> TaskComparison:
    """An option for each table, by falling quality."""
    return task_of([
        replace(option({"lora": "qv", "rank": 2**n}, 0.8 - n / 50), rank_use=one) for n, one in enumerate(found)
    ])  # fmt: skip


def many(count: int = 200) -> TaskComparison:
    """So many options as nobody reads one by one."""
    return task_of([option({"lora": "qv", "rank": 1 + n % 20, "lr": round(1e-4 * (1 + n // 20), 6)},
                           0.6 + 0.2 * n / count, seeds=2) for n in range(count)])  # fmt: skip
