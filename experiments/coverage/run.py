"""How often the report's intervals cover, its tests err, and what it calls detectable is found, over simulated sweeps.

    python experiments/coverage/run.py --out experiments/coverage/results.json

Beside the report's own interval stand the two that it is made from or in the place of: Student's t over the seeds'
differences alone, and percentiles of seeds and examples drawn anew together (the pigeonhole bootstrap). Beside its
McNemar test stands the sign test of which option more runs favour.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lightning_lora.reporting.inference import Estimate, Runs, difference, mcnemar
from lightning_lora.reporting.multiplicity import holm

ROWS, LEVEL, DRAWS = 200, 0.05, 400
# What options make of single examples, what seeds make of runs; the noise of one answer is 0.7.
CHANCES = {"the same options": (0.0, 0.2), "options that differ by example": (0.5, 0.1)}
# Seeds that scatter three times as much as options differ by example: where few seeds mislead most.
SCATTERED = (0.3, 0.5)


def sweep(
    generator: np.random.Generator, options: int, seeds: int, by_example: float, by_seed: float
) -> NDArray[np.bool_]:
    """(options, seeds, rows), which examples are right; on average over examples and seeds all options are equal."""
    difficulty = generator.normal(0.7, 1, ROWS)
    of_option = generator.normal(0, by_example, (options, 1, ROWS))
    of_seed = generator.normal(0, by_seed, (options, seeds, 1))
    return difficulty + of_option + of_seed + generator.normal(0, 0.7, (options, seeds, ROWS)) > 0


def p_values(right: NDArray[np.bool_], counts: tuple[int, ...] | None = None) -> list[float]:
    """Of all pairs of options, of each so many seeds; the covariance of accuracies over examples has a closed form."""
    options, seeds, rows = right.shape
    covariance = np.cov(right.reshape(options * seeds, rows), bias=True) / rows
    places, scores = np.arange(options * seeds).reshape(options, seeds), right.mean(axis=2)
    runs = [
        Runs(tuple(range(count)), scores[k, :count], places[k, :count])
        for k, count in enumerate(counts or [seeds] * options)
    ]
    return [difference(runs[i], runs[j], covariance).p_value() for i, j in combinations(range(options), 2)]


def in_percentiles(generator: np.random.Generator, right: NDArray[np.bool_]) -> bool:
    """Whether 0 is in the percentile interval of the two options' difference, seeds and examples drawn together."""
    one, other = right.astype(float)
    seeds, rows = one.shape
    of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS)
    of_rows = generator.multinomial(rows, np.full(rows, 1 / rows), DRAWS)
    drawn = np.einsum("ds,sr,dr->d", of_seeds, one - other, of_rows, optimize=True)
    low, high = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    return bool(low <= 0 <= high)


def coverage(seeds: int, chances: tuple[float, float], sweeps: int) -> dict[str, float]:
    """Percent of intervals that hold the true difference of two options, 0."""
    generator, inside = np.random.default_rng(seeds), []
    for _ in range(sweeps):
        right = sweep(generator, 2, seeds, *chances)
        one, other = right.mean(axis=2)
        over_seeds = stats.ttest_rel(one, other).pvalue >= LEVEL
        inside.append([p_values(right)[0] >= LEVEL, over_seeds, in_percentiles(generator, right)])
    ours, students, percentiles = (100 * np.mean(inside, axis=0)).tolist()
    return {"report": ours, "t over seeds": students, "percentiles": percentiles}


def coverage_of_unequal(counts: tuple[int, int], sweeps: int) -> dict[str, float]:
    """The same where one option has fewer seeds than the other, by the report."""
    generator = np.random.default_rng(counts[1])
    inside = {
        what: [p_values(sweep(generator, 2, counts[0], *chances), counts)[0] >= LEVEL for _ in range(sweeps)]
        for what, chances in CHANCES.items()
    }
    return {what: 100 * float(np.mean(found)) for what, found in inside.items()}


def mcnemar_errors(seeds: int, sweeps: int) -> dict[str, float]:
    """Percent of sweeps in which tests tell two options of 90 % apart, one right evenly, the other as it happens."""
    generator, found = np.random.default_rng(seeds), []
    for _ in range(sweeps):
        one, other = np.tile(generator.random(ROWS) < 0.9, (seeds, 1)), generator.random((seeds, ROWS)) < 0.9
        leaning = one.sum(axis=0) - other.sum(axis=0)
        signs = stats.binomtest(int((leaning > 0).sum()), max(int((leaning != 0).sum()), 1)).pvalue
        found.append([mcnemar(one, other) < LEVEL, signs < LEVEL])
    ours, of_signs = (100 * np.mean(found, axis=0)).tolist()
    return {"report": ours, "sign test": of_signs}


def power(options: int, seeds: int, sweeps: int) -> dict[str, float]:
    """Percent of sweeps in which an option is told from the best that is worse than all by what is detectable.

    Over seeds alone; beside it what a difference as large as would be detectable without a correction has.
    """
    generator, nothing = np.random.default_rng(options), np.zeros((2 * seeds, 2 * seeds))
    pairs = list(combinations(range(options), 2))

    def runs(scores: NDArray[np.float64], first: int) -> Runs:
        return Runs(tuple(range(seeds)), scores, np.arange(first, first + seeds))

    def estimates(worse_by: float) -> list[Estimate]:
        scores = generator.normal(0, 1, (options, seeds))
        scores[0] -= worse_by
        best = 1 + int(scores[1:].mean(axis=1).argmax())
        scores[[1, best]] = scores[[best, 1]]
        return [difference(runs(scores[i], 0), runs(scores[j], seeds), nothing) for i, j in pairs]

    found = {}
    for name, corrected_for in (("report", len(pairs)), ("without correction", 1)):
        typical = float(np.mean([estimates(0.0)[0].detectable(corrected_for) for _ in range(400)]))
        values = [holm([one.p_value() for one in estimates(typical)])[0] < LEVEL for _ in range(sweeps)]
        found[name] = 100 * float(np.mean(values))
    return found


def false_positives(options: int, seeds: int, chances: tuple[float, float], sweeps: int) -> dict[str, float]:
    """Percent of sweeps of equal options in which a difference is found."""
    generator, found = np.random.default_rng(options), []
    pairs = list(combinations(range(options), 2))
    for _ in range(sweeps):
        right = sweep(generator, options, seeds, *chances)
        values, best = p_values(right), int(right.mean(axis=(1, 2)).argmax())
        with_best = [value for value, pair in zip(values, pairs, strict=True) if best in pair]
        found.append([holm(values).min() < LEVEL, holm(with_best).min() < LEVEL, min(with_best) < LEVEL])
    all_pairs, contrasts, uncorrected = (100 * np.mean(found, axis=0)).tolist()
    return {"all pairs": all_pairs, "contrasts with the best": contrasts, "uncorrected": uncorrected}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the figures go, as JSON")
    options = parser.parse_args()
    covered = {
        f"{what}, {seeds} seeds": coverage(seeds, chances, 2000)
        for what, chances in CHANCES.items()
        for seeds in (2, 3, 5, 10)
    }
    erred = {
        f"{count} options, {seeds} seeds": false_positives(count, seeds, CHANCES["the same options"], 1000)
        for count, seeds in ((2, 5), (3, 3), (6, 5), (12, 5))
    } | {
        f"{count} options, {seeds} scattered seeds": false_positives(count, seeds, SCATTERED, 1000)
        for count, seeds in ((3, 2), (6, 2), (6, 3), (6, 5))
    }
    unequal = {
        f"{many} and {few} seeds": coverage_of_unequal((many, few), 2000) for many, few in ((5, 1), (10, 1), (5, 3))
    }
    even = {f"evenly right or not, {seeds} seeds": mcnemar_errors(seeds, 1000) for seeds in (1, 2, 5)}
    powers = {
        f"detectable, {count} options, {seeds} seeds": power(count, seeds, 500)
        for count, seeds in ((2, 5), (3, 3), (6, 5), (12, 5))
    }
    figures = {
        "coverage_percent": covered,
        "false_positive_percent": erred,
        "coverage_of_unequal_percent": unequal,
        "mcnemar_false_positive_percent": even,
        "power_percent": powers,
    }
    for line, row in (covered | erred | unequal | even | powers).items():
        print(line, {name: round(value, 1) for name, value in row.items()})
    options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
