"""How long does one LoRA job take, and how much memory, here and with the peers?

    python benchmarks/single_job.py --model <folder of all-MiniLM-L6-v2> --data GLUE --out OUT

Over tasks, projections to adapt and dropout of LoRA. Every side trains the same number of epochs on the same rows, from
the same pretrained weights and the same A, with a dev pass after every epoch; measured is the time of training with its
dev passes, tokenising and loading left out, and the process's peak of resident memory (with `--device gpu`: of the
GPU's) with its rise above what was there before. Each side of each round is a process of its own. Sides take turns, in
another order each round, and no second round of anything begins before all have had their first; ratios are taken
within a round, and the median over the rounds is reported. The dev score stands beside the time, so that no speed is
bought with quality. One record for each task, projections and dropout, written anew after every side; the same command
again goes on where it was stopped, on the same machine and with the same code only. `job_table.py` makes the table.
"""

import argparse
import io
import multiprocessing
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import torch
from glue_run import VERSIONS, WITH_ONE_DEV_SPLIT, configuration
from job_sides import GRAPHS, SIDES, Measured
from job_table import COMPARED, PEFT, ratios, score_of
from job_table import TASKS as FIVE_TASKS
from records import MixedRecordsError, earlier_rows, provenance, record_of, write_record
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from lightning_lora.config import LoraConfig, RunConfig
from lightning_lora.targets import ROLE_SETS

SHAPE = "roberta_base_shape"
SETTINGS = ("lr", "epochs", "batch_size", "train_rows", "dropout", "lora")
ALL_ROWS = (
    "train on so many rows of a task, a random choice; without it on all: 8551 of CoLA, 67349 of SST-2, 5749 of STS-B, "
    "3668 of MRPC, 2490 of RTE. A round of everything then takes five hours on two cores with native bf16, three of "
    "them for SST-2, and with 2048 rows one and a half (reckoned from half the cases, with 1024 or 2048 rows)"
)
Case = argparse.Namespace
"""The options of the command line with one task, one choice of projections and one dropout."""


def cases(options: argparse.Namespace) -> list[Case]:
    """What is measured, each into a record of its own."""
    return [
        Case(**vars(options) | {"task": task, "lora": lora, "dropout": dropout})
        for lora, dropout, task in product(options.lora, options.dropout, options.tasks)
    ]


def run_config(case: Case, seed: int) -> RunConfig:
    """Our run, which the sides change or translate."""
    config = configuration(case, case.task, seed=seed, lr=case.lr, epochs=case.epochs)
    return replace(
        config,
        lora=LoraConfig(dropout=case.dropout, roles=sorted(role.value for role in ROLE_SETS[case.lora])),
        trainer=replace(config.trainer, accelerator=case.device),
    )


def one_side(side: str, config: RunConfig) -> Measured:
    """A side, without what it prints."""
    with redirect_stdout(io.StringIO()):
        return SIDES[side](config)


def in_its_own_process(side: str, config: RunConfig) -> Measured:
    """A side in a fresh process, so that no other's memory or threads are in its way."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(one_side, side, config).result()


def measure(options: argparse.Namespace) -> list[str]:
    """All that is not in the records yet; a side that fails costs its own row only.

    Returns:
        What failed, a line each.

    Raises:
        MixedRecordsError: a record is of other settings, another machine or other code, also where the code has been
            changed since the first row.
    """
    done = {record_file(case): {(row["round"], row["side"]) for row in rows_of(case)} for case in cases(options)}
    jobs = [
        (number, case, side)
        for number in range(options.rounds)
        for case in cases(options)
        for side in sorted(options.sides, key=list(SIDES).index, reverse=bool(number % 2))
        if (number, side) not in done[record_file(case)]
    ]
    failed = []
    for number, case, side in track(jobs, description="side of a round", console=Console(stderr=True)):
        rows, made_by = rows_of(case), made_on(case)
        began = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            measured = in_its_own_process(side, run_config(case, seed=number))
        except Exception as error:  # whatever a peer raises; a process that the system killed is BrokenProcessPool
            failed.append(f"{record_file(case).stem}, round {number}, {side}: {type(error).__name__}: {error}")
            continue
        row = {"task": case.task, "round": number, "side": side, "began": began, **asdict(measured)}
        write_record(record_file(case), made_record(case, [*rows, row | {"provenance": made_by}]))
    return failed


def rows_of(case: Case) -> list[dict[str, Any]]:
    """What its record holds."""
    return earlier_rows(record_file(case), made_record(case, []), made_on(case))


def made_on(case: Case) -> dict[str, Any]:
    return provenance(torch.device("cuda" if case.device == "gpu" else "cpu"))


def made_record(case: Case, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A case's rows with what is needed to repeat them, those of earlier calls included."""
    settings = (*SETTINGS, SHAPE) if case.roberta_base_shape else SETTINGS
    versions = (*VERSIONS, "accelerate", "loralib")
    sides = [side for side in SIDES if side in case.sides or any(row["side"] == side for row in rows)]
    rounds = max(case.rounds, *(row["round"] + 1 for row in rows), 0)
    told = Case(**vars(case) | {"sides": sides, "rounds": rounds})
    return record_of(told, case.task, rows, settings=settings, versions=versions, more=("sides", "rounds", "device"))


def record_file(case: Case) -> Path:
    """Where a case's record is kept."""
    shape = f"_{SHAPE}" if case.roberta_base_shape else ""
    device = "_gpu" if case.device == "gpu" else ""
    return Path(case.out / f"single_job_{case.task}_{case.lora}_dropout{case.dropout:g}{shape}{device}.json")


def summary(options: argparse.Namespace) -> Table:
    """Medians over the rounds of every side; how many times as fast as PEFT's default, within each round."""
    table = Table(title=f"Training with dev passes, median over rounds; times as fast as {PEFT}, within a round")
    for heading in ("case", "side", "rounds", "seconds", "times as fast", "peak MiB", "its rise", "dev score, %"):
        table.add_column(heading)
    for case in cases(options):
        rows = rows_of(case)
        for side in SIDES:
            mine = [row for row in rows if row["side"] == side]
            if not mine:
                continue
            faster = ratios(rows, "seconds", PEFT, side)
            table.add_row(
                f"{case.task}, {case.lora}, {case.dropout:g}",
                side,
                str(len(mine)),
                f"{statistics.median(row['seconds'] for row in mine):.1f}",
                f"{statistics.median(faster):.2f}" if faster else "",
                f"{statistics.median(row['peak_mib'] for row in mine):.0f}",
                f"{statistics.median(row['rise_mib'] for row in mine):.0f}",
                score_of(mine, side),
            )
    return table


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


def parser_of_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub id of a BERT-type encoder")
    parser.add_argument("--data", required=True, help="folder with a folder of parquet files per task")
    parser.add_argument("--tasks", nargs="+", default=list(FIVE_TASKS), choices=WITH_ONE_DEV_SPLIT, metavar="TASK")
    parser.add_argument("--lora", nargs="+", default=["qv", "all"], choices=["qv", "all"], help="projections to adapt")
    parser.add_argument("--dropout", nargs="+", type=float, default=[0.0, 0.1], help="of LoRA")
    names = "; ".join(side for side in SIDES if side not in COMPARED)
    parser.add_argument(
        "--sides",
        nargs="+",
        default=list(COMPARED),
        choices=list(SIDES),
        metavar="SIDE",
        help=f"the default are the four of the table: {'; '.join(COMPARED)}. There are also: {names}",
    )
    parser.add_argument("--rounds", type=int, default=3, help="each with a seed of its own")
    parser.add_argument("--train-rows", type=int, default=None, help=ALL_ROWS)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--roberta-base-shape", action="store_true", help="a RoBERTa-base with random weights, the model's tokenizer"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"], help="where every side trains")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the records")
    return parser


def main() -> None:
    parser = parser_of_options()
    options = parser.parse_args()
    if options.device == "gpu" and not torch.cuda.is_available():
        parser.error("--device gpu: there is no CUDA GPU here")
    if options.device == "cpu" and GRAPHS in options.sides:
        parser.error(f"--sides {GRAPHS!r}: CUDA graphs need --device gpu")
    with tempfile.TemporaryDirectory() as folder:
        if options.roberta_base_shape:
            options.model = str(roberta_base_shape(AutoTokenizer.from_pretrained(options.model), Path(folder)))
        try:
            failed = measure(options)
            Console().print(summary(options))
        except MixedRecordsError as error:
            parser.error(str(error))
    if failed:
        sys.exit("\n".join([*failed, "the same command again measures what failed; the rest stands in the records"]))


if __name__ == "__main__":
    main()
