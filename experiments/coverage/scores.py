"""How often the intervals of other scores cover: of F1, Matthews and Pearson, of ratios, and of single runs.

    python -m experiments.coverage.scores --out experiments/coverage/scores.json

As in run.py, but that examples are drawn anew by the report's own bootstrap; for these scores there is no closed form.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.coverage.run import CHANCES, ROWS
from lightning_lora.reporting.comparison import Interval
from lightning_lora.reporting.inference import LEVEL, Runs, difference, mean_over_examples, relative_to
from lightning_lora.reporting.resampling import Floats, example_covariance, resampled_scores

POSITIVE = 0.68
"""Share of the class that F1 is of, as in MRPC."""
EASE, NOISE, WORSE = 0.7, 0.7, 0.4
METRICS = ("accuracy", "f1", "matthews", "pearson")

Options = list[Runs]


def answers(
    metric: str, generator: np.random.Generator, options: int, seeds: int, chances: tuple[float, float], worse: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels (rows,) and predictions (options * seeds, rows); the second option is worse, if ``worse`` is not 0.

    An option adds to every example, a seed to every run, or for Pearson to how much noise a run has.
    """
    of_option = generator.normal(0, chances[0], (options, 1, ROWS))
    of_seed = generator.normal(0, chances[1], (options, seeds, 1))
    noise = generator.normal(0, NOISE, (options, seeds, ROWS))
    if metric == "pearson":
        labels = generator.normal(0, 1, ROWS)
        return labels, (labels + of_option + np.exp(of_seed) * noise).reshape(-1, ROWS)
    ease = generator.normal(EASE, 1, ROWS) - worse * np.arange(options)[:, None, None]
    right = (ease + of_option + of_seed + noise > 0).reshape(-1, ROWS)
    labels = (generator.random(ROWS) < POSITIVE).astype(int)
    return labels, np.where(right, labels, 1 - labels)


def scored(
    metric: str, labels: NDArray[Any], predictions: NDArray[Any], seeds: int, draw: int
) -> tuple[Options, Floats]:
    """The runs of each option, and the covariance of their scores over examples."""
    scores = resampled_scores(metric, labels, predictions, np.ones((1, ROWS)))[0].reshape(-1, seeds)
    places = np.arange(scores.size).reshape(-1, seeds)
    runs = [Runs(tuple(range(seeds)), of_option, place) for of_option, place in zip(scores, places, strict=True)]
    return runs, example_covariance(metric, labels, predictions, draw)


def holds(interval: Interval | None, truth: float) -> float:
    """Whether an interval holds the truth; nan where there is none."""
    if interval is None or interval.low is None or interval.high is None:
        return float("nan")
    return float(interval.low <= truth <= interval.high)


def of_two(metric: str, seeds: int, chances: tuple[float, float], sweeps: int, worse: float = 0.0) -> dict[str, float]:
    """Percent of intervals that hold the true ratio of two options and, where they are equal, the difference 0.

    Beside it, in how many sweeps the report gives no ratio, since the score below may be 0; the others are counted.
    The true ratio of accuracies is of normal probabilities, over other examples and seeds.
    """
    generator, inside = np.random.default_rng(seeds), []
    spread = float(np.hypot(1, np.hypot(NOISE, np.hypot(*chances))))
    first, second = stats.norm.cdf((EASE - worse * np.arange(2)) / spread)
    for draw in range(sweeps):
        labels, predictions = answers(metric, generator, 2, seeds, chances, worse)
        (one, other), covariance = scored(metric, labels, predictions, seeds, draw)
        equal = difference(other, one, covariance).p_value() >= LEVEL
        inside.append([float(equal), holds(relative_to(other, one, covariance), second / first if worse else 1.0)])
    of_difference, of_ratio = (100 * np.nanmean(inside, axis=0)).tolist()
    ratios = {"ratio": of_ratio, "without a ratio": 100 * float(np.isnan(inside).mean(axis=0)[1])}
    return ratios if worse else {"difference": of_difference} | ratios


def true_score(metric: str, chances: tuple[float, float], of_seed: float) -> float:
    """What a run would have on endlessly many examples."""
    if metric == "pearson":
        return float(1 / np.sqrt(1 + chances[0] ** 2 + (np.exp(of_seed) * NOISE) ** 2))
    right = float(stats.norm.cdf((EASE + of_seed) / np.hypot(1, np.hypot(NOISE, chances[0]))))
    if metric == "accuracy":
        return right
    return 2 * POSITIVE * right / (POSITIVE * right + (1 - POSITIVE) * (1 - right) + POSITIVE)


def of_one(metric: str, sweeps: int) -> float:
    """Percent of a single run's intervals over examples that hold what it would have on endlessly many."""
    generator, inside, chances = np.random.default_rng(1), [], (0.5, 0.0)
    for draw in range(sweeps):
        labels, predictions = answers(metric, generator, 1, 1, chances, 0.0)
        (run,), covariance = scored(metric, labels, predictions, 1, draw)
        inside.append(holds(mean_over_examples(run, covariance), true_score(metric, chances, 0.0)))
    return 100 * float(np.mean(inside))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the figures go, as JSON")
    parser.add_argument("--sweeps", type=int, default=2000, help="how many for each figure")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "coverage_percent": {
            f"{metric}, {what}, {seeds} seeds": of_two(metric, seeds, chances, options.sweeps)
            for metric in METRICS
            for what, chances in CHANCES.items()
            for seeds in (2, 3, 5)
        },
        "coverage_of_a_worse_option_percent": {
            f"accuracy, {what}, {seeds} seeds": of_two("accuracy", seeds, chances, options.sweeps, WORSE)
            for what, chances in CHANCES.items()
            for seeds in (2, 3, 5)
        },
        "coverage_over_examples_percent": {
            metric: of_one(metric, options.sweeps) for metric in METRICS if metric != "matthews"
        },
    }
    print(json.dumps(figures, indent=1))
    options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
