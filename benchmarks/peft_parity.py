"""Does a run here reach the dev score of PEFT in a plain loop, from the same start, over several seeds?

    python benchmarks/peft_parity.py --model <folder of all-MiniLM-L6-v2> --data GLUE --tasks mrpc stsb --out OUT

For each task and seed, the run of `python train.py lora=qv rank=8`, padded and in fp32, and a hand-written PyTorch
loop around PEFT's model train from the same pretrained weights, the same new head, the same A, on the same batches,
with the same AdamW and schedule. With `--masks same` the loop draws the same dropout masks too: it seeds torch's
generator before each batch as a run does, and drops by the same function. With `--masks own` it draws from one stream
by torch's own dropout, so that the two sides differ as two seeds do. The result is a table, and for each task a record
with machine and versions, written anew after every pair of runs; the same command again goes on where it was stopped.
Scores are what is compared; the seconds in the record are no measure of speed when other work shares the machine.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from glue_run import VERSIONS, WITH_ONE_DEV_SPLIT, configuration, peft_model_from_the_same_start
from records import MixedRecordsError, earlier_rows, provenance, record_of, write_record
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from transformers import get_scheduler

from lightning_lora import build, running
from lightning_lora.config import RunConfig
from lightning_lora.data import TextDataModule
from lightning_lora.data.sampling import batch_seed
from lightning_lora.lora import use_cheap_dropout
from lightning_lora.tasks import TASKS, Task, score


def train_ours(config: RunConfig) -> tuple[dict[str, float], float]:
    """Dev metrics of the last epoch, and the seconds of training with its dev passes."""
    with tempfile.TemporaryDirectory() as folder:
        record = running.run(config, Path(folder))
    (metrics,) = record.metrics.values()
    return {name: value for name, value in metrics.items() if value is not None}, record.seconds["fit"]


def loss_of(logits: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Cross-entropy, or squared error for regression."""
    return F.mse_loss(logits.squeeze(-1), labels) if task.is_regression else F.cross_entropy(logits, labels)


def train_peft(config: RunConfig, same_masks: bool) -> tuple[dict[str, float], float]:
    """The plain loop."""
    task = TASKS[config.data.task]
    model, backbone = peft_model_from_the_same_start(config, task)
    if same_masks:
        use_cheap_dropout(model)
    data = build.data_module(config, task, backbone)
    data.setup()
    loader = data.train_dataloader()
    steps = len(loader) * config.epochs
    trainable = [p for p in model.parameters() if p.requires_grad]
    decayed = {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.optim.weight_decay}
    optimizer = torch.optim.AdamW(
        [decayed, {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0}], config.lr
    )
    warmup = -(-steps * config.optim.warmup_ratio // 1)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=int(warmup), num_training_steps=steps)
    started = time.perf_counter()
    metrics: dict[str, float] = {}
    for epoch in range(config.epochs):
        model.train()
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        for number, batch in enumerate(loader):
            labels = batch.pop("labels")
            batch.pop("idx")
            if same_masks:
                torch.manual_seed(batch_seed(config.seed, epoch, number))
            loss_of(model(**batch).logits, labels, task).backward()
            nn.utils.clip_grad_norm_(trainable, config.optim.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        metrics = dev_metrics(model, data, task)
    return metrics, time.perf_counter() - started


@torch.no_grad()
def dev_metrics(model: nn.Module, data: TextDataModule, task: Task) -> dict[str, float]:
    """Metrics over the whole first dev split."""
    model.eval()
    logits, labels = [], []
    for batch in data.val_dataloader()[0]:
        labels.append(batch.pop("labels"))
        batch.pop("idx")
        logits.append(model(**batch).logits)
    return score(task, torch.cat(logits), torch.cat(labels))


def summary(rows: list[dict[str, Any]]) -> Table:
    """Mean and spread over the seeds, side by side."""
    table = Table(title="Dev score of the last epoch: mean (lowest to highest) over the seeds")
    for heading in ("task", "metric", "seeds", "ours", "PEFT, plain loop"):
        table.add_column(heading)
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        cells = []
        for side in ("ours", "peft"):
            scores = [row[side] for row in mine]
            cells.append(f"{statistics.mean(scores):.4f} ({min(scores):.4f} to {max(scores):.4f})")
        table.add_row(task, mine[0]["metric"], str(len(mine)), *cells)
    return table


SETTINGS = ("lr", "epochs", "batch_size", "train_rows", "masks")


def made_record(options: argparse.Namespace, task: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A task's rows with what is needed to repeat them, those of earlier calls included."""
    seeds = sorted({*options.seeds, *(row["seed"] for row in rows if row["task"] == task)})
    told = argparse.Namespace(**vars(options) | {"seeds": seeds})
    return record_of(told, task, rows, settings=SETTINGS, versions=VERSIONS, more=("seeds",))


def record_file(options: argparse.Namespace, task: str) -> Path:
    """Where a task's record is kept."""
    return Path(options.out / f"peft_parity_{task}_{options.masks}_masks.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub id of a BERT-type encoder")
    parser.add_argument("--data", required=True, help="folder with a folder of parquet files per task")
    parser.add_argument("--tasks", nargs="+", default=["mrpc", "stsb"], choices=WITH_ONE_DEV_SPLIT)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--train-rows", type=int, default=None)
    parser.add_argument("--masks", default="same", choices=["same", "own"], help="dropout masks of PEFT's side")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the records")
    options = parser.parse_args()

    try:
        rows = measure(options)
    except MixedRecordsError as error:
        parser.error(str(error))
    Console().print(summary(rows))


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of all tasks, those of an earlier call and of its seeds included.

    Raises:
        MixedRecordsError: an earlier call's cannot stand beside today's.
    """
    made_by = provenance()
    rows: list[dict[str, Any]] = []
    for task in options.tasks:
        rows += earlier_rows(record_file(options, task), made_record(options, task, []), made_by)
    done = {(row["task"], row["seed"]) for row in rows}
    jobs = [(task, seed) for task in options.tasks for seed in options.seeds if (task, seed) not in done]
    for number, (task, seed) in enumerate(track(jobs, description="task x seed", console=Console(stderr=True))):
        config = configuration(options, task, seed=seed, lr=options.lr, epochs=options.epochs)
        sides = {"ours": train_ours, "peft": partial(train_peft, same_masks=options.masks == "same")}
        # Alternating which side goes first, so that a machine that warms up or slows down favours neither.
        results = {side: sides[side](config) for side in sorted(sides, reverse=bool(number % 2))}
        metric = TASKS[task].headline
        row: dict[str, Any] = {"task": task, "seed": seed, "metric": metric, "provenance": made_by}
        for side, (metrics, seconds) in results.items():
            row |= {side: metrics[metric], f"{side}_seconds": seconds}
        rows.append(row)
        write_record(record_file(options, task), made_record(options, task, rows))
    return rows


if __name__ == "__main__":
    main()
