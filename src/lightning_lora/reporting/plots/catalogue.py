"""Which plots there are, where each of them says something, and how they become files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from lightning_lora.atomic import atomic_file
from lightning_lora.reporting.comparison import Comparison, TaskComparison
from lightning_lora.reporting.plots import runs, scores, sweeps
from lightning_lora.reporting.plots.style import rendered, styled


@dataclass(frozen=True)
class Plot:
    """A kind of plot.

    Attributes:
        name: Its file's name, without the end.
        title: What it shows, in a few words.
        caption: How to read it.
        says_something: Whether what it shows varies within the task.
        figure: Draws it; within `styled`.
    """

    name: str
    title: str
    caption: str
    says_something: Callable[[TaskComparison], bool]
    figure: Callable[[TaskComparison], Figure]

    def draw(self, task: TaskComparison) -> Figure:
        """The figure of a task for which it says something."""
        with styled():
            return self.figure(task)


def _sizes_vary(task: TaskComparison) -> bool:
    sizes = {option.trainable_percent for option in task.options[: scores.MOST_OPTIONS]}
    return len(sizes) > 1 and min(sizes) > 0


def _scores_move(task: TaskComparison) -> bool:
    return any(len(curve.epochs) > 1 for option in task.options for curve in option.curves)


PLOTS = (
    Plot(
        "score_by_size",
        "Score and trainable parameters",
        "Mean over the seeds with its 95 % interval. Filled: cannot be told apart from the best. "
        "Marks that would cover one another stand side by side; an interval that reaches the frame goes on beyond it.",
        _sizes_vary,
        scores.score_by_size,
    ),
    Plot(
        "differences",
        "Differences from the best",
        "Each option minus the best one on the same examples, with the 95 % interval of the paired bootstrap. "
        f"Filled: p < {scores.ALPHA} after Holm's correction.",
        lambda task: bool(task.contrasts),
        scores.differences,
    ),
    Plot(
        "rank_by_alpha",
        "Rank and alpha",
        "Mean score × 100 over n seeds; the darker, the better. A cell that is not there was not tried.",
        lambda task: bool(sweeps.maps(task)),
        sweeps.rank_by_alpha,
    ),
    Plot(
        "learning_rate",
        "Sensitivity to the learning rate",
        "Mean over the seeds. In panels of their own, the dotted line is the one with the best option.",
        lambda task: bool(sweeps.lines(task)),
        sweeps.by_learning_rate,
    ),
    Plot(
        "learning_curves",
        "Learning curves",
        "Thin: the seeds. Bold: their mean. Dotted: the mean of the best option.",
        _scores_move,
        runs.learning_curves,
    ),
    Plot(
        "cost",
        "Time and memory",
        "Medians over the seeds. They compare options only where all ran on the same, otherwise idle machine.",
        lambda task: len(task.options) > 1,
        runs.cost,
    ),
)


def plots_of(task: TaskComparison) -> list[Plot]:
    """The plots that say something about a task."""
    return [plot for plot in PLOTS if plot.says_something(task)]


def save_plots(comparison: Comparison, folder: Path) -> list[Path]:
    """Write every plot as SVG and as PNG, each atomically, in a folder for each task; returns their paths.

    A task's folder has its name and its base model's, in letters that any file system takes.

    Raises:
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    written = []
    for number, task in enumerate(comparison.tasks, 1):
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{number} {task.task} {task.base}").strip("-")
        for plot in plots_of(task):
            figure = plot.draw(task)
            for kind in ("svg", "png"):
                target = folder / name / f"{plot.name}.{kind}"
                with atomic_file(target) as temporary:
                    temporary.write_bytes(rendered(figure, kind))
                written.append(target)
    return written
