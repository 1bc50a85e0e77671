"""A comparison as tables of text, and on the terminal."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_lora.reporting.comparison import Comparison, Contrast, Interval, OptionSummary, TaskComparison
from lightning_lora.reporting.listing import LONGEST_LINE

NOTHING = "–"
# How the headings begin of the columns that a narrow terminal goes without, the first of them first.
_SPARE = ("median", "p\n(McNemar)", "training", "best", "sd", "detectable", "trainable", "% of", "95 %")


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        headings: One for each column, some in two lines; the first column is text, the others are numbers or letters.
        rows: As long as ``headings``, the best option first.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def without(self, column: int) -> "Grid":
        """The table without one of its columns."""
        rows = (self.headings, *self.rows)
        headings, *rest = (row[:column] + row[column + 1 :] for row in rows)
        return Grid(headings, tuple(rest))


@dataclass(frozen=True)
class _Line:
    """What a row is made of; the best option has no contrast."""

    option: OptionSummary
    contrast: Contrast | None
    group: str


def title_of(task: TaskComparison) -> str:
    """A task in one line."""
    return f"{task.task} on {task.base}: {task.metric} in %, {task.dev_rows} dev rows"


def grid_of(task: TaskComparison, *, timings: bool = True) -> Grid:
    """A task's options, a row each. Scores and differences are in points (a hundredth of the metric).

    Args:
        task: The task.
        timings: Whether to show what depends on the clock.
    """
    alone = all(len(option.seeds) == 1 for option in task.options)
    columns: dict[str, Callable[[_Line], str]] = {
        "option": lambda line: line.option.label,
        "seeds": lambda line: str(len(line.option.seeds)),
        "mean": lambda line: _points(line.option.mean.value),
        f"95 % over\n{'examples' if alone else 'seeds'}": lambda line: _ends(
            line.option.over_examples if alone else line.option.mean
        ),
        "median": lambda line: _points(line.option.median),
        "sd": lambda line: _points(line.option.deviation),
        "best\nepoch": lambda line: _points(mean(line.option.best_epoch_scores)),
        f"% of\n{task.reference}": lambda line: _with_ends(line.option.relative),
        "minus\nbest": lambda line: _with_ends(line.contrast.difference, signed=True) if line.contrast else NOTHING,
        "p\n(Holm)": lambda line: _p(line.contrast.p_holm if line.contrast else None),
        "p\n(McNemar)": lambda line: _p(line.contrast.p_mcnemar if line.contrast else None),
        "detectable": lambda line: _points(line.contrast.detectable if line.contrast else None),
        "group": lambda line: line.group,
        "trainable\n%": lambda line: f"{line.option.trainable_percent:.2f}",
    }
    if timings:
        columns["training\ns"] = lambda line: f"{line.option.fit_seconds:.0f}"
    lines = _lines(task)
    return Grid(tuple(columns), tuple(tuple(cell(line) for cell in columns.values()) for line in lines))


def unfinished_lines(task: TaskComparison) -> list[str]:
    """A line for each run without a score, with what is known of why."""
    return [
        f"{run.folder} ({run.option}, seed {run.seed}): {run.status}{f': {run.error}' if run.error else ''}"
        for run in task.unfinished
    ]


def unreadable_lines(comparison: Comparison) -> list[str]:
    """A line for each record that could not be read."""
    return [f"{folder}: {reason}" for folder, reason in comparison.unreadable]


def print_comparison(comparison: Comparison, console: Console | None = None, *, timings: bool = True) -> None:
    """Print a table for each task, under it the runs without a score and what is to be known.

    Args:
        comparison: What `compare` made.
        console: Where to; None is standard output. Where that is no terminal, a row is one line however long it is;
            a terminal that is too narrow goes without some columns, and says so.
        timings: Whether to show what depends on the clock.
    """
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = LONGEST_LINE
    for task in comparison.tasks:
        if task.options:
            _print_grid(grid_of(task, timings=timings), title_of(task), console)
        else:
            console.print(f"{escape(title_of(task))}: no run to compare", soft_wrap=True)
        for line in [*unfinished_lines(task), *task.notes]:
            console.print(f"  {escape(line)}", soft_wrap=True)
        console.print()
    for line in unreadable_lines(comparison):
        console.print(f"left out: {escape(line)}", soft_wrap=True)


def _lines(task: TaskComparison) -> list[_Line]:
    contrasts = {contrast.option: contrast for contrast in task.contrasts}
    return [_Line(option, contrasts.get(option.label), task.groups[option.label]) for option in task.options]


def _print_grid(grid: Grid, title: str, console: Console) -> None:
    left_out = []
    for spare in _SPARE:
        if (
            console.measure(_rich_table(grid), options=console.options.update(width=LONGEST_LINE)).maximum
            <= console.width
        ):
            break
        column = next((i for i, heading in enumerate(grid.headings) if heading.startswith(spare)), None)
        if column is not None:
            left_out.append(grid.headings[column].replace("\n", " "))
            grid = grid.without(column)
    console.print(escape(title), soft_wrap=True)
    console.print(_rich_table(grid))
    if left_out:
        console.print(f"  left out, since the terminal is narrow: {escape(', '.join(left_out))}", soft_wrap=True)


def _rich_table(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for position, heading in enumerate(grid.headings):
        table.add_column(escape(heading), justify="right" if position else "left")
    for row in grid.rows:
        table.add_row(*map(escape, row))
    return table


def _points(value: float | None, *, signed: bool = False) -> str:
    return NOTHING if value is None else f"{100 * value:{'+' if signed else ''}.1f}"


def _ends(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None or interval.low is None:
        return NOTHING
    return f"{_points(interval.low, signed=signed)} to {_points(interval.high, signed=signed)}"


def _with_ends(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return NOTHING
    ends = f" ({_ends(interval, signed=signed)})" if interval.low is not None else ""
    return f"{_points(interval.value, signed=signed)}{ends}"


def _p(value: float | None) -> str:
    if value is None:
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"
