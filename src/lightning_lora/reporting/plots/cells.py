"""Maps of coloured cells with their numbers in them."""

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lightning_lora.reporting.plots.style import PAPER


def draw_cell(axes: Axes, x: int, y: int, share: float, text: str, below: str = "") -> None:
    """A cell at its column and row: the darker, the larger the share; with its text, and smaller text below it."""
    colour = matplotlib.colormaps["cividis_r"](share)
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor=PAPER, linewidth=1.5))
    look: dict[str, Any] = {"color": "#000000" if sum(colour[:3]) > 1.4 else "#ffffff", "ha": "center"}
    axes.text(x, y, text, va="bottom" if below else "center_baseline", fontsize=9, **look)
    if below:
        axes.text(x, y, below, va="top", fontsize=7.5, **look)


def name_cells(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    """The names of all columns and rows, from the left and from below; axes of a map and nothing else."""
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
