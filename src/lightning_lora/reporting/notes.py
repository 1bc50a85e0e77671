"""What a reader has to know to read a task's numbers rightly, a sentence each."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from scipy import special

from lightning_lora.reporting.comparison import OptionSummary
from lightning_lora.reporting.formatting import points
from lightning_lora.reporting.inference import LEVEL
from lightning_lora.reporting.options import LORA, Settings, Value, axes_of, each_at_its_own, following_what_is_trained
from lightning_lora.settings import shown

ENOUGH_SEEDS = 5
MANY_OPTIONS = 10


@dataclass(frozen=True)
class Counted:
    """What was counted over a task's runs.

    Attributes:
        repeated_jobs: Runs that are left out, of a job that is there already.
        repeated_seeds: Runs that are left out, of an option that has this seed already, by a job that differs in
            nothing that is told apart.
        merged: Predictions of adapted models that were compared with those of the merged ones.
        changed_by_merging: Those of them that were others.
        scored_rows: Dev rows that the runs were scored on, all of them on the same.
        split_rows: Rows of the dev split.
    """

    repeated_jobs: int
    repeated_seeds: int
    merged: int
    changed_by_merging: int
    scored_rows: int
    split_rows: int


def notes_on(
    options: Sequence[OptionSummary],
    groups: Mapping[str, str],
    runs: Sequence[Settings],
    not_in_labels: Collection[str],
    counted: Counted,
) -> tuple[str, ...]:
    """The notes on a task.

    Args:
        options: The best mean first.
        groups: Their letters.
        runs: Settings of the runs that the options have.
        not_in_labels: Settings that vary and that no label tells, since what is trained decides them.
        counted: Runs that are left out, and what merging did.
    """
    notes = [*_on_seeds(options), *_on_choosing(options)]
    if "" in groups.values():
        notes.append("Too many groups for letters: a marks the options that cannot be told apart from the best.")
    axes = axes_of(runs)
    following = following_what_is_trained(runs, [axis for axis in axes if axis == LORA or axis in not_in_labels])
    for axis, values in following.items():
        notes.append(f"Each option had its own {axis}: {_values_of_options(values)}.")
    if "lr" not in following and each_at_its_own("lr", runs, axes):
        notes.append("The learning rates differ: each option ran at its own, which its label tells.")
    if counted.scored_rows < counted.split_rows:
        notes.append(f"Scored on {counted.scored_rows:,} of {counted.split_rows:,} dev rows.")
    if counted.repeated_jobs:
        notes.append(f"Jobs that were there more than once count once: {counted.repeated_jobs} left out.")
    if counted.repeated_seeds:
        notes.append(f"Runs that repeat a seed of their option are left out: {counted.repeated_seeds}.")
    if counted.merged:
        notes.append(f"Merging changed {counted.changed_by_merging:,} of {counted.merged:,} predictions.")
    return tuple(notes)


def _values_of_options(values: Mapping[str, Value]) -> str:
    """A value for each, and those that most of them have said once: ``full bf16-mixed, the others bf16-frozen``."""
    ((usual, count),) = Counter(values.values()).most_common(1)
    said = [f"{name} {shown(value)}" for name, value in sorted(values.items()) if count == 1 or value != usual]
    return ", ".join(said if count == 1 else [*said, f"the others {shown(usual)}"])


def _on_seeds(options: Sequence[OptionSummary]) -> list[str]:
    counts = sorted({len(option.seeds) for option in options})
    notes = []
    if counts == [1]:
        notes.append(
            "One seed an option: intervals and tests are over dev examples alone, as if every seed gave the same; "
            "how much seeds differ is not known."
        )
    elif counts and counts[0] == 1:
        notes.append(
            "Options with one seed: against one with several, seeds are taken to differ as that one's do; against each "
            "other tests are over dev examples alone, as if every seed gave the same."
        )
    for count in (n for n in counts if 1 < n < ENOUGH_SEEDS):
        errors = special.stdtrit(count - 1, 1 - LEVEL / 2)
        five = special.stdtrit(ENOUGH_SEEDS - 1, 1 - LEVEL / 2)
        notes.append(
            f"With {count} seeds a 95 % interval over seeds reaches {errors:.1f} standard errors to either side, "
            f"with {ENOUGH_SEEDS} it is {five:.1f}."
        )
    if len({option.seeds for option in options}) > 1:
        notes.append(
            "Not all options ran with the same seeds: two that did are paired by them, two others are compared as "
            "drawn apart."
        )
    return notes


def _on_choosing(options: Sequence[OptionSummary]) -> list[str]:
    notes = []
    gains = [
        best - last for option in options for best, last in zip(option.best_epoch_scores, option.scores, strict=True)
    ]
    if gains:
        notes.append(
            f"Scores are of the last epoch. The best epoch is picked on the dev examples, which flatters: here by "
            f"{points(mean(gains))} points on average."
        )
    if len(options) > 2:
        pairs = len(options) * (len(options) - 1) // 2
        notes.append(
            f"p (Holm) and the groups are corrected for all {pairs} pairs of options, since which is best was read off "
            "the same scores."
        )
    if len(options) > MANY_OPTIONS:
        notes.append("So many options hide all but large differences: run the few best again, with more new seeds.")
    return notes
