"""Tasks side by side: a row for each option that ran on several of them, a column for each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lightning_lora.reporting.comparison import Comparison, OptionSummary, TaskComparison
from lightning_lora.reporting.formatting import NOTHING, points
from lightning_lora.reporting.tables import PLAIN_SPLIT, TextTable, heading_of

LIKE_THE_BEST = "*"
_OF_THE_TASK = "data"  # what was trained on


@dataclass(frozen=True)
class Overview:
    """The options of a base model over its tasks.

    Attributes:
        title: In one line.
        table: Scores in points; the option that does best over the tasks first.
        legend: How to read it.
    """

    title: str
    table: TextTable
    legend: str


def overviews_of(comparison: Comparison) -> tuple[Overview, ...]:
    """One for each base model and size on which two options or more ran on two tasks or more.

    Base models are told apart by their weights, sizes by whose parameters all adapters have.
    """
    alike: dict[tuple[str, str | None], list[TaskComparison]] = {}
    for task in comparison.tasks:
        if task.options:
            alike.setdefault((task.base_fingerprint, task.same_parameters_as), []).append(task)
    found = []
    for tasks in alike.values():
        ran: dict[str, set[str]] = {}
        for task in tasks:
            for option in task.options:
                ran.setdefault(option.label, set()).add(task.task)
        shared = [label for label, names in ran.items() if len(names) > 1]
        if len(shared) > 1:
            found.append(_overview(tasks, shared))
    return tuple(found)


def _overview(tasks: Sequence[TaskComparison], labels: Sequence[str]) -> Overview:
    names = [task.task for task in tasks]
    columns = [{option.label: option for option in task.options} for task in tasks]
    of_all = [column for column in columns if column.keys() >= {*labels}]
    # Places on other tasks cannot be compared: how far down one can be depends on who else was there.
    places = [[label for label in column if label in labels] for column in of_all]

    def mean_place(label: str) -> float:
        return fmean(of_task.index(label) for of_task in places) if places else 0.0

    references = {task.reference for task in tasks}
    reference = references.pop() if len(references) == 1 else None
    headings = ["option"]
    for task in tasks:
        which = f"{task.task}, {task.dev_rows} rows" if names.count(task.task) > 1 else task.task
        of_split = "" if task.split == PLAIN_SPLIT else f", {task.split}"
        headings.append(f"{which}{of_split}\n{task.metric}")
    rows = []
    for label in sorted(labels, key=lambda label: (mean_place(label), label)):
        ran = [(task, column.get(label)) for task, column in zip(tasks, columns, strict=True)]
        rows.append([label, *(_cell(task, option) for task, option in ran)])
        if reference:
            rows[-1].append(_span([option for _, option in ran if option]))
    if reference:
        headings.append(f"% of\n{heading_of(reference)}")
    different = _settings_that_differ(columns, labels)
    sentences = [
        "Mean ± half of its 95 % interval over seeds (number of seeds).",
        f"{LIKE_THE_BEST} cannot be told apart from the best of its task.",
        f"% of {reference}: on the task where that is least, and most." if reference else "",
        f"Ordered by the mean of their places{'' if len(of_all) == len(tasks) else ' on the tasks that all ran on'}."
        if places
        else "",
        f"Not the same on all tasks: {', '.join(different)}." if different else "",
    ]
    size = tasks[0].same_parameters_as
    return Overview(
        f"{len(set(names))} tasks on {tasks[0].base}{f', at the parameters of {size}' if size else ''}: scores in %",
        TextTable(tuple(headings), tuple(map(tuple, rows))),
        " ".join(sentence for sentence in sentences if sentence),
    )


def _settings_that_differ(columns: Sequence[Mapping[str, OptionSummary]], labels: Sequence[str]) -> list[str]:
    """Names of the settings in which runs that share a label differ from task to task."""
    different = set()
    for label in labels:
        found = [column[label].settings for column in columns if label in column]
        for name in {name for settings in found for name in settings} - {_OF_THE_TASK}:
            if len({settings.get(name) for settings in found}) > 1:
                different.add(name)
    return sorted(different)


def _cell(task: TaskComparison, option: OptionSummary | None) -> str:
    if option is None:
        return NOTHING
    high = option.mean.high
    around = "" if high is None else f" ± {points(high - option.mean.value)}"
    mark = LIKE_THE_BEST if task.ties_with_best(option) else ""
    return f"{points(option.mean.value)}{around} ({len(option.seeds)}){mark}"


def _span(options: Sequence[OptionSummary]) -> str:
    shares = [option.relative.value for option in options if option.relative]
    if not shares:
        return NOTHING
    ends = [f"{100 * end:.0f}" for end in (min(shares), max(shares))]
    return " to ".join(dict.fromkeys(ends))
