"""How far is a LoRA step from the least that any such step must compute?

    python benchmarks/step_floor.py --model <folder of all-MiniLM-L6-v2> --data GLUE --out OUT

The floor is the frozen model's forward and the gradient of its input, on the same batches without padding, with the
same dropout of the base model and the same head: what is left of training when nothing is adapted and no optimizer
runs. It includes the gradient of the first block's input, back through query, key and value, which a LoRA step lacks,
since nothing below trains: of six blocks that is 2 % of the floor's products. A step is forward, backward, clipping and
AdamW. Floor and step take turns batch by batch; the ratio is taken within a batch, and
its median over all batches with at least `--tokens` tokens is reported. Beside it stands the share of a step that its
products with the frozen weights would need at the machine's measured peak; they are counted as the step computes them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from glue_run import VERSIONS, configuration
from job_table import TASKS as FIVE_TASKS
from records import provenance, record_of, write_record
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from lightning_lora import build
from lightning_lora.config import LoraConfig, RunConfig
from lightning_lora.targets import ROLE_SETS
from lightning_lora.tasks import TASKS
from lightning_lora.training import FrozenBaseInBf16

SETTINGS = ("lora", "precision", "batch_size", "train_rows", "dropout", "tokens", "rounds")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
Step = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Measured:
    """Medians over the batches of a task.

    Attributes:
        tokens: Of a batch.
        milliseconds: Of a step.
        times_the_floor: Step over floor, within a batch.
        share_of_peak: Time that a step's `products` with the frozen weights take at the peak, over that of the step.
    """

    task: str
    precision: str
    adapted: str
    batches: int
    tokens: float
    milliseconds: float
    times_the_floor: float
    share_of_peak: float


def made_step(config: RunConfig, precision: str) -> tuple[Step, list[dict[str, Any]], nn.Module]:
    """A step of the run that the configuration asks for, its batches, and the blocks of its model."""
    with tempfile.TemporaryDirectory() as folder:
        assembled = build.assemble(config, Path(folder))
    module = assembled.module.train()
    if precision == "bf16":
        FrozenBaseInBf16().on_fit_start(assembled.trainer, module)
    model: Any = module.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.lora.method == "lora":
        optimizer = torch.optim.AdamW(trained, lr=config.lr, fused=True)  # as the LightningModule has it

        def step(batch: dict[str, Any]) -> None:
            module.loss(module.logits(batch), batch["labels"]).backward()
            nn.utils.clip_grad_norm_(trained, config.optim.clip_norm)
            optimizer.step()
            optimizer.zero_grad()

    else:
        embeddings = model.base_model.embeddings
        embeddings.register_forward_hook(lambda _module, _given, output: _with_gradient(output))

        def step(batch: dict[str, Any]) -> None:
            module.loss(module.logits(batch), batch["labels"]).backward()

    return step, list(assembled.data.train_dataloader()), model.base_model.encoder


@contextmanager
def products(blocks: nn.Module) -> Iterator[list[int]]:
    """Multiply-adds with the weights of each Linear that is called within: of forward, and of its input's gradient.

    That is rows times the size of the weight, once, and twice where backward needs the gradient of what the layer is
    given. The weights are frozen, so that they have no gradient of their own.
    """
    counted: list[int] = []

    def count(layer: nn.Module, given: tuple[Tensor], _output: Tensor) -> None:
        rows = given[0].numel() // given[0].shape[-1]
        counted.append(rows * layer.weight.numel() * (2 if given[0].requires_grad else 1))

    layers = [layer for layer in blocks.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        yield counted
    finally:
        for hook in hooks:
            hook.remove()


def _with_gradient(output: Tensor) -> Tensor:
    return output.detach().requires_grad_()


def peak(precision: str) -> float:
    """Multiply-adds a second of a product with the best of ten tries, of square matrices."""
    one = torch.randn(2048, 2048).to(PRECISIONS[precision])
    times = []
    for _ in range(10):
        started = time.perf_counter()
        one.mm(one)
        times.append(time.perf_counter() - started)
    return float(2048**3 / min(times))


def seconds(step: Step, batch: dict[str, Any]) -> float:
    started = time.perf_counter()
    step(batch)
    return time.perf_counter() - started


def measured(options: argparse.Namespace, task: str, precision: str, roles: str) -> Measured:
    """Floor and step in turn over the batches; the first round, which makes kernels, is not counted."""
    config = replace(
        configuration(options, task, seed=0, lr=1e-3, epochs=1),
        lora=LoraConfig(dropout=options.dropout, roles=sorted(role.value for role in ROLE_SETS[roles])),
    )
    config = replace(config, data=replace(config.data, ragged=True))
    floor, _, _ = made_step(replace(config, lora=LoraConfig(method="head")), precision)
    step, batches, blocks = made_step(config, precision)
    batches = [batch for batch in batches if batch["input_ids"].numel() >= options.tokens]
    if not batches:
        raise SystemExit(f"error: no batch of {task} has {options.tokens} tokens; ask for fewer with --tokens")
    sizes: list[int] = []
    for batch in batches:
        floor(batch)
        with products(blocks) as counted:
            step(batch)
        sizes.append(sum(counted))
    times: list[tuple[int, int, float, float]] = [
        (batch["input_ids"].numel(), size, seconds(floor, batch), seconds(step, batch))
        for _ in range(options.rounds)
        for batch, size in zip(batches, sizes, strict=True)
    ]
    best = peak(precision)
    return Measured(
        task,
        precision,
        roles,
        len(batches),
        statistics.median(tokens for tokens, _, _, _ in times),
        1000 * statistics.median(own for _, _, _, own in times),
        statistics.median(own / least for _, _, least, own in times),
        statistics.median(size / best / own for _, size, _, own in times),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub id of a BERT-type encoder")
    parser.add_argument("--data", required=True, help="folder with a folder of parquet files per task")
    parser.add_argument("--tasks", nargs="+", default=list(FIVE_TASKS), choices=sorted(TASKS))
    parser.add_argument("--lora", nargs="+", default=["qv", "all"], choices=["qv", "all"], help="projections to adapt")
    parser.add_argument("--precision", nargs="+", default=list(PRECISIONS), choices=list(PRECISIONS))
    parser.add_argument("--tokens", type=int, default=0, help="least tokens of a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--train-rows", type=int, default=640)
    parser.add_argument("--dropout", type=float, default=0.0, help="of LoRA")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the records")
    options = parser.parse_args()

    made_by = provenance()  # now: of the code that runs
    table = Table(title="A LoRA step and the least there is to compute, medians over batches")
    for heading in ("task", "precision", "adapted", "batches", "tokens", "ms", "times the floor", "share of peak"):
        table.add_column(heading)
    for task in options.tasks:
        cases = [(precision, roles) for precision in options.precision for roles in options.lora]
        rows = []
        for precision, roles in track(cases, description=task, console=Console(stderr=True)):
            rows.append(found := measured(options, task, precision, roles))
            table.add_row(
                *(f"{value:.2f}" if isinstance(value, float) else str(value) for value in asdict(found).values())
            )
        made = [asdict(row) | {"provenance": made_by} for row in rows]
        record = record_of(options, task, made, settings=SETTINGS, versions=VERSIONS)
        write_record(options.out / f"step_floor_{task}.json", record)
    Console().print(table)


if __name__ == "__main__":
    main()
