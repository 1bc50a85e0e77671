"""Which plots there are, where each of them says something, and how they become files."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from lightning_lora.atomic import atomic_file
from lightning_lora.reporting.comparison import Comparison, TaskComparison
from lightning_lora.reporting.inference import LEVEL
from lightning_lora.reporting.plots import rank_use, runs, scores, sweeps
from lightning_lora.reporting.plots.style import rendered, styled


@dataclass(frozen=True)
class Plot:
    """A kind of plot.

    Attributes:
        name: Its file's name, without the end.
        title: What it shows, in a few words.
        caption: How to read it.
        description: What is seen, for those who do not see it.
        says_something: Whether what it shows varies within the task.
        parts: What it shows one by one, the best first.
        part: What one of them is called, in the plural.
        most: How many of them it shows.
        figure: Draws it; within `styled`.
        by_the_clock: Whether it is another one when the same runs are run again.
    """

    name: str
    title: str
    caption: str
    description: str
    says_something: Callable[[TaskComparison], bool]
    parts: Callable[[TaskComparison], Sequence[object]]
    part: str
    most: int
    figure: Callable[[TaskComparison], Figure]
    by_the_clock: bool = False

    def draw(self, task: TaskComparison) -> Figure:
        """The figure of a task for which it says something."""
        with styled():
            return self.figure(task)

    def caption_of(self, task: TaskComparison) -> str:
        """How to read it, and what it leaves out of a task."""
        count = len(self.parts(task))
        return (
            f"{self.caption} Shown: the best {self.most} of {count} {self.part}." if count > self.most else self.caption
        )


PLOTS = (
    Plot(
        name="score_by_size",
        title="Score and trainable parameters",
        caption="Mean over the seeds with its 95 % interval; where each option has one seed, the interval is over "
        "examples. Filled: cannot be told apart from the best. Options of like size stand side by side; an interval "
        "that reaches the frame goes on beyond it.",
        description="A mark for each option: across the share of trainable parameters, up the mean score with its "
        "interval. The numbers are in the table of options.",
        says_something=lambda task: len({option.trainable_percent for option in scores.sized(task)}) > 1,
        parts=scores.sized,
        part="options",
        most=scores.MOST_OPTIONS,
        figure=scores.score_by_size,
    ),
    Plot(
        name="differences",
        title="Differences from the best",
        caption="Each option minus the best one, with its 95 % interval over seeds and examples. "
        f"Filled: p < {LEVEL} after Holm’s correction.",
        description="A line for each option but the best: the interval of its difference from the best, with a mark at "
        "the value. The numbers are in the table of differences.",
        says_something=lambda task: bool(task.contrasts),
        parts=lambda task: task.contrasts,
        part="differences",
        most=scores.MOST_OPTIONS,
        figure=scores.differences,
    ),
    Plot(
        name="rank_by_alpha",
        title="Rank and alpha",
        caption="Mean score × 100 over n seeds; the darker, the better. A cell that is not there was not tried.",
        description="A grid of mean scores: across alpha, up the rank. The numbers are in the table of options.",
        says_something=lambda task: bool(sweeps.maps(task)),
        parts=sweeps.maps,
        part="maps",
        most=sweeps.MOST_MAPS,
        figure=sweeps.rank_by_alpha,
    ),
    Plot(
        name="learning_rate",
        title="Sensitivity to the learning rate",
        caption="Mean over the seeds with its 95 % interval; an interval that reaches the frame goes on beyond it. "
        "Where each line has a panel, the dotted one is that of the best option.",
        description="A line for each option without its learning rate: across the learning rate, up the mean score. "
        "The numbers are in the table of options.",
        says_something=lambda task: bool(sweeps.lines(task)),
        parts=sweeps.lines,
        part="lines",
        most=sweeps.MOST_LINES,
        figure=sweeps.by_learning_rate,
    ),
    Plot(
        name="learning_curves",
        title="Learning curves",
        caption="Thin: the seeds. Bold: their mean. Dotted: the mean of the best option.",
        description="A panel for each option: across the epochs, up the score. The scores of the last and the best "
        "epoch are in the table of runs.",
        says_something=lambda task: any(len(curve.epochs) > 1 for option in task.options for curve in option.curves),
        parts=runs.logged,
        part="options",
        most=scores.MOST_OPTIONS,
        figure=runs.learning_curves,
    ),
    Plot(
        name="cost",
        title="Time and memory",
        caption="Medians over the seeds. They compare options only where all ran on the same, otherwise idle machine.",
        description="Two bars for each option: training time and peak memory. The numbers are in the table of options.",
        says_something=lambda task: len(task.options) > 1,
        parts=lambda task: task.options,
        part="options",
        most=scores.MOST_OPTIONS,
        figure=runs.cost,
        by_the_clock=True,
    ),
    Plot(
        name="rank_use",
        title="Directions in use",
        caption="How many directions the update of each layer uses: the entropy rank of ΔW at the end of training, "
        "mean over the seeds; the darker, the larger its share of the rank. At 1, one direction does everything.",
        description="A grid of numbers for the best option that trains adapters: across the roles, up the blocks. "
        "lightning-lora spectrum prints the numbers of a run.",
        says_something=lambda task: bool(rank_use.with_rank_use(task)),
        parts=rank_use.with_rank_use,
        part="options with adapters",
        most=1,
        figure=rank_use.rank_use,
    ),
)


def plots_of(task: TaskComparison, *, timings: bool = True) -> list[Plot]:
    """The plots that say something about a task; without ``timings`` none that depends on the clock."""
    return [plot for plot in PLOTS if plot.says_something(task) and (timings or not plot.by_the_clock)]


def save_plots(comparison: Comparison, folder: Path, *, timings: bool = True) -> list[Path]:
    """Write every plot as SVG and as PNG, each atomically, in a folder for each task; returns their paths.

    A task's folder has its name and its base model's, in letters that any file system takes.

    Args:
        comparison: What is drawn.
        folder: Where the tasks' folders go.
        timings: Whether to draw what depends on the clock.

    Raises:
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    written = []
    for number, task in enumerate(comparison.tasks, 1):
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{number} {task.task} {task.base}").strip("-")
        for plot in plots_of(task, timings=timings):
            figure = plot.draw(task)
            for kind in ("svg", "png"):
                target = folder / name / f"{plot.name}.{kind}"
                with atomic_file(target) as temporary:
                    temporary.write_bytes(rendered(figure, kind))
                written.append(target)
    return written
