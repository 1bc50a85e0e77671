"""The plot of the directions that the best adapter uses, layer by layer."""

import re
import textwrap
from collections import Counter
from collections.abc import Sequence

from matplotlib.figure import Figure

from lightning_lora.reporting.comparison import OptionSummary, RankUse, TaskComparison
from lightning_lora.reporting.plots.cells import draw_cell, name_cells
from lightning_lora.reporting.plots.names import shorten
from lightning_lora.reporting.plots.style import new_figure


def with_rank_use(task: TaskComparison) -> list[OptionSummary]:
    """The options whose runs logged what they use of their rank."""
    return [option for option in task.options if option.rank_use]


def rank_use(task: TaskComparison) -> Figure:
    """A map of the entropy rank by block and role, of the best of these options; its share of the rank is the colour.

    Where a block has several layers of a role (an encoder's and a decoder's), the layers' names stand for the role.
    """
    option = with_rank_use(task)[0]
    columns = _columns(option.rank_use)
    names = list(dict.fromkeys(columns))
    blocks = sorted({use.block for use in option.rank_use}, key=lambda block: -1 if block is None else block)
    one_rank = len({use.rank for use in option.rank_use}) == 1
    labels = [_in_lines(name, 90 // len(names)) for name in names]
    lines = max(label.count("\n") for label in labels)
    figure = new_figure((0.24 if one_rank else 0.36) * len(blocks) + 0.14 * lines + 0.75)
    axes = figure.subplots()
    for use, column in zip(option.rank_use, columns, strict=True):
        share = min(use.entropy_rank / use.rank, 1.0)
        below = "" if one_rank else f"of {use.rank}"
        draw_cell(axes, names.index(column), blocks.index(use.block), share, f"{use.entropy_rank:.1f}", below)
    name_cells(axes, labels, ["" if block is None else str(block) for block in blocks])
    axes.set_title(shorten(f"{option.label}: directions in use" + (f", of {option.rank_use[0].rank}" * one_rank), 90))
    axes.set_ylabel("block")
    return figure


def _columns(uses: Sequence[RankUse]) -> list[str]:
    """The column of each: its role, or its module without the block's number where a block has several of the role."""
    count = Counter((use.block, use.role) for use in uses)
    several = {role for (_, role), number in count.items() if number > 1}
    return [
        re.sub(rf"(?<=\.){use.block}(?=\.)", "*", use.module, count=1) if use.role in several else use.role
        for use in uses
    ]


def _in_lines(name: str, longest: int) -> str:
    """A module's name broken behind its dots."""
    lines = textwrap.wrap(shorten(name, 200).replace(".", ". "), longest, break_long_words=False)
    return "\n".join(line.replace(". ", ".") for line in lines)
