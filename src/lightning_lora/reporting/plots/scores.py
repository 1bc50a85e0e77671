"""Plots of the options' scores: against what is trained, and as differences from the best."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lightning_lora.reporting.comparison import Interval, OptionSummary, TaskComparison
from lightning_lora.reporting.inference import LEVEL
from lightning_lora.reporting.plots.names import fitted
from lightning_lora.reporting.plots.placement import Box, place_labels, set_side_by_side
from lightning_lora.reporting.plots.style import INK, PAPER, SERIES, new_figure

MOST_OPTIONS = 40
"""So many options a plot shows; the best ones."""

_MARK, _NUMBERED_MARK = 6.0, 11.5
_LONGEST_NAME = 50
_KEYS = ((3, 34), (2, 54))
"""How many columns a key has, and letters in one."""
_ON_FIGURE: dict[str, Any] = {"xycoords": "figure points", "annotation_clip": False}


def score_by_size(task: TaskComparison) -> Figure:
    """Score against the share of the parameters that is trained, with 95 % intervals; a mark per option.

    Its label stands beside each mark, or where they do not all find room, its number in it and a key below.
    """
    options = sized(task)[:MOST_OPTIONS]
    figure, axes = _size_axes(task, options)
    scores = [task.estimate_of(option) for option in options]
    marks = _draw_marks(axes, task, options, _MARK)
    if _name_marks(axes, [option.label for option in options], scores, marks):
        return figure
    figure, axes = _size_axes(task, options, key=True)
    marks = _draw_marks(axes, task, options, _NUMBERED_MARK)
    for number, (option, (x, y)) in enumerate(zip(options, marks, strict=True), 1):
        colour = PAPER if task.ties_with_best(option) else INK
        axes.annotate(str(number), (x, y - 0.4), color=colour, fontsize=7.0, ha="center", va="center", **_ON_FIGURE)
    return figure


def sized(task: TaskComparison) -> list[OptionSummary]:
    """The options that train anything, and so have a place on a logarithmic axis."""
    return [option for option in task.options if option.trainable_percent > 0]


def differences(task: TaskComparison) -> Figure:
    """Each option minus the best one, with its 95 % interval; hollow marks where the difference may be nothing."""
    contrasts = task.contrasts[:MOST_OPTIONS]
    figure = new_figure(0.75 + 0.21 * len(contrasts))
    axes = figure.subplots()
    axes.axvline(0.0, color=INK, linewidth=1.0)
    for row, contrast in enumerate(contrasts):
        differs = contrast.p_holm < LEVEL
        draw_interval(axes, contrast.difference, float(row), across=True)
        axes.plot(
            100 * contrast.difference.value,
            row,
            marker="o",
            color=SERIES[0],
            markerfacecolor=SERIES[0] if differs else PAPER,
        )
    best, *others = fitted([task.options[0].label, *(contrast.option for contrast in contrasts)], _LONGEST_NAME)
    axes.set_yticks(range(len(contrasts)), others)
    axes.set_ylim(len(contrasts) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    # Centred under the whole figure: long names leave little room beside them.
    figure.supxlabel(f"{task.metric} × 100, minus that of {best} (points)", fontsize=9)
    return figure


def limits_of(scores: Sequence[Interval]) -> tuple[float, float]:
    """Ends of an axis of scores × 100: all values, and of their intervals what leaves the values apart.

    The interval of two seeds can be many times as wide as all differences; such a one runs into the frame.
    """
    values = [100 * score.value for score in scores]
    ends = [100 * end for score in scores for end in (score.low, score.high) if end is not None]
    reach = max(max(values) - min(values), 1.0)
    low, high = max(min([*values, *ends]), min(values) - reach), min(max([*values, *ends]), max(values) + reach)
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def draw_interval(axes: Axes, score: Interval, at: float, *, colour: str = SERIES[0], across: bool = False) -> None:
    """The line of an interval in points, where there is one; it lies under the marks."""
    if score.low is None or score.high is None:
        return
    draw = axes.hlines if across else axes.vlines
    draw(at, 100 * score.low, 100 * score.high, color=colour, linewidth=1.3, zorder=1.5)


def _size_axes(task: TaskComparison, options: Sequence[OptionSummary], *, key: bool = False) -> tuple[Figure, Axes]:
    """The empty axes, their place in the figure settled, over a key where there is to be one."""
    longest = max(len(option.label) for option in options)
    columns, letters = next((one for one in _KEYS if longest <= one[1]), _KEYS[-1])
    key_lines = -(-len(options) // columns) if key else 0
    key_height = 0.16 * key_lines
    figure = new_figure(3.6 + key_height)
    axes, *below = figure.subplots(2, height_ratios=(3.6, key_height)) if key_lines else [figure.subplots()]
    sizes = [option.trainable_percent for option in options]
    ratio = max(sizes) / min(sizes)
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
    axes.set_ylim(*limits_of([task.estimate_of(option) for option in options]))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 30 else (1, 3) if ratio < 300 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("trainable parameters (% of all, logarithmic)")
    axes.set_ylabel(f"{task.metric} × 100")
    for lower in below:
        _write_key(lower, fitted([option.label for option in options], letters), columns, key_lines)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure, axes


def _write_key(axes: Axes, names: Sequence[str], columns: int, lines: int) -> None:
    """The names by their numbers, from 1, down one column after the other."""
    axes.set_axis_off()
    style: dict[str, Any] = {
        "fontsize": 8.0,
        "transform": axes.transAxes,
        "verticalalignment": "top",
        "in_layout": False,
    }
    for place, name in enumerate(names):
        x, y = place // lines / columns, 1 - place % lines / lines
        axes.text(x + 0.02, y, str(place + 1), horizontalalignment="right", **style)
        axes.text(x + 0.03, y, name, **style)


def _draw_marks(
    axes: Axes, task: TaskComparison, options: Sequence[OptionSummary], width: float
) -> list[tuple[float, float]]:
    """Draw the marks, none over another, and their intervals; returns where they are, in points of the figure."""
    area = axes.get_window_extent()
    at = axes.transData.transform([(option.trainable_percent, 100 * option.mean.value) for option in options])
    across = set_side_by_side(at[:, 0].tolist(), width + 1.0, area.x0, area.x1)
    for option, x in zip(options, axes.transData.inverted().transform([(x, 0.0) for x in across])[:, 0], strict=True):
        draw_interval(axes, task.estimate_of(option), x)
        fill = SERIES[0] if task.ties_with_best(option) else PAPER
        axes.plot(x, 100 * option.mean.value, "o", markersize=width, color=SERIES[0], markerfacecolor=fill)
    return list(zip(across, at[:, 1].tolist(), strict=True))


def _name_marks(
    axes: Axes, labels: Sequence[str], scores: Sequence[Interval], marks: Sequence[tuple[float, float]]
) -> bool:
    """Write its label beside each mark; False where they do not all find room, and the figure is of no use."""
    area = axes.get_window_extent()
    texts = [axes.annotate(label, (0, 0), fontsize=8.5, **_ON_FIGURE) for label in fitted(labels, 32)]
    extents = [text.get_window_extent() for text in texts]
    obstacles = []
    for (x, y), score in zip(marks, scores, strict=True):
        ends = [100 * (score.value if end is None else end) for end in (score.low, score.high)]
        low, high = axes.transData.transform([(1, end) for end in ends])[:, 1].tolist()
        obstacles += [Box(x - 1, low, x + 1, high), Box(x - _MARK / 2, y - _MARK / 2, x + _MARK / 2, y + _MARK / 2)]
    frame = Box(area.x0, area.y0, area.x1, area.y1)
    boxes = place_labels(marks, [(extent.width, extent.height) for extent in extents], obstacles, frame)
    if boxes is None:
        return False
    for text, extent, box in zip(texts, extents, boxes, strict=True):
        text.set_position((box.left, box.bottom - extent.y0))
    return True
