"""What a report says, as values: the options that were tried on a task, their scores, and which of them differ.

`compare` makes it of records and predictions; tables and plots are made of it, and of nothing else.
"""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval; the ends are None where one run cannot give them."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """The headline metric of one run by epoch, as its metrics.jsonl has it; scores are fractions."""

    seed: int
    epochs: tuple[float, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class RankUse:
    """How much of its rank an adapter uses in one layer and role, at the end of training.

    Attributes:
        module: Full name of the layer.
        block: Number of its block; None where that is not known.
        role: Its part in the block, or the end of its name.
        rank: The adapter's there.
        entropy_rank: Of ΔW, see `lightning_lora.analysis`; the mean where several runs are meant.
    """

    module: str
    block: int | None
    role: str
    rank: int
    entropy_rank: float


@dataclass(frozen=True)
class OptionSummary:
    """One option over its seeds. Scores are fractions, of the last epoch unless said otherwise.

    Attributes:
        label: The settings in words, as short as they can be: "qv, rank 8". What is trained may decide others, such as
            a learning rate that was tuned for it; these stand in the task's notes.
        settings: Every setting that determined its results, by its full name: {"lora": "qv", "rank": 8, "epochs": 3}.
        folders: Of the finished runs, in the order of ``seeds``.
        seeds: Of the finished runs, rising.
        scores: In the order of ``seeds``.
        best_epoch_scores: The same of the best epoch, which flatters.
        mean: With a 95 % interval by Student's t over the seeds.
        median: Over the seeds.
        deviation: Standard deviation over the seeds; None of one.
        relative: Quality relative to the reference option (1.0 is as good), with its interval; None where the
            reference's score may well be 0.
        adapter_parameters: Without the head.
        trainable_percent: Of all parameters.
        fit_seconds: Median over the seeds.
        peak_memory_bytes: Median over the seeds; None where it was not measured.
        curves: One for each seed that has a log.
        unfinished: How many further runs of this option did not finish.
        over_examples: The mean with a 95 % interval for these very runs on other examples.
        rank_use: Of each layer and role, the mean over the seeds that logged it; empty where none did.
    """

    label: str
    settings: dict[str, str | int | float | bool | None]
    folders: tuple[Path, ...]
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    best_epoch_scores: tuple[float, ...]
    mean: Interval
    median: float
    deviation: float | None
    relative: Interval | None
    adapter_parameters: int
    trainable_percent: float
    fit_seconds: float
    peak_memory_bytes: int | None
    curves: tuple[Curve, ...]
    unfinished: int = 0
    over_examples: Interval | None = None
    rank_use: tuple[RankUse, ...] = ()


@dataclass(frozen=True)
class Contrast:
    """One option against the best one of its task, on the same dev examples. Differences are option minus best.

    Attributes:
        option: Label of the option.
        difference: In the score, with its 95 % interval over seeds and examples together (`inference.difference`).
        p_bootstrap: Two-sided, of the same interval; not corrected.
        p_mcnemar: Exact, over the examples, the runs being given (`inference.mcnemar`); None for a regression.
        p_holm: ``p_bootstrap`` corrected by Holm over all pairs of the task's options, not over its contrasts alone:
            which option is the best was read off the same scores.
        detectable: The smallest difference that this design would have found with a power of 80 % at 5 %, corrected
            for all pairs as well.
    """

    option: str
    difference: Interval
    p_bootstrap: float
    p_mcnemar: float | None
    p_holm: float
    detectable: float


@dataclass(frozen=True)
class Unfinished:
    """A run without a score: its folder, its status, and why, in one line; settings as in `OptionSummary`."""

    folder: Path
    option: str
    seed: int
    status: str
    error: str | None
    settings: dict[str, str | int | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskComparison:
    """All options of one task on one base model and the same data.

    Attributes:
        task: Its name.
        metric: Name of the headline metric.
        base: Name of the base model.
        base_fingerprint: Of its weights; a name says little of them.
        split: Name of the split that is scored.
        dev_rows: Examples of it that are scored.
        axes: Full names of the settings that vary, seed left out, in the order in which a reader expects them.
        options: The best mean first.
        contrasts: One for each option but the first, in the same order.
        groups: For each option the letters of the groups it belongs to; two that share one cannot be told apart (where
            there are too many groups, see `multiplicity.groups`).
        reference: Label of the option that ``relative`` is relative to.
        unfinished: Runs that failed, diverged, were stopped or still run, and those that are "unusable" because their
            predictions are missing, or are of other examples.
        notes: What a reader has to know to read the numbers rightly, a sentence each.
        same_parameters_as: The choice of layers whose parameters all adapters have; None where ranks alone decide.
    """

    task: str
    metric: str
    base: str
    base_fingerprint: str
    split: str
    dev_rows: int
    axes: tuple[str, ...]
    options: tuple[OptionSummary, ...]
    contrasts: tuple[Contrast, ...]
    groups: dict[str, str]
    reference: str
    unfinished: tuple[Unfinished, ...]
    notes: tuple[str, ...] = ()
    same_parameters_as: str | None = None

    @property
    def held_equal(self) -> str:
        """What choices of layers have in common: "rank 8", "the parameters of all at rank 5"; "" for nothing."""
        adapted = [option.settings for option in self.options if "rank" in option.settings]
        ranks, choices = ({settings[name] for settings in adapted} for name in ("rank", "lora"))
        matched = self.same_parameters_as
        rank = f"rank {ranks.pop()}" if len(ranks) == 1 and (matched or len(choices) > 1) else ""
        return " at ".join(part for part in (f"the parameters of {matched}" if matched else "", rank) if part)

    @property
    def has_single_seeds(self) -> bool:
        """Whether no option has a second seed, so that nothing is known of how much seeds differ."""
        return all(len(option.seeds) == 1 for option in self.options)

    def estimate_of(self, option: OptionSummary) -> Interval:
        """The mean with its interval over seeds; over examples where every option has but one seed."""
        return option.over_examples or option.mean if self.has_single_seeds else option.mean

    def relative_size(self, option: OptionSummary) -> float | None:
        """Parameters that the option trains, head included, per one that the reference trains."""
        shares = {other.label: other.trainable_percent for other in self.options}
        return option.trainable_percent / shares[self.reference] if shares.get(self.reference) else None

    def ties_with_best(self, option: OptionSummary) -> bool:
        """Whether an option shares a group with the best one, as that itself does."""
        return bool(set(self.groups[option.label]) & set(self.groups[self.options[0].label]))


@dataclass(frozen=True)
class Comparison:
    """Everything a report shows, a task at a time.

    Attributes:
        tasks: In the order in which they were found.
        unreadable: Records that could not be read, with the reason.
    """

    tasks: tuple[TaskComparison, ...]
    unreadable: tuple[tuple[Path, str], ...] = ()
