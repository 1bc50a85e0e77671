"""The built-in tasks as rows of data. Standard library only.

Columns, label order and splits are those of the ``nyu-mll/glue`` card on the hub; metrics are those of the GLUE paper
(Wang et al. 2018, arXiv:1804.07461, table 1).
"""

from lightning_lora.spelling import did_you_mean
from lightning_lora.tasks.task import Task

GLUE = "nyu-mll/glue"
ENTAILMENT = ("entailment", "not_entailment")

_GLUE_TASKS = (
    Task("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",), "matthews", hub=(GLUE, "cola")),
    Task("sst2", ("sentence",), ("negative", "positive"), ("accuracy",), "accuracy", hub=(GLUE, "sst2")),
    Task(
        "mrpc",
        ("sentence1", "sentence2"),
        ("not_equivalent", "equivalent"),
        ("f1", "accuracy"),
        "f1",
        hub=(GLUE, "mrpc"),
    ),
    Task(
        "qqp",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        ("f1", "accuracy"),
        "f1",
        hub=(GLUE, "qqp"),
        # Two training questions of the published file are empty: huggingface/datasets issue 277.
        empty_texts=2,
    ),
    Task(
        "stsb",
        ("sentence1", "sentence2"),
        (),
        ("pearson", "spearman"),
        "pearson",
        hub=(GLUE, "stsb"),
        label_range=(0.0, 5.0),
    ),
    Task(
        "mnli",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        "accuracy",
        dev_splits=("validation_matched", "validation_mismatched"),
        hub=(GLUE, "mnli"),
    ),
    Task("qnli", ("question", "sentence"), ENTAILMENT, ("accuracy",), "accuracy", hub=(GLUE, "qnli")),
    Task("rte", ("sentence1", "sentence2"), ENTAILMENT, ("accuracy",), "accuracy", hub=(GLUE, "rte")),
    Task("wnli", ("sentence1", "sentence2"), ENTAILMENT[::-1], ("accuracy",), "accuracy", hub=(GLUE, "wnli")),
)

_TOY_TASKS = (
    Task("toy_sentiment", ("sentence",), ("negative", "positive"), ("accuracy",), "accuracy"),
    Task("toy_acceptability", ("sentence",), ("unacceptable", "acceptable"), ("matthews",), "matthews"),
    Task(
        "toy_entailment",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        "accuracy",
    ),
    Task(
        "toy_similarity",
        ("sentence1", "sentence2"),
        (),
        ("pearson", "spearman"),
        "pearson",
        label_range=(0.0, 5.0),
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in (*_GLUE_TASKS, *_TOY_TASKS)}

TOY_TASKS: frozenset[str] = frozenset(task.name for task in _TOY_TASKS)


class UnknownTaskError(ValueError):
    """No built-in task has this name."""


def find_task(name: str) -> Task:
    """The built-in task of that name.

    Raises:
        UnknownTaskError: with the nearest name and all names.
    """
    if name not in TASKS:
        raise UnknownTaskError(f"no task {name!r}{did_you_mean(name, TASKS)}; there are {', '.join(TASKS)}")
    return TASKS[name]
