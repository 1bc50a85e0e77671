"""Intervals and tests against SciPy, statsmodels and formulas worked out by hand."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from lightning_lora.reporting import inference
from lightning_lora.reporting.inference import Estimate, Runs, difference, holm, mcnemar

ONE = np.array([0.70, 0.74, 0.69, 0.77])
OTHER = np.array([0.66, 0.71, 0.70, 0.69])


def runs(scores: NDArray[np.float64], first: int = 0, seeds: tuple[int, ...] | None = None) -> Runs:
    return Runs(seeds or tuple(range(len(scores))), scores, np.arange(first, first + len(scores)))


def nothing(size: int) -> NDArray[np.float64]:
    return np.zeros((size, size))


def ends(interval: inference.Interval) -> list[float]:
    assert interval.low is not None
    assert interval.high is not None
    return [interval.low, interval.high]


def test_the_mean_over_seeds_is_students() -> None:
    found = inference.mean_over_seeds(ONE)
    expected = stats.ttest_1samp(ONE, 0).confidence_interval()
    assert found.value == ONE.mean()
    assert ends(found) == pytest.approx(list(expected))
    assert inference.mean_over_seeds(ONE[:1]) == inference.Interval(ONE[0])


def test_without_chance_in_the_examples_a_difference_is_the_paired_t_test() -> None:
    found = difference(runs(ONE), runs(OTHER, 4), nothing(8))
    expected = stats.ttest_rel(ONE, OTHER)
    assert found.value == pytest.approx((ONE - OTHER).mean())
    assert found.p_value() == pytest.approx(expected.pvalue)
    assert ends(found.interval()) == pytest.approx(list(expected.confidence_interval()))


def test_without_common_seeds_it_is_welchs() -> None:
    found = difference(runs(ONE), runs(OTHER[:3], 4, (7, 8, 9)), nothing(8))
    expected = stats.ttest_ind(ONE, OTHER[:3], equal_var=False)
    assert found.p_value() == pytest.approx(expected.pvalue)
    assert ends(found.interval()) == pytest.approx(list(expected.confidence_interval()))


def test_a_seed_that_one_lacks_costs_no_run_of_the_others() -> None:
    """Paired are options with the same seeds; a pair of runs among ten is no pairing, and the others count."""
    one, other = np.append(ONE, 0.72), np.append(OTHER, 0.67)
    for seeds in ((3, 4, 5, 6, 7), (4, 5, 6, 7, 8), (5, 6, 7, 8, 9)):
        found = difference(runs(one), runs(other, 5, seeds), nothing(10))
        assert found.value == pytest.approx(one.mean() - other.mean())
        assert found.p_value() == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)


def test_a_single_run_against_several_varies_as_they_do() -> None:
    """The prediction interval of one more run: t with n - 1 degrees of freedom and S² (1 + 1/n)."""
    several, single = runs(ONE), runs(OTHER[:1], 4)
    wide = stats.t.ppf(0.975, 3) * ONE.std(ddof=1) * (1 + 1 / 4) ** 0.5
    for found, value in (
        (difference(several, single, nothing(5)), ONE.mean() - OTHER[0]),
        (difference(single, several, nothing(5)), OTHER[0] - ONE.mean()),
    ):
        assert ends(found.interval()) == pytest.approx([value - wide, value + wide])
    weighted = difference(several, single, nothing(5), weight=2.0)
    assert weighted.over_seeds == pytest.approx(ONE.var(ddof=1) * (1 / 4 + 4))


def test_equal_options_of_which_one_has_a_single_run_differ_as_rarely_as_they_should() -> None:
    generator = np.random.default_rng(0)
    found, over_examples = [], []
    for _ in range(300):
        difficulty = generator.beta(4, 1, 500)
        right = generator.random((6, 500)) < np.clip(difficulty + generator.normal(0, 0.02, (6, 1)), 0, 1)
        covariance, scores = np.cov(right, bias=True) / 500, right.mean(axis=1)
        estimate = difference(runs(scores[:5]), runs(scores[5:], 5), covariance)
        found.append(estimate.p_value())
        over_examples.append(2 * stats.norm.sf(abs(estimate.value) / estimate.over_examples**0.5))
    assert np.mean(np.array(found) < 0.05) < 0.07
    assert np.mean(np.array(over_examples) < 0.05) > 0.15, "the control: as if seeds made no difference"


def test_one_seed_each_leaves_the_examples() -> None:
    """Variance of a difference of two means on the same rows: 0.04 + 0.09 - 2 · 0.03."""
    covariance = np.array([[0.04, 0.03], [0.03, 0.09]])
    found = difference(runs(ONE[:1]), runs(OTHER[:1], 1), covariance)
    assert found.error**2 == pytest.approx(0.07)
    assert found.p_value() == pytest.approx(2 * stats.norm.sf(0.04 / 0.07**0.5))


@pytest.mark.parametrize("paired", [True, False])
def test_what_examples_do_to_all_runs_alike_is_found_among_what_they_do_to_each(paired: bool) -> None:
    """Every run of the first option has 0.05 in common with the others of it, of the second 0.02; 0.01 is in both."""
    covariance = np.full((8, 8), 0.01)
    covariance[:4, :4], covariance[4:, 4:] = 0.05, 0.02
    covariance += np.diag(np.full(8, 0.3))
    seeds = (0, 1, 2, 3) if paired else (5, 6, 7, 8)
    found = difference(runs(ONE), runs(OTHER, 4, seeds), covariance)
    assert found.over_examples == pytest.approx(0.05 + 0.02 - 2 * 0.01)


def test_seeds_that_agree_by_coincidence_are_no_proof() -> None:
    """Two seeds, either 0.01 apart; each run varies by 1e-4 over examples, on its own."""
    one, other = np.array([0.71, 0.74]), np.array([0.70, 0.73])
    found = difference(runs(one), runs(other, 2), np.diag(np.full(4, 1e-4)))
    assert found.over_seeds == pytest.approx(1e-4)
    assert found.p_value() > 0.3
    assert difference(runs(one), runs(other, 2), nothing(4)).p_value() == 0.0
    assert difference(runs(one), runs(one, 2), nothing(4)).p_value() == 1.0


def test_scores_that_agree_to_float32_agree() -> None:
    """The same coincidence in scores as records hold them: 57.04 less 56.32 % of 277 rows is the same twice."""
    rounded = [np.array(rights, dtype=np.float32) / np.float32(277) for rights in ([158, 149], [156, 147])]
    one, other = (scores.astype(np.float64) for scores in rounded)
    assert (one - other).std() > 0, "the control: they differ by what float32 rounds"
    found = difference(runs(one), runs(other, 2), np.diag(np.full(4, 1e-4)))
    assert found.over_seeds == pytest.approx(1e-4)
    assert inference.mean_over_seeds(np.array([0.5740, 0.5740 + 3e-8])).low is None


def test_runs_that_predict_alike_do_not_differ_whatever_is_rounded() -> None:
    covariance = np.full((2, 2), 0.1)
    covariance[0, 1] = covariance[1, 0] = 0.1 + 1e-17
    for scores in (ONE[:1], ONE[:1] + 1e-16):
        assert difference(runs(ONE[:1]), runs(scores, 1), covariance + 1e-18).p_value() == 1.0
    assert difference(runs(ONE[:1]), runs(OTHER[:1], 1), np.array([[0.1, 0.2], [0.2, 0.1]])).over_examples == 0.0


@given(st.floats(1e-6, 1), st.floats(0, 1), st.sampled_from([1.0, 2.0, 4.0]), st.floats(0.01, 0.99))
def test_the_p_value_is_the_level_at_which_the_interval_ends_at_zero(
    seeds: float, examples: float, freedom: float, level: float
) -> None:
    found = Estimate(0.0, seeds, examples, freedom)
    at_the_end = Estimate(found.quantile(level) * found.error, seeds, examples, freedom)
    assert at_the_end.p_value() == pytest.approx(level, abs=1e-6)


def test_relative_quality_by_the_delta_method() -> None:
    """Of 0.9 to 0.6 with independent errors 0.02 and 0.01: 1.5 · sqrt((0.02 / 0.9)² + (0.01 / 0.6)²)."""
    found = inference.relative_to(runs(np.array([0.9])), runs(np.array([0.6]), 1), np.diag(np.array([0.0004, 0.0001])))
    assert found is not None
    half = stats.norm.ppf(0.975) * 1.5 * np.hypot(0.02 / 0.9, 0.01 / 0.6)
    assert [found.value, *ends(found)] == pytest.approx([1.5, 1.5 - half, 1.5 + half])


def test_nothing_is_relative_to_what_may_be_zero() -> None:
    assert inference.relative_to(runs(ONE), runs(np.zeros(4), 4), nothing(8)) is None
    near = np.array([0.02, -0.01, 0.05, 0.01])
    assert stats.ttest_1samp(near, 0).confidence_interval().low < 0 < near.mean()
    assert inference.relative_to(runs(ONE), runs(near, 4), nothing(8)) is None
    assert inference.relative_to(runs(ONE), runs(near + 0.1, 4), nothing(8)) is not None
    assert inference.relative_to(runs(ONE), runs(near + 0.1, 4), np.diag(np.full(8, 0.1))) is None, "over examples"


def test_a_variance_that_rounding_makes_negative_is_none() -> None:
    found = inference.mean_over_examples(runs(ONE[:2]), np.array([[1.0, -1.0], [-1.0 - 1e-16, 1.0 - 1e-15]]) * 1e-4)
    assert ends(found) == [found.value, found.value]


@pytest.mark.parametrize("n", [3, 5, 20])
def test_the_detectable_difference_is_the_t_tests(n: int) -> None:
    spread = 0.03
    found = Estimate(0.0, spread**2 / n, 0.0, n - 1.0).detectable()
    assert TTestPower().power(found / spread, n, 0.05) == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize("pairs", [3, 15])
def test_the_detectable_difference_is_that_of_the_corrected_test(pairs: int) -> None:
    spread, n = 0.03, 5
    found = Estimate(0.0, spread**2 / n, 0.0, n - 1.0).detectable(pairs)
    assert TTestPower().power(found / spread, n, 0.05 / pairs) == pytest.approx(0.8, abs=1e-4)


def test_the_detectable_difference_of_two_seeds() -> None:
    """With one degree of freedom the estimated error is the true one times |z|: integrated over z."""
    shift, critical = Estimate(0.0, 1.0, 0.0, 1.0).detectable(), stats.t.ppf(0.975, 1)
    power, _ = integrate.quad(lambda z: 2 * stats.norm.pdf(z) * stats.norm.sf(critical * z - shift), 0, np.inf)
    assert power == pytest.approx(0.8, abs=1e-4)


def test_the_detectable_difference_over_examples_is_the_normal_tests() -> None:
    factor = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert Estimate(0.0, None, 0.0004, np.inf).detectable() == pytest.approx(0.02 * factor)


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_holm_is_statsmodels(size: int) -> None:
    p_values = (np.random.default_rng(size).integers(0, 40, size) / 400).tolist()  # with ties
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])


def test_mcnemar_is_statsmodels() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.random((1, 90)) < 0.8, generator.random((1, 90)) < 0.65
    table = [[(first & second).sum() for second in (other, ~other)] for first in (one, ~one)]
    assert mcnemar(one, other) == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert mcnemar(one, one) == 1.0


def test_with_several_runs_mcnemar_turns_round_the_whole_of_each_difference() -> None:
    """Counted out: of the 2^12 ways in which twelve differences may be turned round, those with as large a sum."""
    generator = np.random.default_rng(0)
    one, other = generator.random((3, 12)) < 0.9, generator.random((3, 12)) < 0.4
    differences = one.sum(0) - other.sum(0)
    signs = np.array(list(product([-1, 1], repeat=12)))
    as_far = np.abs(signs @ differences) >= abs(differences.sum())
    assert 0.001 < as_far.mean() < 0.2
    assert mcnemar(one, other) == pytest.approx(as_far.mean())


def test_an_option_is_no_better_for_being_right_more_evenly() -> None:
    """Both have 40 % right: one 100 rows in one run of five each, the other 20 rows in all five, and 100 alike."""
    rows = np.arange(300)
    one = np.stack([(rows >= 200) | ((rows < 100) & (rows % 5 == run)) for run in range(5)])
    other = np.tile((rows >= 200) | ((rows >= 100) & (rows < 120)), (5, 1))
    assert one.mean() == other.mean() == 0.4
    assert mcnemar(one, other) == pytest.approx(1.0)
    leaning = one.mean(0) - other.mean(0)
    of_signs = stats.binomtest(int((leaning > 0).sum()), int((leaning != 0).sum())).pvalue
    assert of_signs < 1e-12, "the control: counting whose runs are more"


def test_the_same_answers_of_more_seeds_are_no_more_proof() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.random((1, 90)) < 0.8, generator.random((1, 90)) < 0.65
    assert mcnemar(np.repeat(one, 5, axis=0), np.repeat(other, 5, axis=0)) == pytest.approx(mcnemar(one, other))
    assert mcnemar(np.tile(one, 5), np.tile(other, 5)) < mcnemar(one, other)


def test_equal_options_with_more_and_fewer_seeds_differ_as_rarely_as_they_should() -> None:
    generator = np.random.default_rng(0)
    p_values, unequal = [], []
    for _ in range(300):
        difficulty = generator.normal(1.2, 1, 400)
        one, other = (difficulty + generator.normal(0, 0.7, (runs, 400)) > 0 for runs in (1, 5))
        seeds, others = inference.as_many([2], range(5))
        assert seeds == others == [2]
        p_values.append(mcnemar(one, other[others]))
        # The control: the fraction of five runs that are right, against one run's.
        leaning = one.mean(0) - other.mean(0)
        unequal.append(stats.binomtest(int((leaning > 0).sum()), int((leaning != 0).sum())).pvalue)
    assert np.mean(np.array(p_values) < 0.05) < 0.08
    assert np.mean(np.array(unequal) < 0.05) > 0.5
    with pytest.raises(ValueError, match="1 runs cannot be compared with 5"):
        mcnemar(one, other)


def test_seeds_to_compare_run_by_run() -> None:
    assert inference.as_many((0, 1, 2), (1, 2, 3, 4)) == ([1, 2], [1, 2])
    assert inference.as_many((0, 1, 2), (7, 8)) == ([0, 1], [7, 8])


def test_letters_worked_out_by_hand() -> None:
    assert inference.groups(4, [(0, 2), (0, 3), (1, 3)]) == ["a", "ab", "bc", "c"]
    assert inference.groups(3, []) == ["a", "a", "a"]
    assert inference.groups(1, []) == ["a"]
    assert inference.groups(0, []) == []


@given(st.data())
def test_two_share_a_letter_exactly_where_they_are_not_different(data: st.DataObject) -> None:
    options = data.draw(st.integers(1, 7))
    pairs = list(combinations(range(options), 2))
    different = [pair for pair in pairs if data.draw(st.booleans())]
    letters = inference.groups(options, different)
    assert all(letters)
    assert [pair for pair in pairs if not {*letters[pair[0]]} & {*letters[pair[1]]}] == different


def test_where_letters_do_not_suffice_one_marks_those_not_worse_than_the_best() -> None:
    """Ten sets of three, different only within a set: 3^10 groups."""
    different = [pair for k in range(10) for pair in combinations(range(3 * k, 3 * k + 3), 2)]
    assert inference.groups(30, different) == ["a", "", "", *["a"] * 27]
