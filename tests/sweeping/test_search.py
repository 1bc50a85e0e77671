"""A search on disk: what it samples, what it keeps, and what it makes of trials that were cut off."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from lightning_lora.settings import ConfigError
from lightning_lora.sweeping.search import JOURNAL, MOST_ATTEMPTS, Search, distribution, words
from lightning_lora.sweeping.search_settings import SearchSettings

AXES = ("lr=tag(log,interval(1e-5,1e-1))", "rank=4,8,16")


def opened(folder: Path, *axes: str, fixed: tuple[str, ...] = (), **settings: object) -> Search:
    folder.mkdir(exist_ok=True)
    parser = OverridesParser.create()
    read = {word.partition("=")[0]: parser.parse_override(word) for word in axes or AXES}
    return Search(folder, read, list(fixed), SearchSettings(**settings))  # type: ignore[arg-type]


def objective(point: dict[str, object]) -> float | None:
    """Highest at lr=1e-3 and rank 8; rank 16 always fails."""
    distance = abs(math.log10(float(str(point["lr"]))) + 3)
    return None if point["rank"] == "16" else float(point["rank"] == "8") - distance


def carry_on(search: Search, trials: int | None = None) -> None:
    """Run trials until there are no more, or until so many have got a result."""
    while (batch := search.next_trials()) and trials != 0:
        for trial in batch:
            search.tell(trial, objective(trial.params))
        trials = None if trials is None else trials - 1


def points(search: Search) -> list[tuple[object, ...]]:
    return [(*trial.params.values(), trial.value, trial.state) for trial in search.ended]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("lr=interval(1e-5,1e-2)", FloatDistribution(1e-5, 1e-2)),
        ("lr=tag(log,interval(1e-5,1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
        ("rank=int(interval(1,64))", IntDistribution(1, 64)),
        ("rank=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("rank=range(2,9,2)", IntDistribution(2, 8, step=2)),
        ("rank=tag(log,range(1,65))", IntDistribution(1, 64, log=True)),
        ("rank=tag(log,range(64,0,-1))", IntDistribution(1, 64, log=True)),
        ("rank=range(8,1,-2)", IntDistribution(2, 8, step=2)),
        ("lora.dropout=range(0.0,0.5,0.125)", FloatDistribution(0.0, 0.375, step=0.125)),
        ("rank=4,8,4", CategoricalDistribution(["4", "8"])),
        ("lora=choice(qv,qkvo)", CategoricalDistribution(["qv", "qkvo"])),
        ("lora.layers=[0,1],[2,3]", CategoricalDistribution(["[0,1]", "[2,3]"])),
    ],
)
def test_hydras_grammar_says_what_is_sampled(axis: str, expected: BaseDistribution) -> None:
    assert distribution(OverridesParser.create().parse_override(axis)) == expected


@pytest.mark.parametrize(
    ("axis", "why"),
    [
        ("rank=tag(log,range(4,17,4))", "in steps of 1"),
        ("lora.dropout=tag(log,range(1.0,5.0))", "over whole numbers"),
        ("rank=tag(log,range(0,9))", "must start above 0"),
        ("lr=tag(log,interval(0,1))", "must start above 0"),
        ("rank=tag(log,choice(4,8))", "leave tag.* out"),
        ("rank=tag(lg,range(1,9))", "tag lg is unknown"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(axis: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        distribution(OverridesParser.create().parse_override(axis))


def test_random_trials_are_independent_draws_from_the_interval(tmp_path: Path) -> None:
    """Each trial has a generator of its own: together they must still be uniform, here in the logarithm."""
    search = opened(tmp_path, "lr=tag(log,interval(1e-5,1e-1))", sampler="random", n_trials=150, n_jobs=150)
    drawn = np.array([trial.params["lr"] for trial in search.next_trials()])
    assert len(set(drawn)) == 150
    assert scipy.stats.kstest(np.log10(drawn), scipy.stats.uniform(-5, 4).cdf).pvalue > 0.01
    assert scipy.stats.kstest(drawn, scipy.stats.uniform(0, 0.1).cdf).pvalue < 1e-6  # the control
    assert abs(scipy.stats.spearmanr(drawn[1:], drawn[:-1]).statistic) < 0.25


def test_tpe_climbs(tmp_path: Path) -> None:
    search = opened(tmp_path, n_trials=40)
    carry_on(search)
    scores = [trial.value or 0.0 for trial in search.completed]
    assert np.median(scores[-10:]) > np.median(scores[:10])
    assert search.best is not None
    assert search.best.value == max(scores)
    assert search.best.params["rank"] == "8"


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("cut", [0, 1, 13])
def test_a_search_that_was_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path, sampler: str, cut: int) -> None:
    whole = opened(tmp_path / "whole", sampler=sampler, n_trials=16)
    carry_on(whole)
    first = opened(tmp_path / "cut", sampler=sampler, n_trials=16)
    carry_on(first, cut)
    first.next_trials()
    kept = points(first)
    assert len(kept) == cut
    second = opened(tmp_path / "cut", sampler=sampler, n_trials=16)
    assert points(second) == kept
    carry_on(second)
    assert points(second) == points(whole)
    assert len(points(whole)) == 16
    assert 0 < len(whole.completed) < 16, "failures are among them"
    other = opened(tmp_path / "other", sampler=sampler, n_trials=16, seed=1)
    carry_on(other)
    assert points(other) != points(whole)


def test_a_point_that_takes_the_search_down_is_given_up(tmp_path: Path) -> None:
    (bad,) = opened(tmp_path, n_trials=3).next_trials()
    for _ in range(MOST_ATTEMPTS - 1):
        (again,) = opened(tmp_path, n_trials=3).next_trials()
        assert again.params == bad.params
        assert not opened(tmp_path / "other", n_trials=3).ended
    search = opened(tmp_path, n_trials=3)
    assert [trial.params for trial in search.ended] == [bad.params]
    assert not search.completed
    carry_on(search)
    assert len(search.ended) == 3
    assert bad.params not in [trial.params for trial in search.ended[1:]]


def test_a_stop_costs_a_point_no_attempt(tmp_path: Path) -> None:
    """A long trial on a machine that is taken away every hour is no trial that takes the search down."""
    (first,) = opened(tmp_path, n_trials=2).next_trials()
    for _ in range(2 * MOST_ATTEMPTS):
        search = opened(tmp_path, n_trials=2)
        (again,) = search.next_trials()
        assert again.params == first.params
        search.stop([again])
    for _ in range(MOST_ATTEMPTS - 1):
        (again,) = opened(tmp_path, n_trials=2).next_trials()
        assert again.params == first.params
    assert [trial.params for trial in opened(tmp_path, n_trials=2).ended] == [first.params]


def test_a_whole_batch_that_was_cut_off_is_tried_again(tmp_path: Path) -> None:
    batch = [trial.params for trial in opened(tmp_path, n_trials=5, n_jobs=3).next_trials()]
    search = opened(tmp_path, n_trials=5, n_jobs=3)
    again = search.next_trials()
    assert [trial.params for trial in again] == batch
    assert len({trial.number for trial in again}) == 3
    for trial in again:
        search.tell(trial, 0.5)
    assert len(search.next_trials()) == 2


@pytest.mark.parametrize("score", [None, math.nan, math.inf])
def test_no_score_is_a_failure_and_the_search_goes_on(tmp_path: Path, score: float | None) -> None:
    search = opened(tmp_path, n_trials=2)
    search.tell(*search.next_trials(), score)  # type: ignore[call-arg]
    assert (len(search.ended), search.completed, search.best) == (1, [], None)
    search.tell(*search.next_trials(), 0.0)  # type: ignore[call-arg]
    assert search.best is not None
    assert search.next_trials() == []


def test_a_negative_score_is_a_score(tmp_path: Path) -> None:
    search = opened(tmp_path, n_trials=2)
    for score in (-0.5, -0.25):
        search.tell(*search.next_trials(), score)  # type: ignore[call-arg]
    assert search.best is not None
    assert search.best.value == -0.25


def test_more_trials_may_be_asked_for_but_nothing_else(tmp_path: Path) -> None:
    carry_on(opened(tmp_path, n_trials=2, fixed=("epochs=1", "data=rte")))
    search = opened(tmp_path, n_trials=5, n_jobs=2, fixed=("data=rte", "epochs=1"))
    carry_on(search)
    assert len(search.ended) == 5
    for axes, fixed, settings, named in [
        (("lr=interval(1e-5,1e-1)", AXES[1]), ("epochs=1", "data=rte"), {}, "lr=interval"),
        (AXES, ("epochs=2", "data=rte"), {}, "epochs=2"),
        (AXES, ("epochs=1",), {}, "data=rte"),
        (AXES, ("epochs=1", "data=rte"), {"seed": 1}, "seed=1"),
        (AXES, ("epochs=1", "data=rte"), {"sampler": "random"}, "sampler=random"),
    ]:
        with pytest.raises(ConfigError, match=rf"holds a search with other settings \((hydra.sweeper.)?{named}"):
            opened(tmp_path, *axes, fixed=fixed, **settings)


def test_what_a_killed_writer_left_is_mended(tmp_path: Path) -> None:
    search = opened(tmp_path, n_trials=4)
    carry_on(search, 2)
    kept = points(search)
    with (tmp_path / JOURNAL).open("a") as journal:
        journal.write('{"op_code":4,"wor')
    (tmp_path / f"{JOURNAL}.lock").symlink_to(JOURNAL)
    search = opened(tmp_path, n_trials=4)
    assert points(search) == kept
    carry_on(search)
    assert len(points(opened(tmp_path, n_trials=4))) == 4


def test_a_point_as_words(tmp_path: Path) -> None:
    (trial,) = opened(tmp_path, n_trials=1).next_trials()
    parser = OverridesParser.create()
    lr, rank = (parser.parse_override(word) for word in words(trial))
    assert (lr.key_or_group, lr.value()) == ("lr", trial.params["lr"]), "to the bit"
    assert (rank.key_or_group, str(rank.value())) == ("rank", trial.params["rank"])
