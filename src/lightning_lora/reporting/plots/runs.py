"""Plots of the runs themselves: their learning curves, their time and memory."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_lora.reporting.comparison import Curve, OptionSummary, TaskComparison
from lightning_lora.reporting.formatting import three_digits
from lightning_lora.reporting.plots.names import fitted
from lightning_lora.reporting.plots.scores import MOST_OPTIONS
from lightning_lora.reporting.plots.style import MUTED, SERIES, new_figure, new_panels

GIB = 2**30
_LONGEST_NAME = 50


def learning_curves(task: TaskComparison) -> Figure:
    """Score by epoch, a panel per option: thin lines for the seeds, bold for their mean, dotted for the best option."""
    shown = logged(task)[:MOST_OPTIONS]
    figure, grid = new_panels([option.label for option in shown], 1.25 if len(shown) > 4 else 2.4)
    best = mean_curve(shown[0].curves)
    for axes, option in zip(grid, shown, strict=True):
        for curve in option.curves:
            axes.plot(curve.epochs, _hundredfold(curve.scores), color=SERIES[0], linewidth=0.6, alpha=0.7)
        axes.plot(*best, color=MUTED, linestyle=":", linewidth=1.3)
        axes.plot(*mean_curve(option.curves), color=SERIES[0], linewidth=2.0, marker=".", markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(f"{task.metric} × 100", fontsize=9)
    return figure


def logged(task: TaskComparison) -> list[OptionSummary]:
    """The options of which a run has a log."""
    return [option for option in task.options if option.curves]


def mean_curve(curves: Sequence[Curve]) -> tuple[list[float], list[float]]:
    """Epochs that all the curves have, and the mean score × 100 at each."""
    by_epoch = [dict(zip(curve.epochs, curve.scores, strict=True)) for curve in curves]
    epochs = sorted(set.intersection(*(set(scores) for scores in by_epoch)))
    return epochs, [100 * sum(scores[epoch] for scores in by_epoch) / len(by_epoch) for epoch in epochs]


def cost(task: TaskComparison) -> Figure:
    """Bars of the training time of each option, and of its peak memory where that was measured."""
    options = task.options[:MOST_OPTIONS]
    sizes = [option.peak_memory_bytes for option in options]
    memory = [None if size is None else size / GIB for size in sizes]
    measured = any(size is not None for size in sizes)
    figure = new_figure(0.7 + 0.2 * len(options))
    panels = figure.subplots(1, 2 if measured else 1, sharey=True, squeeze=False)[0]
    _bars(panels[0], [option.fit_seconds for option in options], "training time (s)")
    if measured:
        _bars(panels[1], memory, "peak memory (GiB)")
    panels[0].set_yticks(range(len(options)), fitted([option.label for option in options], _LONGEST_NAME))
    panels[0].set_ylim(len(options) - 0.4, -0.6)
    return figure


def _bars(axes: Axes, lengths: Sequence[float | None], name: str) -> None:
    """A bar for each option with its length written at its end."""
    axes.barh(range(len(lengths)), [length or 0.0 for length in lengths], height=0.62, color=SERIES[0])
    for row, length in enumerate(lengths):
        told = "not measured" if length is None else three_digits(length)
        axes.annotate(told, (length or 0.0, row), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlabel(name)
    axes.margins(x=0.16)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _hundredfold(scores: Sequence[float]) -> list[float]:
    return [100 * score for score in scores]
