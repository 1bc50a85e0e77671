"""How long does one LoRA job take, and how much memory, here and with the peers?

    python benchmarks/single_job.py --model <folder of all-MiniLM-L6-v2> --data ../shared/glue --tasks sst2 mrpc

Every side trains the same number of epochs on the same rows, from the same pretrained weights, with a dev pass after
every epoch; measured is the time of training with its dev passes, tokenising and loading left out, and how much the
process's peak of resident memory rises above what it had before. Each side of each round is a process of its own.
Sides take turns, in another order each round; ratios are taken within a round, and the median over the rounds is
reported. The dev score stands beside the time, so that no speed is bought with quality. One record for each task,
written anew after every side; the same command again goes on where it was stopped.
"""

import argparse
import io
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import loralib
import numpy as np
import torch
from peft_parity import VERSIONS, configuration, peft_model_from_the_same_start
from records import earlier_rows, record_of, write_record
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from lightning_lora import build, running
from lightning_lora.backbone import Backbone, load_backbone
from lightning_lora.config import LoraConfig, MergeConfig, RunConfig
from lightning_lora.targets import ROLE_SETS
from lightning_lora.tasks import TASKS, score
from lightning_lora.training import LoRAClassifier, OptimSettings

SHAPE = "roberta_base_shape"
SETTINGS = ("lr", "epochs", "batch_size", "train_rows", "dropout", "lora")


@dataclass
class Measured:
    """Of one side in one round: training with its dev passes, and the headline score of the last epoch."""

    seconds: float = 0.0
    peak_mib: float = 0.0
    score: float = 0.0


@contextmanager
def measuring(measured: Measured) -> Iterator[None]:
    """Time of the block, and the rise of the peak of resident memory in it (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
    before, started = _peak_kib(), time.perf_counter()
    yield
    measured.seconds = time.perf_counter() - started
    measured.peak_mib = (_peak_kib() - before) / 1024


def _peak_kib() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def ours(config: RunConfig, ragged: bool, precision: str) -> Measured:
    """`python train.py`, from the first step to the end of the last dev pass."""
    measured = Measured()
    config = replace(
        config,
        data=replace(config.data, ragged=ragged),
        trainer=replace(config.trainer, precision=precision),
        merge=MergeConfig(at_end=False),
    )
    with tempfile.TemporaryDirectory() as folder:
        assembled = build.assemble(config, Path(folder))
        with measuring(measured):
            running.fit(assembled)
    measured.score = assembled.module.dev_metrics[assembled.task.dev_splits[0]][assembled.task.headline]
    return measured


def peft_in_trainer(config: RunConfig, padding: str, bf16: bool = False) -> Measured:
    """PEFT's model in Hugging Face's Trainer: AdamW, linear schedule with our warm-up.

    Args:
        config: The settings that both sides share.
        padding: "dynamic" (to the longest of the batch, the Trainer's default), "grouped" (batches of like length) or
            "fixed" (to `data.max_length`, as the common scripts pad).
        bf16: Autocast to bf16, the Trainer's own option.
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
            bf16=bf16,
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
        measured = Measured()
        with measuring(measured):
            trainer.train()
    (last,) = (row for row in trainer.state.log_history[-2:] if f"eval_{task.headline}" in row)
    measured.score = last[f"eval_{task.headline}"]
    return measured


def in_our_loop(config: RunConfig, model: nn.Module, backbone: Backbone) -> Measured:
    """Another library's model in this project's LightningModule, padded to the longest of the batch."""
    task = TASKS[config.data.task]
    data = build.data_module(config, task, backbone)
    data.setup()
    steps = len(data.train_dataloader()) * config.epochs
    optim = OptimSettings(lr=config.lr, weight_decay=config.optim.weight_decay, warmup_ratio=config.optim.warmup_ratio)
    module = LoRAClassifier(model, task, optim, steps)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=config.epochs,
        gradient_clip_val=config.optim.clip_norm,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    measured = Measured()
    with measuring(measured):
        trainer.fit(module, datamodule=data)
    measured.score = module.dev_metrics[task.dev_splits[0]][task.headline]
    return measured


def peft_in_our_loop(config: RunConfig) -> Measured:
    """PEFT's layers in this project's loop."""
    return in_our_loop(config, *peft_model_from_the_same_start(config, TASKS[config.data.task]))


def loralib_in_our_loop(config: RunConfig) -> Measured:
    """Microsoft's layers in this project's loop; in eval mode they merge by themselves."""
    backbone = load_backbone(config.model.name, TASKS[config.data.task])
    for adapted in build.inspect(config).modules:
        base = backbone.model.get_submodule(adapted.name)
        layer = loralib.Linear(
            adapted.in_features, adapted.out_features, config.rank, 2 * config.rank, config.lora.dropout
        )
        layer.load_state_dict(base.state_dict(), strict=False)
        parent, _, own = adapted.name.rpartition(".")
        setattr(backbone.model.get_submodule(parent), own, layer)
    loralib.mark_only_lora_as_trainable(backbone.model)
    for name, parameter in backbone.model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or name in backbone.new_parameters)
    return in_our_loop(config, backbone.model, backbone)


SIDES: dict[str, Callable[[RunConfig], Measured]] = {
    "here": lambda config: ours(config, ragged=True, precision="auto"),
    "here, fp32": lambda config: ours(config, ragged=True, precision="32-true"),
    "here, fp32, padded": lambda config: ours(config, ragged=False, precision="32-true"),
    "PEFT + Trainer": lambda config: peft_in_trainer(config, "dynamic"),
    "PEFT + Trainer, grouped by length": lambda config: peft_in_trainer(config, "grouped"),
    "PEFT + Trainer, bf16, grouped by length": lambda config: peft_in_trainer(config, "grouped", bf16=True),
    "PEFT + Trainer, padded to max_length": lambda config: peft_in_trainer(config, "fixed"),
    "PEFT in our loop": peft_in_our_loop,
    "loralib in our loop": loralib_in_our_loop,
}
FIRST = "PEFT + Trainer"


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
    return Path(options.out / f"single_job_{task}_{options.lora}_dropout{options.dropout:g}{shape}.json")


def roberta_base_shape(tokenizer: Any, folder: Path) -> Path:
    """A RoBERTa of 12 blocks, 768 wide, with random weights and another tokenizer: for times and memory only."""
    config = AutoConfig.for_model(
        "roberta",
        vocab_size=len(tokenizer),
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / SHAPE)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
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
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the records")
    options = parser.parse_args()
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
        config = replace(
            configuration(options, task, seed=number), lora=LoraConfig(dropout=options.dropout, roles=roles)
        )
        measured = in_its_own_process(side, config)
        rows.append({"task": task, "round": number, "side": side, **asdict(measured)})
        write_record(record_file(options, task), made_record(options, task, rows))
    Console().print(summary(rows))


def made_record(options: argparse.Namespace, task: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A task's rows with what is needed to repeat them."""
    return record_of(options, task, rows, settings=SETTINGS, versions=(*VERSIONS, "accelerate", "loralib"))


if __name__ == "__main__":
    main()
