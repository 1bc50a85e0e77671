"""What trained runs have moved, layer by layer: the runs themselves, and ΔW out of their folders."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.provenance import ROOT
from experiments.theory.environment import location
from lightning_lora import read_record, restore
from lightning_lora.lora import lora_layers
from lightning_lora.targets import match, projections_for

RUNS = ROOT / "runs" / "theory"
# The embedded encoder on the embedded task, a minute's worth for all runs of an experiment.
QUICK = ("data.train_rows=1000", "trainer.max_steps=90", "logger=disabled")


@dataclass(frozen=True)
class Update:
    """One adapted layer of a run.

    Attributes:
        role: "query", "value", "up", …
        block: Number of the transformer block, from 0.
        weight: W_0, (out, in), fp64.
        delta: ΔW, (out, in), fp64.
        A: The factor (rank, in), fp64; of a run without adapters, the ΔW.
    """

    role: str
    block: int
    weight: Tensor
    delta: Tensor
    A: Tensor


def train(name: str, settings: Sequence[str], quick: bool) -> Path:
    """Train a run, unless it lies finished with just these settings, whatever made it: see `identity`.

    The whole version trains all-MiniLM-L6-v2 on MRPC: the environment says where they are, MINILM and GLUE.

    Raises:
        SystemExit: training failed, which has said why; or a place is not known.
    """
    if quick:
        where: tuple[str, ...] = QUICK
    else:
        where = (f"model.name={location('MINILM')}", "data=mrpc", f"data.path={location('GLUE')}/mrpc")
    of_settings = hashlib.sha256("\n".join([*where, *settings]).encode()).hexdigest()[:8]
    folder = RUNS / ("quick" if quick else "mrpc") / f"{name}-{of_settings}"
    overrides = [*where, *settings, f"hydra.run.dir={folder}"]
    if quick or not finished(folder):
        command = [sys.executable, "train.py", *overrides]
        environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        # What the run says of itself is not wanted here; what goes wrong is.
        status = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False).returncode
        if status:
            raise SystemExit(f"training {name} ended with exit status {status}: {folder}")
    return folder


def finished(folder: Path) -> bool:
    """Whether a run lies in the folder that came to its end."""
    return (folder / "result.json").exists() and read_record(folder).status == "finished"


def score(folder: Path) -> float:
    """The run's headline score on the dev rows, of the last epoch."""
    found = read_record(folder).score
    assert found is not None
    return found


def identity(folder: Path) -> dict[str, Any]:
    """Which run it is, and what it was made with: a run that lay there may be of an earlier version."""
    record = read_record(folder)
    return {"job_id": record.job_id, "device": record.device, "versions": record.versions}


def adapter_updates(folder: Path) -> dict[str, Update]:
    """Of a run with adapters, by name of layer."""
    model = restore(folder).backbone.model
    rows = projections_for(model.config.model_type)
    found = {}
    for name, layer in lora_layers(model):
        where, (delta,) = match(name, rows), layer.adapters.values()
        assert where is not None
        weight = layer.weight.detach().double()
        A = delta.A.detach().double()
        found[name] = Update(where.roles[0].value, where.block, weight, delta.weight().detach().double(), A)
    return found


def full_updates(folder: Path, beside: dict[str, Update]) -> dict[str, Update]:
    """Of a run that trained everything, at the layers of another run on the same base: ``ΔW = W_full − W_0``."""
    model = restore(folder).backbone.model
    found = {}
    for name, other in beside.items():
        delta = model.get_submodule(name).weight.detach().double() - other.weight
        found[name] = Update(other.role, other.block, other.weight, delta, delta)
    return found
