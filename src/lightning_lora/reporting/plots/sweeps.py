"""Plots of what was swept: rank by alpha, and the learning rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lightning_lora.reporting.comparison import OptionSummary, TaskComparison
from lightning_lora.reporting.formatting import points
from lightning_lora.reporting.plots.cells import draw_cell, name_cells
from lightning_lora.reporting.plots.names import fitted
from lightning_lora.reporting.plots.scores import draw_interval, limits_of
from lightning_lora.reporting.plots.style import INK, MUTED, SERIES, new_figure, new_panels
from lightning_lora.settings import spelled

MOST_MAPS = 12
MOST_LINES = 40

_LOOKS: tuple[tuple[str, str, Any], ...] = (
    (SERIES[0], "o", "-"),
    (SERIES[1], "s", "--"),
    (SERIES[2], "^", "-."),
    (SERIES[3], "D", ":"),
    (INK, "v", (0, (5, 1, 1, 1, 1, 1))),
    (MUTED, "X", (0, (8, 3))),
)
"""Colour, marker and dash of each line, where lines share their axes."""


@dataclass(frozen=True)
class Slice:
    """Options that differ in some settings only; what they share, in words."""

    shared: str
    options: tuple[OptionSummary, ...]


def slices(task: TaskComparison, *varying: str) -> list[Slice]:
    """Options that differ in these settings only, each of them a number; the slice with the best option first."""
    found: dict[str, list[OptionSummary]] = {}
    for option in task.options:
        if all(_is_number(option.settings.get(name)) for name in varying):
            rest = {name: option.settings.get(name) for name in task.axes if name not in varying}
            found.setdefault(_words(rest), []).append(option)
    return [Slice(shared, tuple(options)) for shared, options in found.items()]


def maps(task: TaskComparison) -> list[Slice]:
    """The slices in which rank and alpha vary apart from each other."""
    found = []
    for part in slices(task, "rank", "alpha"):
        ranks, alphas = ({option.settings[name] for option in part.options} for name in ("rank", "alpha"))
        if min(len(ranks), len(alphas)) > 1 and len(part.options) > max(len(ranks), len(alphas)):
            found.append(part)
    return found


def lines(task: TaskComparison) -> list[Slice]:
    """The slices in which the learning rate varies."""
    return [part for part in slices(task, "lr") if len(part.options) > 1]


def rank_by_alpha(task: TaskComparison) -> Figure:
    """A map of the mean score by rank and alpha, with the number of seeds in each cell; one for each other setting."""
    shown = maps(task)[:MOST_MAPS]
    options = [option for part in shown for option in part.options]
    ranks, alphas = (sorted({float(option.settings[name] or 0) for option in options}) for name in ("rank", "alpha"))
    columns = min(len(shown), max(1, 12 // len(alphas)))
    rows = -(-len(shown) // columns)
    figure = new_figure(rows * (0.42 * len(ranks) + 0.35) + 0.4)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    means = [option.mean.value for option in options]
    titles = fitted([part.shared for part in shown], 80 // columns)
    for axes, part, title in zip(grid, shown, titles, strict=False):
        axes.set_title(title)
        _cells(axes, part.options, ranks, alphas, (min(means), max(means)))
        axes.tick_params(labelbottom=True)
    for spare in grid[len(shown) :]:
        spare.remove()
    figure.supxlabel("alpha", fontsize=9)
    figure.supylabel("rank", fontsize=9)
    return figure


def by_learning_rate(task: TaskComparison) -> Figure:
    """Mean score by learning rate, a line for all else that varies; where they are many, each in its own panel."""
    shown = lines(task)[:MOST_LINES]
    figure = (_line_panels if len(shown) > len(_LOOKS) else _lines_together)(shown, task)
    _rate_axis(figure.axes, shown)
    scores = [task.estimate_of(option) for part in shown for option in part.options]
    figure.axes[0].set_ylim(*limits_of(scores))
    figure.supxlabel("learning rate (logarithmic)", fontsize=9)
    figure.supylabel(f"{task.metric} × 100", fontsize=9)
    return figure


def _cells(
    axes: Axes,
    options: Sequence[OptionSummary],
    ranks: Sequence[float],
    alphas: Sequence[float],
    ends: tuple[float, float],
) -> None:
    """One cell for each option, the darker the better."""
    for option in options:
        x, y = alphas.index(float(option.settings["alpha"] or 0)), ranks.index(float(option.settings["rank"] or 0))
        share = (option.mean.value - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else 0.0
        draw_cell(axes, x, y, share, points(option.mean.value), f"n = {len(option.seeds)}")
    name_cells(axes, [f"{alpha:g}" for alpha in alphas], [f"{rank:g}" for rank in ranks])


def _lines_together(shown: Sequence[Slice], task: TaskComparison) -> Figure:
    figure = new_figure(3.4)
    axes = figure.subplots()
    for place, (part, (colour, marker, dash)) in enumerate(zip(shown, _LOOKS, strict=False)):
        beside = 1 + 0.025 * (place - (len(shown) - 1) / 2)  # so that intervals do not cover one another
        _draw_line(axes, part, task, colour=colour, marker=marker, linestyle=dash, beside=beside)
    if len(shown) > 1:
        names = fitted([part.shared for part in shown], 48)
        columns = 6 if max(map(len, names)) < 10 else 3 if max(map(len, names)) < 24 else 2
        figure.legend(axes.lines, names, loc="outside upper left", ncols=columns, frameon=False, handlelength=3.5)
    return figure


def _line_panels(shown: Sequence[Slice], task: TaskComparison) -> Figure:
    figure, grid = new_panels([part.shared for part in shown], 1.25)
    for axes, part in zip(grid, shown, strict=True):
        axes.plot(*_by_rate(shown[0]), color=MUTED, linestyle=":", linewidth=1.1)
        _draw_line(axes, part, task, colour=SERIES[0], marker="o", markersize=4)
    return figure


def _draw_line(axes: Axes, part: Slice, task: TaskComparison, *, colour: str, beside: float = 1.0, **look: Any) -> None:
    rates, scores = _by_rate(part)
    axes.plot([beside * rate for rate in rates], scores, color=colour, label=part.shared, **look)
    for option in part.options:
        draw_interval(axes, task.estimate_of(option), beside * float(option.settings["lr"] or 0), colour=colour)


def _by_rate(part: Slice) -> tuple[list[float], list[float]]:
    curve = sorted((float(option.settings["lr"] or 0), 100 * option.mean.value) for option in part.options)
    return [rate for rate, _ in curve], [score for _, score in curve]


def _rate_axis(grid: Sequence[Axes], shown: Sequence[Slice]) -> None:
    rates = sorted({float(option.settings["lr"] or 0) for part in shown for option in part.options})
    for axes in grid:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_apart(rates, 7 if len(grid) == 1 else 3)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: _short(rate)))


def _short(rate: float) -> str:
    """As people type it: 0.001 but 4e-4."""
    return min(f"{rate:g}", np.format_float_scientific(rate, precision=5, trim="-", exp_digits=1), key=len)


def _apart(values: Sequence[float], most: int) -> list[float]:
    """At most so many of them, spread evenly in their order, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _words(settings: Mapping[str, str | int | float | bool | None]) -> str:
    return ", ".join(
        value if isinstance(value, str) else f"{name} {spelled(value)}" for name, value in settings.items()
    )
