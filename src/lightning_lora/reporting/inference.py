"""Which differences between options are more than chance: intervals, tests and groups, as formulas on arrays.

Two things are left to chance in a score: the seed a run was trained with, and the examples it is scored on. All
options are scored on the same examples, so that these are shared, within an option and between options. The error of a
difference D of mean scores, as an estimate for other seeds and other examples, is in the crossed design (runs by
examples) a sum of two parts, which are estimated apart:

    Var(D) = Var over seeds + Var over examples
    seeds     S^2 / n, S^2 the sample variance of the n paired differences d_i of runs with the same seed
    examples  mean of Cov(d_i, d_j) over i != j, where examples are drawn anew (bootstrap) and the runs stay

The chance with which one run gets one example right is part of every d_i, so it is in the first part already; leaving
i = j out of the second keeps it from being counted twice. Drawing rows and columns anew together and reading off
percentiles (the pigeonhole bootstrap; Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1) counts it
three times, and yet covers too little with few seeds, since n drawn of n seeds vary by (n - 1) / n too little and
percentiles know no degrees of freedom. Variances are not pooled over options, nor drawn towards one another, which
would make more of few seeds: an option whose seeds vary more than the others' would then be judged by the others'.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from lightning_lora.reporting.comparison import Interval
from lightning_lora.reporting.resampling import Floats

Booleans = NDArray[np.bool_]

LEVEL = 0.05
POWER = 0.8
_HALVINGS = 60
_NORMAL = 1e4  # degrees of freedom from which t is normal to four digits
_ROUNDING = 1e-9
_OF_SCORES = 1e-6  # records hold scores in float32: what differs by less agrees


@dataclass(frozen=True)
class Runs:
    """The runs of one option.

    Attributes:
        seeds: Rising, each once.
        scores: (runs,) in their order.
        positions: (runs,) of the runs in the covariance over examples.
    """

    seeds: tuple[int, ...]
    scores: Floats
    positions: NDArray[np.intp]


@dataclass(frozen=True)
class Estimate:
    """A difference with the two parts of its error.

    Attributes:
        value: The difference.
        over_seeds: Its variance over seeds; None where one seed cannot tell.
        over_examples: Its variance over examples, from 0.
        freedom: Degrees of freedom of ``over_seeds``; infinite without it.
    """

    value: float
    over_seeds: float | None
    over_examples: float
    freedom: float

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.sqrt((self.over_seeds or 0.0) + self.over_examples))

    def interval(self) -> Interval:
        """At 95 %, with `quantile`."""
        half = float(self.quantile(LEVEL)) * self.error
        return Interval(self.value, self.value - half, self.value + half)

    def quantile(self, level: float) -> float:
        """How many standard errors a difference exceeds by chance, up or down, in a share ``level`` of the cases.

        At 5 % it is the mean of Student's quantile and the normal one, weighted with the two variances (Cochran and Cox
        1957, "Experimental Designs", section 4.14): exact where only one part is there, else a little too wide; Welch's
        degrees of freedom are too narrow with two or three seeds. Further out, where a correction for many pairs looks,
        that mean is too narrow as well: two seeds that agree by chance make little of both the error and its quantile.
        There it grows as the two half-widths taken at right angles do (Howe 1974, "Approximate confidence limits on the
        mean of X + Y", JASA 69).
        """
        normal = float(special.ndtri(1 - level / 2))
        if not self.over_seeds:
            return normal
        return self._stretch * _hypotenuse(self._share, float(special.stdtrit(self.freedom, 1 - level / 2)), normal)

    @property
    def _share(self) -> float:
        """Of seeds in the variance."""
        return self.over_seeds / (self.over_seeds + self.over_examples) if self.over_seeds else 0.0

    @cached_property
    def _stretch(self) -> float:
        """The quantile at 5 % over the half-widths at right angles there."""
        share, normal = self._share, float(special.ndtri(1 - LEVEL / 2))
        student = float(special.stdtrit(self.freedom, 1 - LEVEL / 2))
        return (share * student + (1 - share) * normal) / _hypotenuse(share, student, normal)

    def p_value(self) -> float:
        """Two-sided: the level at which the interval just reaches 0; 1.0 where nothing differs and nothing varies."""
        if self.error < _ROUNDING:
            return 1.0 if abs(self.value) < _ROUNDING else 0.0
        wanted, low, high = abs(self.value) / self.error, 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.quantile(middle) > wanted else (low, middle)
        return high

    def detectable(self, pairs: int = 1) -> float:
        """The smallest true difference that is found at 5 % with a power of 80 %, the errors being what they are.

        By the noncentral t distribution, with Satterthwaite's degrees of freedom where both parts are there.

        Args:
            pairs: How many differences the test is corrected for. By Bonferroni, which is Holm's first step: a
                difference of this size is found whatever the others are.
        """
        critical, share = self.quantile(LEVEL / pairs), self._share
        freedom = self.freedom / share**2 if share else np.inf
        return float(_noncentrality(round(freedom, 6), round(critical, 9))) * self.error


def _hypotenuse(share: float, student: float, normal: float) -> float:
    return math.sqrt(share * student**2 + (1 - share) * normal**2)


@cache
def _noncentrality(freedom: float, critical: float) -> float:
    """How far from 0 a noncentral t must lie to be beyond ``critical``, up or down, with a power of 80 %."""
    if freedom > _NORMAL:
        return critical + float(special.ndtri(POWER))

    def lacking(shift: float) -> float:
        return float(stats.nct.sf(critical, freedom, shift)) - POWER

    return float(optimize.brentq(lacking, 0.0, 3 * critical + 3, xtol=1e-6))


def difference(one: Runs, other: Runs, covariance: Floats, weight: float = 1.0) -> Estimate:
    """Mean score of one option less ``weight`` times that of another, with its error.

    Two options that ran with the same seeds are paired by them; else the seeds of either are taken as drawn apart, so
    that the difference is always that of the two means. Where one of them has a single run, its seeds are taken to vary
    as the other's do. Where both have, nothing is known about seeds and the error is that over examples.

    Args:
        one: Runs of an option.
        other: Runs of another.
        covariance: (all runs, all runs), `example_covariance`.
        weight: Of the other.
    """
    paired = one.seeds == other.seeds and len(one.seeds) > 1
    over_seeds: float | None
    if paired:
        over_seeds, freedom = _variance_of_mean(one.scores - weight * other.scores)
    elif min(len(one.seeds), len(other.seeds)) >= 2:
        over_seeds, freedom = _welch(one.scores, weight * other.scores)
    elif len(one.seeds) >= 2:
        over_seeds, freedom = _as_the_others(one.scores, 1.0, weight)
    elif len(other.seeds) >= 2:
        over_seeds, freedom = _as_the_others(other.scores, weight, 1.0)
    else:
        over_seeds, freedom = None, np.inf
    value = float(one.scores.mean() - weight * other.scores.mean())
    shared, all_of_it = _over_examples(one, other, covariance, weight, paired=paired)
    if over_seeds is None:
        return Estimate(value, None, max(all_of_it, 0.0), freedom)
    if over_seeds < _OF_SCORES**2:
        # Scores have few values; that all seeds agree is such a coincidence where examples make them differ.
        over_seeds = all_of_it - shared
    return Estimate(value, max(over_seeds, 0.0), max(shared, 0.0), freedom)


def as_many(one: Sequence[int], other: Sequence[int]) -> tuple[list[int], list[int]]:
    """Seeds to pair for a run-by-run comparison: the common ones, or else the first n of each."""
    common = sorted({*one} & {*other})
    count = min(len(one), len(other))
    return (common, common) if common else (sorted(one)[:count], sorted(other)[:count])


def _variance_of_mean(values: Floats) -> tuple[float, float]:
    return float(values.var(ddof=1)) / len(values), len(values) - 1.0


def _welch(one: Floats, other: Floats) -> tuple[float, float]:
    """Variance of the difference of two means, and Welch's degrees of freedom."""
    (first, less), (second, lesser) = _variance_of_mean(one), _variance_of_mean(other)
    total = first + second
    parts = first**2 / less + second**2 / lesser
    return total, total**2 / parts if parts else less + lesser


def _as_the_others(scores: Floats, weight: float, of_the_single: float) -> tuple[float, float]:
    """The same where one option has a single run, whose seeds are taken to vary as these of the other."""
    variance = float(scores.var(ddof=1))
    return variance * (weight**2 / len(scores) + of_the_single**2), len(scores) - 1.0


def _over_examples(one: Runs, other: Runs, covariance: Floats, weight: float, *, paired: bool) -> tuple[float, float]:
    """Variance of the difference over examples: what does not depend on the runs, and all of it."""
    block = covariance[np.ix_([*one.positions, *other.positions], [*one.positions, *other.positions])]
    n, m = len(one.seeds), len(other.seeds)
    share = np.concatenate([np.full(n, 1 / n), np.full(m, -weight / m)])
    products = block * np.outer(share, share)
    all_of_it = float(products.sum())
    if min(n, m) < 2:
        return all_of_it, all_of_it
    if paired:
        own = sum(products[i, j] for i in range(2 * n) for j in range(2 * n) if i % n == j % n)
        return (all_of_it - own) * n / (n - 1), all_of_it
    within = 0.0
    for part, size in ((products[:n, :n], n), (products[n:, n:], m)):
        within += (part.sum() - np.trace(part)) * size / (size - 1)
    return float(within + 2 * products[:n, n:].sum()), all_of_it


def mean_over_seeds(scores: Floats) -> Interval:
    """The mean with its 95 % interval by Student's t, for other seeds on the same examples.

    Without an interval of one seed, and where all seeds gave the same: by coincidence, or by all predicting one class.
    """
    mean = float(scores.mean())
    if len(scores) < 2 or float(scores.std(ddof=1)) < _OF_SCORES:
        return Interval(mean)
    half = float(special.stdtrit(len(scores) - 1, 1 - LEVEL / 2)) * float(scores.std(ddof=1)) / len(scores) ** 0.5
    return Interval(mean, mean - half, mean + half)


def mean_over_examples(runs: Runs, covariance: Floats) -> Interval:
    """The mean with its 95 % interval by the bootstrap's standard error, for these runs on other examples."""
    variance = max(float(covariance[np.ix_(runs.positions, runs.positions)].mean()), 0.0)
    mean = float(runs.scores.mean())
    half = float(special.ndtri(1 - LEVEL / 2)) * variance**0.5
    return Interval(mean, mean - half, mean + half)


def relative_to(one: Runs, reference: Runs, covariance: Floats) -> Interval | None:
    """One option's mean over the reference's, by the delta method; None where the reference's may well be 0.

    That is where one of its intervals, over seeds or over examples, does not lie above 0: the delta method would give
    an interval that is far too narrow around a ratio that may be anything.
    """
    below = float(reference.scores.mean())
    around_it = (mean_over_seeds(reference.scores), mean_over_examples(reference, covariance))
    if min(below, *(interval.low for interval in around_it if interval.low is not None)) <= 0:
        return None
    ratio = float(one.scores.mean()) / below
    around = difference(one, reference, covariance, weight=ratio).interval()
    assert around.low is not None
    assert around.high is not None
    return Interval(ratio, ratio + around.low / below, ratio + around.high / below)


def mcnemar(one: Booleans, other: Booleans) -> float:
    """Two-sided exact test whether two options get equally many examples right, the runs being given.

    With a run each it is McNemar's exact test: each example that one of them alone gets right might as well have been
    the other's. With several, an example's difference is in how many runs get it right, and it is the whole of that
    which might have been the other's (the permutation test of paired differences; Fisher 1935, "The Design of
    Experiments", section 21): counting an example once for each seed would make one observation into many, and
    counting only whose runs are more would call an option better that is right more evenly.

    The distribution of the sum is the Fourier transform of its characteristic function, the product of cosines. Seeds
    that were not run have no say in it.

    Args:
        one: (runs, rows), whether an example is right.
        other: (runs, rows), of as many runs.

    Raises:
        ValueError: one has more runs than the other.
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} runs cannot be compared with {len(other)}")
    differences = one.sum(axis=0) - other.sum(axis=0)
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    reach = int(sizes @ counts)
    sums = np.arange(2 * reach + 1)
    cosines = np.cos(np.outer(sizes, sums * 2 * np.pi / len(sums)))
    chances = np.fft.ifft(np.prod(cosines ** counts[:, None], axis=0)).real
    as_far = np.minimum(sums, len(sums) - sums) >= abs(int(differences.sum()))
    return float(np.clip(chances[as_far].sum(), 0.0, 1.0))
