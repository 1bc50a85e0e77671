"""Dev rows of several tasks in the same batches, through each task's own adapter and head on one base model.

    python experiments/mixed_batch/run.py RUN RUN ... --out experiments/mixed_batch/results.json

Each RUN is the folder of a finished run on the same base model. What comes out is compared with the predictions that
the runs recorded, each on its own. As the control, rows go through the adapter of another task.
"""

import argparse
import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from lightning_lora import RunRecord, Task, load_backbone, load_peft_folder, mixed_logits, read_predictions, read_record
from lightning_lora.atomic import atomic_file
from lightning_lora.backbone import Backbone
from lightning_lora.config import run_config_of
from lightning_lora.data.collation import Collator
from lightning_lora.data.encoding import Tokens, tokenise
from lightning_lora.data.sources import load_labelled
from lightning_lora.data.validation import validate
from lightning_lora.tasks import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs on one base model")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, help="where the facts go, as JSON")
    options = parser.parse_args()

    folders = one_for_each_task(options.runs)
    records = {name: read_record(folder) for name, folder in folders.items()}
    tasks = {name: run_config_of(record.config).data.find_task() for name, record in records.items()}
    names = list(tasks)
    backbone = one_base(folders, records, tasks[names[0]])
    dev = {name: dev_rows(backbone, tasks[name], records[name]) for name in names}
    everything = [(name, row) for name in names for row in range(len(dev[name][1]))]

    own = run_mixed(backbone, dev, everything, names, options.batch_size, description="each through its own")
    # A row of a task goes through the adapter of another with as many outputs, where there is one.
    twin = {n: next((m for m in names if m != n and len(tasks[m].labels) == len(tasks[n].labels)), n) for n in names}
    crossed = [pair for pair in everything if twin[pair[0]] != pair[0]]
    other = run_mixed(backbone, dev, crossed, [twin[n] for n in names], options.batch_size, description="the control")

    rows = []
    for name in names:
        recorded = read_predictions(folders[name] / "predictions.parquet")
        alone, mixed, labels, metric = torch.from_numpy(recorded.logits), own[name], dev[name][1], records[name].metric
        changed = 0 if tasks[name].is_regression else int((alone.argmax(1) != mixed.argmax(1)).sum())
        row = {"task": name, "rows": len(alone), "metric": metric, "score alone": records[name].score}
        row |= {"score mixed": score(tasks[name], mixed, labels)[metric], "predictions changed": changed}
        row["largest logit difference"] = float((alone - mixed).abs().max())
        row["control"] = score(tasks[name], other[name], labels)[metric] if name in other else None
        rows.append(row)
    report(rows, options, records)


def one_for_each_task(runs: Sequence[Path]) -> dict[str, Path]:
    """The runs' folders by their tasks.

    Raises:
        SystemExit: two are of one task, whose rows could not go through both.
    """
    folders: dict[str, Path] = {}
    for folder in runs:
        task = read_record(folder).task
        if task in folders:
            raise SystemExit(f"{folders[task]} and {folder} are both runs of {task}: give one of each task")
        folders[task] = folder
    return folders


def one_base(folders: dict[str, Path], records: dict[str, RunRecord], task: Task) -> Backbone:
    """The base model with every run's adapter on it, each by its task's name and with its own head."""
    (base,) = {(record.base["name"], record.base["revision"]) for record in records.values()}
    backbone = load_backbone(base[0], task, base[1])
    for name, folder in folders.items():
        load_peft_folder(backbone.model, folder / "adapter", adapter=name, new_parameters=backbone.new_parameters)
    backbone.model.eval()
    return backbone


def dev_rows(backbone: Backbone, task: Task, record: RunRecord) -> tuple[Tokens, Tensor]:
    """Tokens and labels of a task's dev rows, in the order of ``idx`` that records keep."""
    (raw,) = load_labelled(task, record.config["data"]["path"]).values()
    split = validate(raw, task)
    split = split.take(split.idx.argsort())
    texts: tuple[pa.Array, ...] = split.texts
    return tokenise(texts, backbone.tokenizer, record.config["data"]["max_length"]), split.labels


@torch.inference_mode()
def run_mixed(
    backbone: Backbone,
    dev: dict[str, tuple[Tokens, Tensor]],
    pairs: Sequence[tuple[str, int]],
    adapters: Sequence[str],
    batch_size: int,
    description: str,
) -> dict[str, Tensor]:
    """Logits of every task's rows, from batches drawn over all of them; ``adapters`` are in the tasks' order."""
    collate = Collator.of(backbone.tokenizer)
    through = dict(zip(dev, adapters, strict=True))
    found: dict[str, dict[int, Tensor]] = {}
    mixed = 0
    batches = list(batches_of(pairs, batch_size))
    for batch in track(batches, description=description, console=Console(stderr=True)):
        inputs = collate([dev[name][0].row(row) for name, row in batch])
        mixed += len({name for name, _ in batch}) > 1
        logits = mixed_logits(backbone.model, [through[name] for name, _ in batch], inputs)
        for (name, row), values in zip(batch, logits, strict=True):
            found.setdefault(name, {})[row] = values
    print(f"{description}: {mixed} of {len(batches)} batches hold rows of several tasks")
    return {name: torch.stack([rows[row] for row in range(len(rows))]) for name, rows in found.items()}


def batches_of(pairs: Sequence[tuple[str, int]], size: int) -> Iterator[list[tuple[str, int]]]:
    """All pairs in a random order that is the same every time, so many at once."""
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist()
    for start in range(0, len(order), size):
        yield [pairs[index] for index in order[start : start + size]]


def report(rows: list[dict[str, Any]], options: argparse.Namespace, records: dict[str, RunRecord]) -> None:
    """A table on the terminal, the facts in the file."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    if options.out:
        first = next(iter(records.values()))
        content = {
            "batch_size": options.batch_size,
            "base fingerprint": first.base["fingerprint"],
            "runs": {name: record.job_id for name, record in records.items()},
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
            "versions": first.versions,
            "rows": rows,
        }
        with atomic_file(options.out) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
