"""How long does one LoRA job take, here and with PEFT in Hugging Face's Trainer?

    python benchmarks/single_job.py --model <folder of all-MiniLM-L6-v2> --data ../shared/glue --tasks sst2 mrpc

Every side trains the same number of epochs on the same rows, from the same pretrained weights, with a dev pass after
every epoch; measured is the time of training with its dev passes, tokenising and loading left out. Sides take turns,
in another order each round; ratios are taken within a round, and the median over the rounds is reported. The dev score
stands beside the time, so that no speed is bought with quality. One record for each task.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft_parity import VERSIONS, configuration, peft_model_from_the_same_start, record_of
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from lightning_lora import build, running
from lightning_lora.atomic import atomic_file
from lightning_lora.config import LoraConfig, MergeConfig, RunConfig
from lightning_lora.tasks import TASKS, score

SETTINGS = ("lr", "epochs", "batch_size", "train_rows", "dropout")
Measured = tuple[float, float]
"""Seconds, and the headline score of the last epoch."""


def ours(config: RunConfig, ragged: bool) -> Measured:
    """`python train.py`, from the first step to the end of the last dev pass."""
    config = replace(config, data=replace(config.data, ragged=ragged))
    # Without the summary of every run.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        record = running.run(config, Path(folder))
    assert record.score is not None
    return record.seconds["fit"], record.score


def peft_in_trainer(config: RunConfig, padding: str) -> Measured:
    """PEFT's model in Hugging Face's Trainer: fp32, AdamW, linear schedule with our warm-up.

    Args:
        config: The settings that both sides share.
        padding: "dynamic" (to the longest of the batch, the Trainer's default), "grouped" (batches of like length) or
            "fixed" (to `data.max_length`, as the common scripts pad).
    """
    task = TASKS[config.data.task]
    model, backbone = peft_model_from_the_same_start(config, task)
    data = build.data_module(config, task, backbone)
    data.setup()
    sets = [data.train_dataloader().dataset, data.val_dataloader()[0].dataset]
    train, dev = (
        [{name: value for name, value in rows[row].items() if name != "idx"} for row in range(len(rows))]
        for rows in sets
    )
    fixed = {"padding": "max_length", "max_length": config.data.max_length} if padding == "fixed" else {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            per_device_eval_batch_size=config.batch_size,
            learning_rate=config.lr,
            weight_decay=config.optim.weight_decay,
            warmup_steps=config.optim.warmup_ratio,
            train_sampling_strategy="group_by_length" if padding == "grouped" else "random",
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=True,
            seed=config.seed,
        )
        trainer = Trainer(
            model,
            arguments,
            DataCollatorWithPadding(backbone.tokenizer, **fixed),
            train,
            dev,
            compute_metrics=lambda told: score(
                task, torch.from_numpy(np.asarray(told.predictions)), torch.from_numpy(np.asarray(told.label_ids))
            ),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    (last,) = (row for row in trainer.state.log_history[-2:] if f"eval_{task.headline}" in row)
    return seconds, last[f"eval_{task.headline}"]


SIDES: dict[str, Callable[[RunConfig], Measured]] = {
    "here, ragged": lambda config: ours(config, ragged=True),
    "here, padded": lambda config: ours(config, ragged=False),
    "PEFT + Trainer, dynamic padding": lambda config: peft_in_trainer(config, "dynamic"),
    "PEFT + Trainer, grouped by length": lambda config: peft_in_trainer(config, "grouped"),
    "PEFT + Trainer, padded to max_length": lambda config: peft_in_trainer(config, "fixed"),
}
FIRST = next(iter(SIDES))


def summary(rows: list[dict[str, Any]]) -> Table:
    """Medians over the rounds; how many times as long as the first side, within each round."""
    table = Table(title="Training with dev passes, median over rounds; times as long as the first side, within a round")
    for heading in ("task", "side", "rounds", "seconds", "times as long", "dev score"):
        table.add_column(heading)
    first = {(row["task"], row["round"]): row["seconds"] for row in rows if row["side"] == FIRST}
    for task, side in dict.fromkeys((row["task"], row["side"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["side"]) == (task, side)]
        ratios = [row["seconds"] / first[task, row["round"]] for row in mine]
        scores = [row["score"] for row in mine]
        cells = [statistics.median(row["seconds"] for row in mine), statistics.median(ratios)]
        spread = f"{statistics.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})"
        table.add_row(task, side, str(len(mine)), f"{cells[0]:.1f}", f"{cells[1]:.2f}", spread)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub id of a BERT-type encoder")
    parser.add_argument("--data", required=True, help="folder with a folder of parquet files per task")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "mrpc"], choices=sorted(TASKS))
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES), metavar="SIDE")
    parser.add_argument("--rounds", type=int, default=3, help="each with a seed of its own")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--train-rows", type=int, default=2048)
    parser.add_argument("--dropout", type=float, default=0.0, help="of LoRA")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the records")
    options = parser.parse_args()

    rows: list[dict[str, Any]] = []
    jobs = [
        (task, number, side)
        for task in options.tasks
        for number in range(options.rounds)
        for side in sorted(options.sides, key=list(SIDES).index, reverse=bool(number % 2))
    ]
    for task, number, side in track(jobs, description="task x round x side", console=Console(stderr=True)):
        seconds, reached = SIDES[side](
            replace(
                configuration(options, task, seed=number),
                lora=LoraConfig(dropout=options.dropout),
                merge=MergeConfig(at_end=False),
            )
        )
        rows.append({"task": task, "round": number, "side": side, "seconds": seconds, "score": reached})
        with atomic_file(options.out / f"single_job_{task}.json") as temporary:
            record = record_of(options, task, rows, settings=SETTINGS, versions=(*VERSIONS, "accelerate"))
            temporary.write_text(json.dumps(record, indent=2) + "\n")
    Console().print(summary(rows))


if __name__ == "__main__":
    main()
