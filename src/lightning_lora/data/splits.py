"""The rows of a run: read, checked, some of them held out, some of them drawn. Nothing is tokenised here."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from lightning_lora.data.sampling import hold_out, random_subset
from lightning_lora.data.sources import load_splits, source_stamps
from lightning_lora.data.validation import Split, check_train_labels, validate
from lightning_lora.file_stamps import Stamp
from lightning_lora.tasks import HELD_OUT, Task


def task_of(task: Task, holdout: float | None) -> Task:
    """The task as it is scored: on rows held out where there is a share of them, else as it stands."""
    return task if holdout is None else task.on_held_out()


def scored_splits(task: Task, path: str | Path | None, holdout: float | None) -> dict[str, Split]:
    """The splits that a run with these settings is scored on: the dev splits, or the rows held out of training.

    Args:
        task: As it stands, not yet `task_of`.
        path: A local folder or file; None for the task's own source.
        holdout: The run's share, None without one.

    Raises:
        ValueError: see `load_splits`, `validate`, `hold_out`.
    """
    if holdout is None:
        raw = load_splits(task, path)
        return {name: validate(raw[name], task) for name in task.dev_splits}
    _, held_out = _train_and_held_out(task, path, holdout)
    return {HELD_OUT: held_out}


def read_splits(task: Task, path: str | Path | None, holdout: float | None) -> dict[str, Split]:
    """The training split, then those that are scored; the same for every seed.

    A process reads and checks a data set once, for all jobs of a sweep, unless its files change.

    Args:
        task: What to read, as it stands, not yet `task_of`.
        path: A local folder or file; None for the task's own source.
        holdout: Share of the training split that is scored in the place of the dev splits.

    Raises:
        ValueError: see `load_splits`, `validate`, `hold_out`.
    """
    found = source_stamps(task, path, train_only=holdout is not None)
    return dict(_read(task, path, holdout, found))


@lru_cache(maxsize=8)  # all of GLUE's texts are some 0.2 GB
def _read(task: Task, path: str | Path | None, holdout: float | None, found: tuple[Stamp, ...]) -> Mapping[str, Split]:
    if holdout is None:
        return {name: validate(raw, task) for name, raw in load_splits(task, path).items()}
    train, held_out = _train_and_held_out(task, path, holdout)
    return {task.train_split: train, HELD_OUT: held_out}


def drawn(splits: Mapping[str, Split], task: Task, train_rows: int | None, seed: int) -> dict[str, Split]:
    """The splits with what a run trains on.

    Args:
        splits: As `read_splits` gives them.
        task: What they are of.
        train_rows: Size of a random subset of the training split, drawn by ``seed``; None for all of it.
        seed: Of the subset.

    Raises:
        ValueError: see `random_subset`, `check_train_labels`.
    """
    train = splits[task.train_split]
    if train_rows is not None:
        train = train.take(random_subset(len(train), train_rows, seed))
    check_train_labels(train, task)
    return {**splits, task.train_split: train}


def _train_and_held_out(task: Task, path: str | Path | None, holdout: float) -> tuple[Split, Split]:
    raw = load_splits(task, path, train_only=True)
    every_row = validate(raw[task.train_split], task)
    kept, held_out = hold_out(len(every_row), holdout)
    return every_row.take(kept), every_row.take(held_out)
