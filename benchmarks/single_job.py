"""How long does one LoRA job take, and how much memory, here and with the peers?

    python benchmarks/single_job.py --model <folder of all-MiniLM-L6-v2> --data GLUE --tasks sst2 mrpc --out OUT

Every side trains the same number of epochs on the same rows, from the same pretrained weights, with a dev pass after
every epoch; measured is the time of training with its dev passes, tokenising and loading left out, and how much the
process's peak of resident memory (with `--device gpu`: of the GPU's) rises above what it had before. Each side of each
round is a process of its own. Sides take turns, in another order each round; ratios are taken within a round, and the
median over the rounds is reported. The dev score stands beside the time, so that no speed is bought with quality. One
record for each task, written anew after every side; the same command again goes on where it was stopped.
"""

import argparse
import io
import multiprocessing
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from job_sides import FIRST, SIDES, Measured
from peft_parity import VERSIONS, configuration
from records import earlier_rows, record_of, write_record
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from lightning_lora.config import LoraConfig, RunConfig
from lightning_lora.targets import ROLE_SETS
from lightning_lora.tasks import TASKS

SHAPE = "roberta_base_shape"
SETTINGS = ("lr", "epochs", "batch_size", "train_rows", "dropout", "lora")


def one_side(side: str, config: RunConfig) -> Measured:
    """A side, without what it prints."""
    with redirect_stdout(io.StringIO()):
        return SIDES[side](config)


def in_its_own_process(side: str, config: RunConfig) -> Measured:
    """A side in a fresh process, so that no other's memory or threads are in its way."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(one_side, side, config).result()


def summary(rows: list[dict[str, Any]]) -> Table:
    """Medians over the rounds; how many times as fast as the first peer, within each round."""
    table = Table(title=f"Training with dev passes, median over rounds; times as fast as {FIRST}, within a round")
    for heading in ("task", "side", "rounds", "seconds", "times as fast", "peak MiB", "dev score"):
        table.add_column(heading)
    first = {(row["task"], row["round"]): row["seconds"] for row in rows if row["side"] == FIRST}
    for task in dict.fromkeys(row["task"] for row in rows):
        for side in SIDES:
            mine = [row for row in rows if (row["task"], row["side"]) == (task, side)]
            if not mine:
                continue
            ratios = [first[task, row["round"]] / row["seconds"] for row in mine if (task, row["round"]) in first]
            scores = [row["score"] for row in mine]
            table.add_row(
                task,
                side,
                str(len(mine)),
                f"{statistics.median(row['seconds'] for row in mine):.1f}",
                f"{statistics.median(ratios):.2f}" if ratios else "",
                f"{statistics.median(row['peak_mib'] for row in mine):.0f}",
                f"{statistics.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})",
            )
    return table


def record_file(options: argparse.Namespace, task: str) -> Path:
    """Where a task's record with these settings is kept."""
    shape = f"_{SHAPE}" if options.roberta_base_shape else ""
    device = "_gpu" if options.device == "gpu" else ""
    return Path(options.out / f"single_job_{task}_{options.lora}_dropout{options.dropout:g}{shape}{device}.json")


def roberta_base_shape(tokenizer: Any, folder: Path) -> Path:
    """A RoBERTa of 12 blocks, 768 wide, with random weights and another tokenizer: for times and memory only."""
    config = AutoConfig.for_model(
        "roberta",
        vocab_size=len(tokenizer),
        max_position_embeddings=514,
        type_vocab_size=2,  # one more than RoBERTa's, for this tokenizer's pairs
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / SHAPE)
    tokenizer.save_pretrained(folder / SHAPE)
    return folder / SHAPE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub id of a BERT-type encoder")
    parser.add_argument("--data", required=True, help="folder with a folder of parquet files per task")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "mrpc"], choices=sorted(TASKS))
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES), metavar="SIDE")
    parser.add_argument("--rounds", type=int, default=3, help="each with a seed of its own")
    parser.add_argument("--lora", default="qv", choices=["qv", "all"], help="projections to adapt")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--train-rows", type=int, default=2048)
    parser.add_argument("--dropout", type=float, default=0.0, help="of LoRA")
    parser.add_argument(
        "--roberta-base-shape", action="store_true", help="a RoBERTa-base with random weights, the model's tokenizer"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"], help="where every side trains")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the records")
    options = parser.parse_args()
    if options.device == "gpu" and not torch.cuda.is_available():
        parser.error("--device gpu: there is no CUDA GPU here")
    with tempfile.TemporaryDirectory() as folder:
        if options.roberta_base_shape:
            options.model = str(roberta_base_shape(AutoTokenizer.from_pretrained(options.model), Path(folder)))
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """All that is not in the records yet, and the table of all."""
    rows: list[dict[str, Any]] = []
    for task in options.tasks:
        rows += earlier_rows(record_file(options, task), made_record(options, task, []))
    done = {(row["task"], row["round"], row["side"]) for row in rows}
    jobs = [
        (task, number, side)
        for task in options.tasks
        for number in range(options.rounds)
        for side in sorted(options.sides, key=list(SIDES).index, reverse=bool(number % 2))
        if (task, number, side) not in done
    ]
    for task, number, side in track(jobs, description="task x round x side", console=Console(stderr=True)):
        roles = sorted(role.value for role in ROLE_SETS[options.lora])
        config = configuration(options, task, seed=number, lr=options.lr, epochs=options.epochs)
        config = replace(
            config,
            lora=LoraConfig(dropout=options.dropout, roles=roles),
            trainer=replace(config.trainer, accelerator=options.device),
        )
        measured = in_its_own_process(side, config)
        rows.append({"task": task, "round": number, "side": side, **asdict(measured)})
        write_record(record_file(options, task), made_record(options, task, rows))
    Console().print(summary(rows))


def made_record(options: argparse.Namespace, task: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A task's rows with what is needed to repeat them."""
    settings = (*SETTINGS, SHAPE) if options.roberta_base_shape else SETTINGS
    record = record_of(options, task, rows, settings=settings, versions=(*VERSIONS, "accelerate", "loralib"))
    if options.device == "gpu":
        record["command"] += " --device gpu"
        record["machine"] = torch.cuda.get_device_name()
    return record


if __name__ == "__main__":
    main()
