"""Does a run on the GPU give what it gives on the CPU, and how fast and how large is it there?

    python benchmarks/gpu.py --out OUT/gpu.json   checks and measures everything in one call, on one CUDA GPU

First every architecture that runs without padding, adapted, in fp64: logits and gradients without padding on the GPU,
as they are and replayed from a CUDA graph, against those of the padded model on the CPU. Then, on the embedded task and
encoder: the dev logits of a run on the GPU in fp32 against the same run on the CPU, and after some steps with graphs
against those without; the merge check in each precision (under autocast it may change predictions, which are then
rounded before and after), scores side by side, seconds and peak memory, the median of several alternating runs. The
record is written anew after each part, and an architecture that fails costs the others nothing. Exits with status 1
where a check fails.
"""

import argparse
import copy
import importlib.metadata
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import provenance, write_record
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_lora import RunConfig, read_predictions, run
from lightning_lora.config import DataConfig, LoggerConfig, MergeConfig, ModelConfig, TrainerConfig
from lightning_lora.lora import adapter_parameters
from lightning_lora.ragged import CudaGraphs, cuda_graphs, ragged_logits
from lightning_lora.ragged.execution import FIRST_TOKEN, LAST_TOKEN

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from ragged_texts import LENGTHS, adapted, texts

SETTINGS: dict[str, dict[str, Any]] = {
    "cpu fp32": {"accelerator": "cpu", "precision": "32-true"},
    "gpu fp32": {"accelerator": "gpu", "precision": "32-true"},
    "gpu fp32, graphs": {"accelerator": "gpu", "precision": "32-true", "cuda_graphs": True},
    "gpu, the default": {"accelerator": "gpu"},
    "gpu, graphs": {"accelerator": "gpu", "cuda_graphs": True},
    "gpu, autocast": {"accelerator": "gpu", "precision": "bf16-mixed"},
}
VERSIONS = ("lightning-lora", "torch", "lightning", "transformers")
NOT_TIMED = {"cpu fp32", "gpu fp32, graphs"}
# One step from the same weights: what differs is the order of fp32 sums, not the course of training.
LARGEST_LOGIT_DIFFERENCE = 1e-3
LARGEST_IN_FP64, LARGEST_WITH_FP32 = 1e-9, 1e-5
"""Of logits and gradients, relative to the largest; and of models with something in fp32 whatever their type is."""
ANGLES_IN_FP32 = {"gpt_neox", "llama", "mistral", "modernbert", "qwen2", "qwen3"}
"""Those of rotary positions, whose sine and cosine a GPU rounds differently."""
SOFTMAX_IN_FP32 = {"gemma2"}
"""Of the plain formula, which is there for capped scores; torch's attention has none. Its angles are in fp32 too."""


def differences(architecture: str) -> dict[str, float]:
    """The largest of a logit or a gradient, relative to the largest such, without padding on the GPU and padded here.

    All in fp64, so that only a wrong computation differs by more than rounding: no type and no order of sums is in it.
    """
    torch.manual_seed(0)
    here = adapted(architecture, "eager" if architecture in SOFTMAX_IN_FP32 else None)
    there = copy.deepcopy(here).cuda()
    padded, ragged = texts(LENGTHS["mixed"], pairs=False)
    del padded["token_type_ids"]
    weights = torch.randn(len(LENGTHS["mixed"]), here.config.num_labels, dtype=torch.float64)
    expected = _logits_and_gradients(here, here(**padded).logits, weights)
    found = _logits_and_gradients(there, ragged_logits(there, on_gpu(ragged)), weights)
    graphs = CudaGraphs(there)
    for lengths in (LENGTHS["even"], LENGTHS["mixed"], LENGTHS["even"], LENGTHS["mixed"]):
        graphs.logits(on_gpu(texts(lengths, pairs=False)[1]))
    assert graphs.recorded == 2
    # What a recording must not hold on to: values, lengths, weights. And another shape has been recorded since.
    shifted = [*LENGTHS["mixed"][1:], LENGTHS["mixed"][0]]
    padded, ragged = texts(shifted, pairs=False)
    with torch.no_grad():
        for model in (here, there):
            for _, factor in adapter_parameters(model):
                factor.mul_(-1.5)
    del padded["token_type_ids"]
    expected_then = _logits_and_gradients(here, here(**padded).logits, weights)
    found_then = _logits_and_gradients(there, graphs.logits(on_gpu(ragged)), weights)
    assert graphs.recorded == 2
    return {
        "as it is": largest_relative(expected, found),
        "replayed": largest_relative(expected_then, found_then),
    }


def on_gpu(ragged: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch without types, which some models do not take; the lengths stay on the CPU, where they are read."""
    return {"input_ids": ragged["input_ids"].cuda(), "lengths": ragged["lengths"]}


def largest_relative(expected: list[Tensor], found: list[Tensor]) -> float:
    """The largest difference of an element, relative to the tensor's largest; NaN where one is not a number."""
    shares = [(two - one).abs().max() / one.abs().max() for one, two in zip(expected, found, strict=True)]
    return float(torch.stack(shares).max())  # Python's own maximum would pass over a NaN


def _logits_and_gradients(model: nn.Module, logits: Tensor, weights: Tensor) -> list[Tensor]:
    factors = [factor for _, factor in adapter_parameters(model)]
    gradients = torch.autograd.grad((logits * weights.to(logits.device)).sum(), factors)
    return [tensor.detach().cpu() for tensor in (logits, *gradients)]


def configuration(options: argparse.Namespace, place: str, max_steps: int = -1) -> RunConfig:
    """The defaults of `train.py` on one device, in one precision."""
    return RunConfig(
        model=ModelConfig(name=options.model),
        data=DataConfig(task=options.task, path=options.data),
        trainer=TrainerConfig(max_steps=max_steps, progress_bar=False, **SETTINGS[place]),
        logger=LoggerConfig(wandb="disabled"),
        merge=MergeConfig(save=False),
    )


def measured(config: RunConfig) -> dict[str, Any]:
    """One run: its record's figures and its dev logits."""
    with tempfile.TemporaryDirectory() as folder:
        record = run(config, Path(folder))
        logits = read_predictions(next(Path(folder).glob("predictions*.parquet"))).logits
    assert record.merge_check is not None, "a LoRA run is merged at its end"
    return {
        "score": record.score,
        "seconds": record.seconds["fit"],
        "peak_memory_bytes": record.peak_memory_bytes,
        "changed_by_merging": record.merge_check["changed_predictions"],
        "device": record.device,
        "logits": logits,
    }


def difference_of_replaying(options: argparse.Namespace, place: str) -> float:
    """The largest between dev logits after 30 steps that are replayed where a shape comes again, and that never are.

    With the model's dropout on: replayed steps drop what the others do.
    """
    logits, most = [], cuda_graphs.MOST
    for cuda_graphs.MOST in (most, 0):
        logits.append(measured(configuration(options, place, max_steps=30))["logits"])
    cuda_graphs.MOST = most
    return float(np.abs(logits[0] - logits[1]).max())


def summary(rows: dict[str, list[dict[str, Any]]]) -> Table:
    """One line for each device and precision."""
    table = Table(title="the same run on each (median over repeats)")
    for heading in ("where", "score", "seconds", "peak memory, MiB", "predictions changed by merging"):
        table.add_column(heading)
    for place, runs in rows.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in ("score", "seconds", "peak_memory_bytes")}
        changed = str(max(run["changed_by_merging"] for run in runs))
        memory = f"{middle['peak_memory_bytes'] / 2**20:.0f}"
        table.add_row(place, f"{middle['score']:.4f}", f"{middle['seconds']:.1f}", memory, changed)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="folder, hub id or tiny")
    parser.add_argument("--task", default="toy_sentiment")
    parser.add_argument("--data", default=None, help="the task's local folder")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: there is no CUDA GPU here; this script measures one")

    record: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "provenance": provenance(torch.device("cuda")),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }
    failures: list[str] = []
    for part in (architectures, logits_of_runs, timed_runs):
        found, failed = part(options)
        failures += failed
        record |= found | {"failures": failures}
        write_record(options.out, record)
    print("\n".join(["FAILED:", *failures]) if failures else "all checks passed")
    sys.exit(1 if failures else 0)


def architectures(_options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Every architecture against the padded model: the differences, and what failed."""
    exact: dict[str, dict[str, float]] = {}
    failures = []
    usual, cuda_graphs.FILLER_TEXT = cuda_graphs.FILLER_TEXT, 8  # the tiny models have 24 positions
    for name in sorted(FIRST_TOKEN | LAST_TOKEN):
        largest = LARGEST_WITH_FP32 if name in ANGLES_IN_FP32 | SOFTMAX_IN_FP32 else LARGEST_IN_FP64
        try:
            exact[name] = differences(name)
        except (AssertionError, RuntimeError) as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
            continue
        told = ", ".join(f"{way} {difference:.1e}" for way, difference in exact[name].items())
        print(f"{name:12} {told}", flush=True)
        if not all(difference <= largest for difference in exact[name].values()):
            failures.append(f"{name}: not the padded model's: {told}; at most {largest:.0e} is rounding")
    cuda_graphs.FILLER_TEXT = usual
    return {"largest_relative_difference_in_fp64": exact}, failures


def logits_of_runs(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Dev logits of a run on both devices, and replayed against one by one: the differences, and what failed."""
    one_step = [measured(configuration(options, place, max_steps=1))["logits"] for place in ("cpu fp32", "gpu fp32")]
    found = {"GPU against CPU, fp32, after one step": float(np.abs(one_step[0] - one_step[1]).max())}
    for place in ("gpu fp32, graphs", "gpu, graphs"):
        found[f"replayed against one by one, {place}, after 30 steps"] = difference_of_replaying(options, place)
    for name, value in found.items():
        print(f"largest logit difference, {name}: {value:.1e}", flush=True)
    failures = [
        f"{name}: logits differ by {value:.1e}, at most {LARGEST_LOGIT_DIFFERENCE:.0e} is rounding"
        for name, value in found.items()
        if not value <= LARGEST_LOGIT_DIFFERENCE
    ]
    return {"largest_logit_difference": found}, failures


def timed_runs(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The same run in each precision, alternating: what was measured, and where merging changed predictions."""
    rows: dict[str, list[dict[str, Any]]] = {place: [] for place in SETTINGS if place not in NOT_TIMED}
    for _ in range(options.repeats):  # alternating, so that a change of the machine's pace hits all alike
        for place, runs in rows.items():
            runs.append(
                {key: value for key, value in measured(configuration(options, place)).items() if key != "logits"}
            )
    Console().print(summary(rows))
    failures = [
        f"{place}: merging changed predictions"
        for place, runs in rows.items()
        if place != "gpu, autocast" and any(run["changed_by_merging"] for run in runs)
    ]
    return {"runs": rows}, failures


if __name__ == "__main__":
    main()
