"""From the records of runs to the comparison of what was tried."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePath
from statistics import median

import numpy as np

from lightning_lora.reporting import inference, multiplicity
from lightning_lora.reporting.comparison import (
    Comparison,
    Contrast,
    Interval,
    OptionSummary,
    TaskComparison,
    Unfinished,
)
from lightning_lora.reporting.grouping import Run, groups_of, size_of
from lightning_lora.reporting.inference import Runs
from lightning_lora.reporting.notes import Counted, notes_on
from lightning_lora.reporting.options import LORA, axes_of, following_what_is_trained, label_of, settings_of
from lightning_lora.reporting.rank_use import mean_over_runs, read_rank_use
from lightning_lora.reporting.record import RunRecord
from lightning_lora.reporting.resampling import Floats, example_covariance
from lightning_lora.reporting.scored import (
    Scored,
    dev_split_of,
    on_the_same_examples,
    read_curve,
    read_scored,
)
from lightning_lora.settings import ConfigError
from lightning_lora.spelling import did_you_mean
from lightning_lora.tasks import metrics_for

SEED = 0
"""Of the bootstrap, so that the same records give the same report."""


def compare(
    records: Mapping[Path, RunRecord],
    *,
    determines_result: Callable[[str, str], bool],
    reference: str | None = None,
    unreadable: Mapping[Path, str] | None = None,
) -> Comparison:
    """Compare the options that were tried on each task.

    Options are compared that `groups_of` puts together. A job that is there twice counts once. Besides the records,
    predictions and logs are read from the runs' folders. The same records give the same comparison, to the bit.

    Args:
        records: By their runs' folders.
        determines_result: Whether a key of the configuration, by its full name, tells two options of a ``lora.method``
            apart.
        reference: Label of the option that others' quality is relative to; None is the best one that adapts
            everything ("all"), or else the best.
        unreadable: What to say of records that could not be read.

    Raises:
        ConfigError: no task has an option with that label.
    """
    runs = [Run(folder, record, settings_of(record, determines_result)) for folder, record in records.items()]
    tasks = tuple(_compare_task(group, reference) for group in groups_of(runs))
    labels = [option.label for task in tasks for option in task.options]
    if reference is not None and reference not in labels:
        hint = did_you_mean(reference, labels) or f"; there are {'; '.join(dict.fromkeys(labels)) or 'none'}"
        raise ConfigError(f"no option is labelled {reference!r}{hint}")
    return Comparison(tasks, tuple((unreadable or {}).items()))


@dataclass(frozen=True)
class _Option:
    """The finished runs of an option by rising seed, and their place among all of the task's."""

    label: str
    runs: tuple[Run, ...]
    scored: tuple[Scored, ...]
    of_chance: Runs


def _compare_task(runs: Sequence[Run], wanted: str | None) -> TaskComparison:
    once = _each_job_once(runs)
    settings = [run.settings for run in once]
    axes = axes_of(settings)
    following = following_what_is_trained(settings, axes)
    labels = {run.folder: label_of(run.settings, [axis for axis in axes if axis not in following]) for run in once}
    scored, unfinished = _sorted_out(once, labels)
    options, repeated = _options(once, scored, labels)
    first = once[0].record
    covariance = _covariance(first.metric, options)
    options.sort(key=lambda option: -option.of_chance.scores.mean())
    reference = _reference(options, wanted)
    contrasts, letters = _contrasts(options, covariance, regression=first.metric in metrics_for(labels=0))
    left_out = [run.option for run in unfinished]
    summaries = tuple(_summary(option, reference, covariance, left_out.count(option.label)) for option in options)
    kept = [run for option in options for run in option.runs]
    checks = [run.record.merge_check for run in kept if run.record.merge_check]
    merged, changed = (sum(check[count] for check in checks) for count in ("rows", "changed_predictions"))
    split, split_rows = dev_split_of(first)
    rows = len(options[0].scored[0].labels) if options else split_rows
    counted = Counted(len(runs) - len(once), repeated, merged, changed, rows, split_rows)
    return TaskComparison(
        task=first.task,
        metric=first.metric,
        base=base_label(str(first.base["name"])),
        base_fingerprint=str(first.base["fingerprint"]),
        split=split,
        dev_rows=rows,
        same_parameters_as=size_of(once),
        axes=axes,
        options=summaries,
        contrasts=contrasts,
        groups=letters,
        reference=reference.label if reference else "",
        unfinished=tuple(unfinished),
        notes=notes_on(summaries, letters, [run.settings for run in kept], following, counted),
    )


def base_label(name: str) -> str:
    """A base model in a heading: a name of the hub as it is, of a longer path the end."""
    parts = PurePath(name).parts
    return name if len(parts) < 3 else f"…/{parts[-2]}/{parts[-1]}"


def _each_job_once(runs: Sequence[Run]) -> list[Run]:
    """The first run of each job that can be compared, or else the first finished one, or else the first."""
    by_job: dict[str, list[Run]] = {}
    for run in runs:
        by_job.setdefault(run.record.job_id, []).append(run)
    return [same[0] if len(same) == 1 else min(same, key=_defects) for same in by_job.values()]


def _defects(run: Run) -> int:
    """0 of a run that can be compared, 1 of one whose predictions cannot be read, 2 of one that did not finish."""
    if run.record.status != "finished":
        return 2
    try:
        read_scored(run.folder, run.record)
    except ValueError:
        return 1
    return 0


def _sorted_out(runs: Sequence[Run], labels: Mapping[Path, str]) -> tuple[dict[Path, Scored], list[Unfinished]]:
    """Predictions of the runs that can be compared, and the others with what is wrong with them."""
    scored: dict[Path, Scored] = {}
    wrong: dict[Path, tuple[str, str | None]] = {}
    for run in runs:
        if run.record.status != "finished":
            wrong[run.folder] = run.record.status, run.record.error
            continue
        try:
            scored[run.folder] = read_scored(run.folder, run.record)
        except ValueError as error:
            wrong[run.folder] = "unusable", str(error)
    for folder in scored.keys() - on_the_same_examples(scored):
        del scored[folder]
        wrong[folder] = "unusable", "it was scored on other dev examples than the other runs"
    unfinished = [
        Unfinished(run.folder, labels[run.folder], run.seed, *wrong[run.folder], run.settings)
        for run in runs
        if run.folder in wrong
    ]
    return scored, unfinished


def _options(
    runs: Sequence[Run], scored: Mapping[Path, Scored], labels: Mapping[Path, str]
) -> tuple[list[_Option], int]:
    """The options in order of their names, and how many runs repeat a seed of theirs and are left out."""
    by_label: dict[str, dict[int, Run]] = {}
    usable = [run for run in runs if run.folder in scored]
    for run in usable:
        by_label.setdefault(labels[run.folder], {}).setdefault(run.seed, run)
    options, position = [], 0
    for label, by_seed in sorted(by_label.items()):
        kept = tuple(by_seed[seed] for seed in sorted(by_seed))
        tables = tuple(scored[run.folder] for run in kept)
        scores = np.array([run.record.score for run in kept], dtype=np.float64)
        places = np.arange(position, position + len(kept))
        options.append(_Option(label, kept, tables, Runs(tuple(run.seed for run in kept), scores, places)))
        position += len(kept)
    return options, len(usable) - position


def _covariance(metric: str, options: Sequence[_Option]) -> Floats:
    tables = [table for option in options for table in option.scored]
    if not tables:
        return np.zeros((0, 0))
    return example_covariance(metric, tables[0].labels, np.stack([table.predictions for table in tables]), SEED)


def _reference(options: Sequence[_Option], wanted: str | None) -> _Option | None:
    named = [option for option in options if option.label == wanted]
    everything = [option for option in options if option.runs[0].settings[LORA] == "all"]
    return next(iter([*named, *everything, *options]), None)


def _contrasts(
    options: Sequence[_Option], covariance: Floats, *, regression: bool
) -> tuple[tuple[Contrast, ...], dict[str, str]]:
    """Each option against the first, and the letters of all."""
    pairs = list(combinations(range(len(options)), 2))
    estimates = [
        inference.difference(options[other].of_chance, options[one].of_chance, covariance) for one, other in pairs
    ]
    p_values = [estimate.p_value() for estimate in estimates]
    corrected = multiplicity.holm(p_values)
    different = [pair for pair, p in zip(pairs, corrected, strict=True) if p < inference.LEVEL]
    letters = multiplicity.groups(len(options), different)
    contrasts = [
        Contrast(
            option=options[other].label,
            difference=estimate.interval(),
            p_bootstrap=p_value,
            p_mcnemar=None if regression else _mcnemar(options[other], options[one]),
            p_holm=float(p_corrected),
            detectable=estimate.detectable(len(pairs)),
        )
        for (one, other), estimate, p_value, p_corrected in zip(pairs, estimates, p_values, corrected, strict=True)
        if one == 0
    ]
    return tuple(contrasts), {option.label: letter for option, letter in zip(options, letters, strict=True)}


def _mcnemar(one: _Option, other: _Option) -> float:
    seeds = inference.as_many(one.of_chance.seeds, other.of_chance.seeds)
    return inference.mcnemar(*(_right(option, of) for option, of in zip((one, other), seeds, strict=True)))


def _right(option: _Option, seeds: Sequence[int]) -> inference.Booleans:
    tables = dict(zip(option.of_chance.seeds, option.scored, strict=True))
    return np.stack([tables[seed].predictions == tables[seed].labels for seed in seeds])


def _summary(option: _Option, reference: _Option | None, covariance: Floats, unfinished: int) -> OptionSummary:
    records = [run.record for run in option.runs]
    scores = option.of_chance.scores
    best = tuple(record.score if record.best_score is None else record.best_score for record in records)
    memory = [record.peak_memory_bytes for record in records if record.peak_memory_bytes is not None]
    curves = (read_curve(run.folder, run.seed) for run in option.runs)
    return OptionSummary(
        label=option.label,
        settings=option.runs[0].settings,
        folders=tuple(run.folder for run in option.runs),
        seeds=option.of_chance.seeds,
        scores=tuple(scores.tolist()),
        best_epoch_scores=tuple(float(score) for score in best if score is not None),
        mean=inference.mean_over_seeds(scores),
        median=median(scores.tolist()),
        deviation=float(scores.std(ddof=1)) if len(scores) > 1 else None,
        relative=_relative(option, reference, covariance),
        adapter_parameters=int(records[0].parameters["adapter"]),
        trainable_percent=float(records[0].parameters["trainable_percent"]),
        fit_seconds=median(record.seconds["fit"] for record in records),
        peak_memory_bytes=int(median(memory)) if memory else None,
        curves=tuple(curve for curve in curves if curve is not None),
        unfinished=unfinished,
        over_examples=inference.mean_over_examples(option.of_chance, covariance),
        rank_use=mean_over_runs([read_rank_use(run.folder) for run in option.runs]),
    )


def _relative(option: _Option, reference: _Option | None, covariance: Floats) -> Interval | None:
    if option is reference:
        return Interval(1.0) if option.of_chance.scores.mean() > 0 else None
    return inference.relative_to(option.of_chance, reference.of_chance, covariance) if reference else None
