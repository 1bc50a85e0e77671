"""How every plot looks: one style and few colours, and the same to the byte at every drawing.

Things are told apart by the shape of marks and lines first and by colour second. The colours are those of the page on a
light ground; the page replaces each by the CSS variable named in `THEME`, and so has others on a dark one.
"""

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lightning_lora.reporting.plots.names import fitted

INK, MUTED, RULE, PAPER = "#16191d", "#59636e", "#c6cdd4", "#fefefe"
# The hues of Okabe and Ito (2008), which are told apart with a colour deficiency too, dark enough for thin lines.
SERIES = ("#0b62a8", "#c24d00", "#00785a", "#a6407d")

THEME = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)
}
"""CSS variable of each colour."""

WIDTH = 7.6
"""Inches of every figure; 730 CSS pixels."""

_STYLE: dict[Any, Any] = {
    "figure.dpi": 72.0,  # a pixel is a point, as in SVG
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.facecolor": "none",  # the ground is the page's
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.06,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "lightning-lora",
}


@contextmanager
def styled() -> Iterator[None]:
    """Within the block, figures are drawn in the style above, whatever matplotlibrc the user has."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Text stays text; that matplotlib's own font lacks a letter is no matter for the reader's.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(height: float) -> Figure:
    """An empty figure of the usual width; the height in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_panels(titles: Sequence[str], panel_height: float) -> tuple[Figure, list[Axes]]:
    """A figure with one titled panel for each title, up to four abreast, on common axes; heights in inches."""
    columns = min(len(titles), 4)
    rows = -(-len(titles) // columns)
    letters = 104 // columns  # in a line over a panel
    titles = [textwrap.fill(title, letters) for title in fitted(titles, 2 * letters)]
    lines = max(title.count("\n") for title in titles)
    figure = new_figure(rows * (panel_height + 0.15 * lines) + 0.35)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(title, fontsize=8.5)
    for spare in grid[len(titles) :]:
        spare.remove()
    for axes in grid[max(len(titles) - columns, 0) : len(titles)]:
        axes.tick_params(labelbottom=True)
    return figure, list(grid[: len(titles)])


def rendered(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    """The file of a figure: without a date, and the same for the same figure."""
    file = BytesIO()
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    with styled():
        ground = {"svg": "none", "png": "white"}[kind]
        figure.savefig(file, format=kind, dpi={"svg": 72, "png": 200}[kind], facecolor=ground, metadata=metadata)
    return file.getvalue()
