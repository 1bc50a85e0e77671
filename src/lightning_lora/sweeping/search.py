"""A search on disk: Optuna's journal in the folder of the sweep, and what is tried next.

What a trial tries is a function of the seed, of its place among the trials and of the results before it. So a search
that was killed goes on as if it had never stopped; within a batch of several trials, which are chosen before the first
of them has a result, that holds up to the batch.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_lora.settings import ConfigError, shown
from lightning_lora.sweeping.search_settings import SearchSettings, is_logarithmic

JOURNAL = "search.journal"
MOST_ATTEMPTS = 3
"""Times that a point is tried whose trial is cut off: a job that takes the search down must not do so for ever."""
_NAME = "search"
# What a trial knows: the earlier ones at its point, how many of them ended unforeseen, whether it was asked to stop.
_CUT_OFF, _LOST, _STOPPED = "cut_off", "lost", "stopped"
_ENDED = (TrialState.COMPLETE, TrialState.FAIL)


def distribution(axis: Override) -> BaseDistribution:
    """What is sampled for an axis of the command line.

    Numbers of an interval or a range are numbers to the sampler. Listed values are names to it, also where they look
    like numbers: nothing says that ``4,8,16`` leaves out what lies between.
    """
    sweep, log = axis.value(), is_logarithmic(axis)
    if isinstance(sweep, IntervalSweep):
        return _numbers(sweep.start, sweep.end, log=log)
    if isinstance(sweep, RangeSweep):
        values: list[Any] = list(axis.sweep_iterator())
        return _numbers(min(values), max(values), step=abs(sweep.step), log=log)
    return CategoricalDistribution(list(dict.fromkeys(axis.sweep_string_iterator())))


class Search:
    """The trials of a search, those of earlier starts included, and the next ones.

    A trial that is found running when the search is opened was cut off. It is marked as failed, and its point is tried
    again, until `MOST_ATTEMPTS` have ended unforeseen; the cut-off trials that were tried again count for nothing.
    """

    def __init__(
        self, folder: Path, axes: Mapping[str, Override], fixed: Sequence[str], settings: SearchSettings
    ) -> None:
        """Open the search of a folder, or begin it.

        Args:
            folder: The folder of the sweep; it is there, and no other process is at work on it.
            axes: What is varied.
            fixed: The overrides that are the same for every trial and belong to what a job is.
            settings: How many trials, and how they are chosen.

        Raises:
            ConfigError: the folder holds a search with other settings.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _mend(folder / JOURNAL)
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        self._study = optuna.create_study(
            storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True, sampler=RandomSampler()
        )
        self._space = {key: distribution(axis) for key, axis in axes.items()}
        self._settings = settings
        _settle_what_was_asked(
            self._study,
            folder,
            [str(axis.input_line) for axis in axes.values()],
            [*fixed, f"hydra.sweeper.sampler={settings.sampler}", f"hydra.sweeper.seed={settings.seed}"],
        )
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._try_again(trial)

    @property
    def ended(self) -> list[FrozenTrial]:
        """The trials that have come to an end, a result or a failure, in their order."""
        return [trial for trial in self._counted() if trial.state in _ENDED]

    @property
    def completed(self) -> list[FrozenTrial]:
        """Those with a result."""
        return [trial for trial in self.ended if trial.state == TrialState.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """The one with the highest score, the first of several; None as long as there is none."""
        return max(self.completed, key=lambda trial: trial.value or 0.0, default=None)

    def next_trials(self) -> list[Trial]:
        """The next batch, empty where all trials have ended."""
        missing = self._settings.n_trials - len(self.ended)
        return [self._ask() for _ in range(min(self._settings.n_jobs, missing))]

    def tell(self, trial: Trial, score: float | None) -> None:
        """Note the result of a trial; None, or what is not finite, is a failure."""
        if score is None or not math.isfinite(score):
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, score)

    def stop(self, trials: Sequence[Trial]) -> None:
        """Note that trials were asked to stop, which costs their points no attempt."""
        for trial in trials:
            trial.set_user_attr(_STOPPED, True)

    def _ask(self) -> Trial:
        place = sum(trial.state != TrialState.WAITING for trial in self._counted())
        self._study.sampler = _sampler(self._settings, place)
        return self._study.ask(self._space)

    def _try_again(self, trial: FrozenTrial) -> None:
        known = trial.user_attrs
        attempts = [*known.get(_CUT_OFF, []), trial.number]
        lost = known.get(_LOST, 0) + (not known.get(_STOPPED, False))
        # Enqueue before marking as failed: a kill in between must neither lose the retry nor enqueue it twice.
        if lost < MOST_ATTEMPTS and trial.number not in self._tried_again():
            self._study.enqueue_trial(trial.params, user_attrs={_CUT_OFF: attempts, _LOST: lost})
        self._study.tell(trial.number, state=TrialState.FAIL)

    def _counted(self) -> list[FrozenTrial]:
        tried_again = self._tried_again()
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.number not in tried_again]

    def _tried_again(self) -> set[int]:
        trials = self._study.get_trials(deepcopy=False)
        return {number for trial in trials for number in trial.user_attrs.get(_CUT_OFF, [])}


def words(trial: Trial | FrozenTrial) -> list[str]:
    """The point of a trial as overrides."""
    return [f"{key}={value}" for key, value in trial.params.items()]


def _numbers(low: Any, high: Any, **settings: Any) -> BaseDistribution:
    whole = isinstance(low, int) and isinstance(high, int)
    return IntDistribution(low, high, **settings) if whole else FloatDistribution(low, high, **settings)


def _sampler(settings: SearchSettings, place: int) -> BaseSampler:
    seed = int(np.random.SeedSequence([settings.seed, place]).generate_state(1)[0])
    return TPESampler(seed=seed) if settings.sampler == "tpe" else RandomSampler(seed=seed)


def _settle_what_was_asked(study: optuna.Study, folder: Path, axes: list[str], fixed: list[str]) -> None:
    asked = [*axes, *sorted(fixed)]
    before = study.user_attrs.get("asked")
    if before is None:
        study.set_user_attr("asked", asked)
    elif before != asked:
        changed = [word for word in asked if word not in before] or [word for word in before if word not in asked]
        raise ConfigError(
            f"{folder} holds a search with other settings ({shown(' '.join(changed) or 'in another order')}); "
            "give hydra.sweep.dir=FOLDER for a new one"
        )


def _mend(journal: Path) -> None:
    """Remove what a process that was killed in the midst of a write leaves: half a line, and Optuna's lock on the file.

    Optuna would append to the half line, and wait for half a minute for the lock.
    """
    if journal.exists():
        with journal.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
