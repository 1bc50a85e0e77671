"""Where a task's splits come from: a local path, the embedded toy data, the hub, or the hub's local snapshot."""

from pathlib import Path

import pyarrow as pa

from lightning_lora.data import toy
from lightning_lora.data.files import READERS, DataError, RawSplit, read_file
from lightning_lora.data.validation import IDX
from lightning_lora.file_stamps import Stamp, stamps
from lightning_lora.settings import first_line
from lightning_lora.tasks import TOY_TASKS, Task

# The toy data is one fixed data set, as GLUE is: a run's seed does not change it.
TOY_SEED = 0


def load_splits(task: Task, path: str | Path | None = None, *, train_only: bool = False) -> dict[str, RawSplit]:
    """The training split and, unless it is wanted alone, the dev splits, in that order, unchecked.

    With a path, only the path counts: a folder holding ``<split>.parquet|csv|tsv|jsonl``, itself or in a sub-folder
    named after the task; or one file, which is the split it is named after (the training split for any other name),
    with the other splits beside it. Without one: the embedded data for toy tasks, else the hub, else the hub's local
    snapshot.

    Raises:
        DataError: nothing is there, a split is missing, or a file cannot be read; one line saying what to do.
    """
    splits = _splits(task, train_only)
    if path is not None:
        files = _find_files(task, Path(path).expanduser(), splits)
        return {split: read_file(file, _wanted(task)) for split, file in files.items()}
    if task.name in TOY_TASKS:
        return {split: _toy_split(task, split) for split in splits}
    if task.hub is None:
        raise DataError(f"task {task.name} has no source of its own: give data.path=<folder or file>")
    return _from_hub(task, *task.hub, splits)


def source_stamps(task: Task, path: str | Path | None = None, *, train_only: bool = False) -> tuple[Stamp, ...]:
    """Of the files that `load_splits` would read; none without a path, where one process takes one snapshot.

    Raises:
        DataError: as `load_splits`, of a path.
    """
    if path is None:
        return ()
    return stamps(_find_files(task, Path(path).expanduser(), _splits(task, train_only)).values())


def load_labelled(task: Task, path: str | Path) -> dict[str, RawSplit]:
    """What a user gives to be scored: one labelled file whatever its name, or a folder's dev splits; unchecked.

    Raises:
        DataError: as `load_splits`.
    """
    given = Path(path).expanduser()
    if given.is_file():
        return {given.stem: read_file(given, _wanted(task))}
    folder = given if _candidates(given, task.dev_splits) else given / task.name
    if not folder.is_dir():
        raise DataError(f"--data {path}: no such file, and no folder with {task.dev_splits[0]}{_endings()}")
    return {split: read_file(_split_file(folder, split), _wanted(task)) for split in task.dev_splits}


def _splits(task: Task, train_only: bool = False) -> tuple[str, ...]:
    return (task.train_split,) if train_only else (task.train_split, *task.dev_splits)


def _wanted(task: Task) -> tuple[str, ...]:
    return (*task.text_columns, task.label_column, IDX)


def _toy_split(task: Task, split: str) -> RawSplit:
    rows = toy.TRAIN_ROWS if split == task.train_split else toy.VALIDATION_ROWS
    return _raw(task, pa.Table.from_pylist(toy.generate(task.name, split, rows, TOY_SEED)), f"{task.name}/{split}")


def _raw(task: Task, table: pa.Table, origin: str) -> RawSplit:
    columns = tuple(table.column_names)
    return RawSplit(table.select([name for name in columns if name in _wanted(task)]), columns, origin)


def _find_files(task: Task, path: Path, splits: tuple[str, ...]) -> dict[str, Path]:
    if path.is_dir():
        folders = [folder for folder in (path, path / task.name) if _candidates(folder, splits)]
        if not folders:
            raise DataError(
                f"data.path={path}: no file for task {task.name} in it or in {task.name}/; "
                f"expected {task.train_split}{_endings()}; there is {_listing(path)}"
            )
        return {split: _split_file(folders[0], split) for split in splits}
    if not path.exists():
        raise DataError(f"data.path={path}: no such file or folder")
    given = path.stem if path.stem in _splits(task) else task.train_split
    beside = {
        split: _split_file(path.parent, split, prefer=path.suffix, given=path) for split in splits if split != given
    }
    return {split: beside.get(split, path) for split in splits}


def _candidates(folder: Path, splits: tuple[str, ...]) -> list[Path]:
    names = [folder / f"{split}{ending}" for split in splits for ending in READERS]
    return [file for file in names if file.is_file()]


def _split_file(folder: Path, split: str, prefer: str | None = None, given: Path | None = None) -> Path:
    files = _candidates(folder, (split,))
    if not files:
        beside = f"data.path={given} is one split; the split {split!r} is missing beside it" if given else ""
        raise DataError(
            f"{beside or f'{folder}: the split {split!r} is missing'}; "
            f"expected {split}{_endings()}; there is {_listing(folder)}"
        )
    preferred = [file for file in files if file.suffix == prefer]
    if preferred:
        return preferred[0]
    if len(files) > 1:
        raise DataError(f"{folder}: the split {split!r} is there as {' and '.join(f.name for f in files)}; keep one")
    return files[0]


def _endings() -> str:
    return "|".join(READERS)


def _listing(folder: Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "nothing"


def _from_hub(task: Task, repository: str, configuration: str, splits: tuple[str, ...]) -> dict[str, RawSplit]:
    reasons = []
    for way, source in (("hub", repository), ("snapshot", None)):
        try:
            return _load_dataset(task, source or _snapshot(repository), configuration, repository, splits)
        except DataError:
            raise
        except Exception as error:  # the hub's client raises a dozen unrelated types for "not available"
            reasons.append(f"{way}: {type(error).__name__}: {first_line(error)[:120]}")
            cause = error
    raise DataError(
        f"task {task.name}: its data is not available; give a local copy with data.path=<folder or file>, or go online "
        f"for {repository} on the hub, or download it before with `hf download --repo-type dataset {repository}` "
        f"({'; '.join(reasons)})"
    ) from cause


def _snapshot(repository: str) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(repository, repo_type="dataset", local_files_only=True)


def _load_dataset(
    task: Task, source: str, configuration: str, repository: str, splits: tuple[str, ...]
) -> dict[str, RawSplit]:
    import datasets

    found = datasets.load_dataset(source, configuration)
    missing = [split for split in splits if split not in found]
    if missing:
        raise DataError(f"{repository}/{configuration}: no split {missing[0]!r}; there are {', '.join(found)}")
    return {
        split: _raw(task, found[split].with_format("arrow")[:], f"{repository}/{configuration}/{split}")
        for split in splits
    }
