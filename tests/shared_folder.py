"""The folder of published files beside the clone, where there is one, and GLUE's shape where there is none."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from lightning_lora.tasks import TASKS, TOY_TASKS, Task

SHARED = Path(__file__).resolve().parents[2] / "shared"
# Of each split; the tests take 200 rows of this one, and its last batch of 32 is not full.
ROWS = {("rte", "train"): 250, ("wnli", "train"): 75}
WORDS = ("the", "new", "red", "cat", "dog", "film", "house", "tree", "sees", "likes", "hears", "often", "never")


def shared_or(name: str, write: Callable[[Path], object], folder: Path) -> Path:
    """The folder ``shared/<name>``; where it is not there, ``folder``, with what ``write`` puts into it."""
    if (SHARED / name).is_dir():
        return SHARED / name
    write(folder)
    return folder


def write_glue(folder: Path) -> None:
    """GLUE's tasks in few generated rows, in its columns, types, splits and files, with their counts beside them."""
    lines = ["| task | split | rows | official | label counts |", "|---|---|---|---|---|"]
    for name in sorted(set(TASKS) - TOY_TASKS):
        task = TASKS[name]
        (folder / name).mkdir()
        for split in (task.train_split, *task.dev_splits):
            rows = ROWS.get((name, split), 60 if split == task.train_split else 43)
            # A class in turn, or a number from 0 to 5.
            labels = [row % len(task.labels) if task.labels else row % 11 / 2 for row in range(rows)]
            pq.write_table(_table(task, split, labels), folder / name / f"{split}.parquet", compression="zstd")
            counts = " ".join(f"{label}:{labels.count(label)}" for label in range(len(task.labels)))
            told = counts or f"0.0-5.0, mean {sum(labels) / rows:.3f}"
            lines.append(f"| {name} | {split} | {rows} | none | {told} |")
    (folder / "PROVENANCE.md").write_text("\n".join(lines))


def _table(task: Task, split: str, labels: list[float]) -> pa.Table:
    random = Random(f"{task.name} {split}")
    texts = [[" ".join(random.choices(WORDS, k=random.randint(2, 30))) for _ in labels] for _ in task.text_columns]
    columns = dict(zip(task.text_columns, texts, strict=True)) | {
        "label": pa.array(labels, pa.int64() if task.labels else pa.float32()),
        "idx": pa.array(range(len(labels)), pa.int32()),
    }
    return pa.table(columns)
