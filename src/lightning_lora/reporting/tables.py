"""A task's options as a table of text, and what is said under it."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

from lightning_lora.reporting.comparison import Comparison, Contrast, Interval, OptionSummary, TaskComparison
from lightning_lora.reporting.formatting import NOTHING, ends, percent, points, probability
from lightning_lora.tasks import HELD_OUT

PLAIN_SPLIT = "validation"
"""The dev split of most tasks, which goes without saying."""
_LONGEST_HEADING = 24


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes:
        headings: One for each column, some in two lines; the first column is text, the others are numbers or letters.
        rows: As long as ``headings``, the best option first.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def without(self, column: int) -> "TextTable":
        """The table without one of its columns."""
        rows = (self.headings, *self.rows)
        headings, *rest = (row[:column] + row[column + 1 :] for row in rows)
        return TextTable(headings, tuple(rest))


@dataclass(frozen=True)
class _Line:
    """What a row is made of; the best option has no contrast."""

    option: OptionSummary
    contrast: Contrast | None
    group: str


def name_of(task: TaskComparison) -> str:
    """What tells a task's table from the others of a report."""
    return f"{task.task} on {task.base}{f', at {task.held_equal}' if task.held_equal else ''}"


def title_of(task: TaskComparison) -> str:
    """A task in one line."""
    return f"{name_of(task)}: {task.metric} in %, {task.dev_rows} {examples_of(task)}"


def examples_of(task: TaskComparison, noun: str = "rows") -> str:
    """What the scored examples are: "dev rows" of a plain dev split, of any other with what it is."""
    if task.split == HELD_OUT:
        return f"held-out training {noun}"
    return f"dev {noun}" if task.split == PLAIN_SPLIT else f"dev {noun} of {task.split}"


def table_of(task: TaskComparison, *, timings: bool = True) -> TextTable:
    """A task's options, a row each. Scores and differences are in points (a hundredth of the metric).

    Args:
        task: The task.
        timings: Whether to show what depends on the clock.
    """
    columns: dict[str, Callable[[_Line], str]] = {
        "option": lambda line: line.option.label,
        "seeds": lambda line: str(len(line.option.seeds)),
        "mean": lambda line: points(line.option.mean.value),
        f"95 % over\n{'examples' if task.has_single_seeds else 'seeds'}": lambda line: ends(
            task.estimate_of(line.option)
        ),
        "median": lambda line: points(line.option.median),
        "sd": lambda line: points(line.option.deviation),
        "best\nepoch": lambda line: points(mean(line.option.best_epoch_scores)),
        f"% of\n{heading_of(task.reference)}": lambda line: _with_ends(line.option.relative),
        "minus\nbest": lambda line: _with_ends(line.contrast.difference, signed=True) if line.contrast else NOTHING,
        "p\n(Holm)": lambda line: probability(line.contrast.p_holm if line.contrast else None),
        "p\n(McNemar)": lambda line: probability(line.contrast.p_mcnemar if line.contrast else None),
        "detectable": lambda line: points(line.contrast.detectable if line.contrast else None),
        "group": lambda line: line.group,
        "trainable\n%": lambda line: f"{line.option.trainable_percent:.2f}",
        f"size, % of\n{heading_of(task.reference)}": lambda line: percent(task.relative_size(line.option)),
    }
    if timings:
        columns["training\ns"] = lambda line: f"{line.option.fit_seconds:.0f}"
    lines = _lines(task)
    return TextTable(tuple(columns), tuple(tuple(cell(line) for cell in columns.values()) for line in lines))


def heading_of(reference: str) -> str:
    """The reference's label in the heading of a column of numbers, where it is short enough for one."""
    return reference if len(reference) <= _LONGEST_HEADING else "reference"


def lines_under(task: TaskComparison) -> list[str]:
    """A line for each run without a score, with what is known of why; what the headings leave out; and the notes."""
    unfinished = [
        f"{run.folder} ({run.option}, seed {run.seed}): {run.status}{f': {run.error}' if run.error else ''}"
        for run in task.unfinished
    ]
    short = heading_of(task.reference) == task.reference
    return [*unfinished, *([] if short else [f"The reference is {task.reference}."]), *task.notes]


def unreadable_lines(comparison: Comparison) -> list[str]:
    """A line for each record that could not be read."""
    return [f"{folder}: {reason}" for folder, reason in comparison.unreadable]


def _lines(task: TaskComparison) -> list[_Line]:
    contrasts = {contrast.option: contrast for contrast in task.contrasts}
    return [_Line(option, contrasts.get(option.label), task.groups[option.label]) for option in task.options]


def _with_ends(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return NOTHING
    return points(interval.value, signed=signed) + ends(interval, " ({} to {})", signed=signed, without="")
