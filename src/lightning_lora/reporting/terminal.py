"""A comparison on the terminal."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_lora.reporting.comparison import Comparison
from lightning_lora.reporting.listing import LONGEST_LINE
from lightning_lora.reporting.overview import overviews_of
from lightning_lora.reporting.tables import TextTable, lines_under, table_of, title_of, unreadable_lines

# How the headings begin of the columns that a narrow terminal goes without, the first of them first.
_SPARE = ("median", "p\n(McNemar)", "training", "best", "sd", "detectable", "trainable", "% of", "95 %")


def print_comparison(comparison: Comparison, console: Console | None = None, *, timings: bool = True) -> None:
    """Print a table for each task, under it the runs without a score and what is to be known, and the tasks together.

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
            _print_table(table_of(task, timings=timings), title_of(task), console)
        else:
            console.print(f"{escape(title_of(task))}: no run to compare", soft_wrap=True)
        for line in lines_under(task):
            console.print(f"  {escape(line)}", soft_wrap=True)
        console.print()
    for overview in overviews_of(comparison):
        _print_table(overview.table, overview.title, console)
        console.print(f"  {escape(overview.legend)}\n", soft_wrap=True)
    for line in unreadable_lines(comparison):
        console.print(f"left out: {escape(line)}", soft_wrap=True)


def _print_table(table: TextTable, title: str, console: Console) -> None:
    left_out = []
    for spare in _SPARE:
        if (
            console.measure(_rich_table(table), options=console.options.update(width=LONGEST_LINE)).maximum
            <= console.width
        ):
            break
        column = next((i for i, heading in enumerate(table.headings) if heading.startswith(spare)), None)
        if column is not None:
            left_out.append(table.headings[column].replace("\n", " "))
            table = table.without(column)
    console.print(escape(title), soft_wrap=True)
    console.print(_rich_table(table))
    if left_out:
        console.print(f"  left out, since the terminal is narrow: {escape(', '.join(left_out))}", soft_wrap=True)


def _rich_table(text: TextTable) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for position, heading in enumerate(text.headings):
        table.add_column(escape(heading), justify="right" if position else "left")
    for row in text.rows:
        table.add_row(*map(escape, row))
    return table
