"""A comparison as Markdown, CSV and LaTeX."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from statistics import mean
from typing import Any

from rich.console import Console

from lightning_lora.reporting.comparison import Comparison, Contrast, Interval, OptionSummary, TaskComparison
from lightning_lora.reporting.overview import overviews_of
from lightning_lora.reporting.tables import TextTable, lines_under, table_of, title_of, unreadable_lines
from lightning_lora.reporting.terminal import print_comparison

_LATEX = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "±": r"$\pm$",
    # At the beginning of a row they would be taken for what the rule or the row before is given.
    **{letter: f"{{{letter}}}" for letter in "[]*"},
}


def markdown(comparison: Comparison, *, timings: bool = True) -> str:
    """A section for each task: a table, the runs without a score and the notes; then the tasks together."""
    parts = []
    for task in comparison.tasks:
        parts.append(f"## {_in_markdown(title_of(task))}")
        if task.options:
            parts.append(_markdown_table(table_of(task, timings=timings)))
        parts.append("\n".join(f"- {_in_markdown(line)}" for line in lines_under(task)))
    for overview in overviews_of(comparison):
        parts += [f"## {_in_markdown(overview.title)}", _markdown_table(overview.table), _in_markdown(overview.legend)]
    if lines := unreadable_lines(comparison):
        parts.append("## Not read")
        parts.append("\n".join(f"- {_in_markdown(line)}" for line in lines))
    return "\n\n".join(part for part in parts if part) + "\n"


def latex(comparison: Comparison, *, timings: bool = True) -> str:
    """A table for each task, for a document that loads booktabs, notes in small print; then the tasks together."""
    parts = []
    for task in comparison.tasks:
        body = _latex_tabular(table_of(task, timings=timings)) if task.options else [r"\par no run to compare"]
        parts.append(_latex_table(title_of(task), body, lines_under(task)))
    parts += [_latex_table(view.title, _latex_tabular(view.table), [view.legend]) for view in overviews_of(comparison)]
    parts += [rf"\par left out: {_in_latex(line)}" for line in unreadable_lines(comparison)]
    return "\n\n".join(parts) + "\n"


def csv_rows(comparison: Comparison, *, timings: bool = True) -> str:
    """One row for each option, with a column for each setting that varies in some task; scores are fractions.

    An option of which no run has a score stands below those of its task, with 0 seeds and without numbers.
    """
    axes = list(dict.fromkeys(axis for task in comparison.tasks for axis in task.axes))
    rows = []
    for task in comparison.tasks:
        contrasts = {contrast.option: contrast for contrast in task.contrasts}
        for option in task.options:
            row = _of_option(task, option) | _of_contrast(contrasts.get(option.label))
            row["group"] = task.groups[option.label]
            if timings:
                row |= {"fit_seconds": option.fit_seconds, "peak_memory_bytes": option.peak_memory_bytes}
            rows.append(row | _of_settings(option.settings, axes))
        rows += [row | _of_settings(settings, axes) for row, settings in _without_result(task)]
    text = io.StringIO()
    # The row of an option without a result has no numbers, so the longest has every column.
    writer = csv.DictWriter(text, max(rows, key=len, default=()), restval="", lineterminator="\n")
    if rows:
        writer.writeheader()
    writer.writerows({column: _plain(value) for column, value in row.items()} for row in rows)
    return text.getvalue()


def text(comparison: Comparison, *, timings: bool = True) -> str:
    """What `print_comparison` prints where there is no terminal."""
    written = io.StringIO()
    print_comparison(comparison, Console(file=written, highlight=False), timings=timings)
    return written.getvalue()


FORMS: dict[str, Callable[..., str]] = {"terminal": text, "markdown": markdown, "csv": csv_rows, "latex": latex}
"""What a report may be written as: functions of a comparison and of ``timings``, as `print_comparison`."""


def _of_task(task: TaskComparison, option: str, seeds: int, unfinished: int) -> dict[str, Any]:
    return {
        "task": task.task,
        "base": task.base,
        "metric": task.metric,
        "split": task.split,
        "dev_rows": task.dev_rows,
        "same_parameters_as": task.same_parameters_as,
        "option": option,
        "seeds": seeds,
        "unfinished": unfinished,
    }


def _without_result(task: TaskComparison) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Rows of the options of which no run has a score, with their settings."""
    lost = {run.option: run.settings for run in task.unfinished}
    counts = Counter(run.option for run in task.unfinished)
    known = {option.label for option in task.options}
    return [(_of_task(task, label, 0, counts[label]), lost[label]) for label in counts if label not in known]


def _of_settings(settings: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    return {f"setting.{axis}": settings.get(axis) for axis in axes}


def _of_option(task: TaskComparison, option: OptionSummary) -> dict[str, Any]:
    return {
        **_of_task(task, option.label, len(option.seeds), option.unfinished),
        **_of_interval("mean", option.mean),
        "median": option.median,
        "deviation": option.deviation,
        **_of_interval("over_examples", option.over_examples),
        "best_epoch_mean": mean(option.best_epoch_scores),
        "reference": task.reference,
        **_of_interval("relative", option.relative),
        "adapter_parameters": option.adapter_parameters,
        "trainable_percent": option.trainable_percent,
        "relative_size": task.relative_size(option),
    }


def _of_contrast(contrast: Contrast | None) -> dict[str, Any]:
    return {
        **_of_interval("difference", contrast.difference if contrast else None),
        "p": contrast.p_bootstrap if contrast else None,
        "p_holm": contrast.p_holm if contrast else None,
        "p_mcnemar": contrast.p_mcnemar if contrast else None,
        "detectable": contrast.detectable if contrast else None,
    }


def _of_interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    value, low, high = astuple(interval) if interval else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _markdown_table(table: TextTable) -> str:
    rule = ["---"] + ["---:"] * (len(table.headings) - 1)
    rows = [[_in_markdown(cell) for cell in row] for row in (table.headings, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def _latex_tabular(table: TextTable) -> list[str]:
    rows = [" & ".join(map(_in_latex, row)) + r" \\" for row in (table.headings, *table.rows)]
    columns = f"l{'r' * (len(table.headings) - 1)}"
    rules = (r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule")
    return [rf"\begin{{tabular}}{{{columns}}}", *rules, r"\end{tabular}"]


def _latex_table(title: str, body: Sequence[str], lines: Sequence[str]) -> str:
    small = [rf"\par\footnotesize {_in_latex(line)}" for line in lines]
    begun = [r"\begin{table}", r"\centering", rf"\caption{{{_in_latex(title)}}}"]
    return "\n".join([*begun, *body, *small, r"\end{table}"])


def _in_markdown(text: str) -> str:
    for letter in "\\|<>*_`[]":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("\n", " ")


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text.replace("\n", " "))
