"""Warm start: an adapter begins where that of an earlier run ended, with a head of its own.

The LoRA paper starts MRPC, RTE and STS-B from the adapter trained on MNLI (Hu et al. 2021, arXiv 2106.09685, appendix
D). What is taken over is A and B alone. The head is new whatever the two tasks are: it says what the earlier task's
labels mean, and equal shapes do not make them mean the same.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_lora.adapters_io.facts import read_facts
from lightning_lora.adapters_io.peft_config import PeftConfig, read_peft_config
from lightning_lora.adapters_io.peft_folder import PREFIX, WEIGHTS_FILE, adapter_folder_of, factor_keys
from lightning_lora.adapters_io.safe_files import TensorFile, open_tensors, tensor_name
from lightning_lora.digests import fingerprint_of, tensor_digests
from lightning_lora.inject import adapted_layers, swap_values
from lightning_lora.lora import LoRALayer, OutputLayout
from lightning_lora.lora.functional import expand_low_rank

ADAPTER = "default"  # the one that a run trains


@dataclass(frozen=True)
class WarmStart:
    """Where an adapter's first values came from.

    Attributes:
        run: The folder that was given.
        task: Name of the task that the adapter was trained for.
        fingerprint: sha256 over names, types, shapes and bytes of A and B, as fp32.
        job_id: Of the run that trained it; None where no run's record stands beside it.
        settings: Hash of what that run was but for its seed and what the two runs must share (layers, rank, scale):
            equal where the starts of an option's seeds are seeds of one option themselves. None as `job_id`.
    """

    run: str
    task: str
    fingerprint: str
    job_id: str | None = None
    settings: str | None = None


def warm_start(model: nn.Module, run: Path, *, base_fingerprint: str) -> WarmStart:
    """Give a model's adapter the factors of an earlier run's, bit for bit; the head is left as it is.

    Args:
        model: A model with the adapter injected, under the name "default".
        run: The earlier run's folder, or its ``adapter``.
        base_fingerprint: `Backbone.fingerprint` of the model.

    Raises:
        ValueError: there is no adapter, or it is of another base model, other layers, ranks or scales, or has biases.
            The model is unchanged then.
    """
    try:
        folder = _adapter_of(run)
        task = _task_of(folder, base_fingerprint)
        layers = adapted_layers(model, ADAPTER)
        config = read_peft_config(folder)
        _check_no_biases(config)
        _check_ranks(config, layers)
        _check_scales(config, layers)
        with open_tensors(folder / WEIGHTS_FILE) as file:
            _check_layers(file, layers)
            factors = {name: _factors(file, layer, name) for name, layer in layers.items()}
        values = {
            f"{name}.{key}": value for name, pair in factors.items() for key, value in zip("AB", pair, strict=True)
        }
        swap_values(model, ADAPTER, values)
    except ValueError as error:
        raise ValueError(f"warm_start={run}: {error}") from error
    return WarmStart(str(run), task, factors_fingerprint(run))


def factors_fingerprint(run: Path) -> str:
    """`WarmStart.fingerprint` of what a run would start from.

    Args:
        run: The earlier run's folder, or its ``adapter``.

    Raises:
        ValueError: there is no adapter.
    """
    try:
        with open_tensors(_adapter_of(run) / WEIGHTS_FILE) as file:
            factors = sorted(key for key in file.entries if ".lora_" in key)
            return fingerprint_of(tensor_digests((key, file.read(key, torch.float32)) for key in factors))
    except ValueError as error:
        raise ValueError(f"warm_start={run}: {error}") from error


def _adapter_of(run: Path) -> Path:
    folder = adapter_folder_of(run)
    if folder is None:
        raise ValueError("there is no adapter; it must be the folder of a finished run, or adapter/ in it")
    return folder


def _task_of(folder: Path, base_fingerprint: str) -> str:
    """The task of an adapter, whose base must be the one of that fingerprint."""
    facts = read_facts(folder)
    if facts is None or not facts.base_fingerprint:
        raise ValueError("it does not say which base model it belongs to; lightning-lora import-peft finds out")
    if facts.base_fingerprint != base_fingerprint:
        raise ValueError(
            f"it was trained on another base model ({facts.base_fingerprint[:12]}), this one is {base_fingerprint[:12]}"
        )
    return facts.task


def _check_layers(file: TensorFile, layers: dict[str, LoRALayer]) -> None:
    present = {key for key in file.entries if ".lora_" in key}
    expected = {key: name for name, layer in layers.items() for key in factor_keys(layer, name)}
    if missing := sorted(set(expected) - present):
        raise ValueError(f"it has no factors for {expected[missing[0]]}, which is adapted here; choose the same layers")
    if unused := sorted(present - set(expected)):
        layer = tensor_name(unused[0].removeprefix(PREFIX).partition(".lora_")[0])
        raise ValueError(f"it adapts {layer} as well, which is not adapted here; choose the same layers")


def _check_no_biases(config: PeftConfig) -> None:
    if config.bias != "none":
        raise ValueError(
            f"it was trained with biases (bias={config.bias}), and only A and B are taken over; start from one with "
            "bias=none"
        )


def _check_ranks(config: PeftConfig, layers: dict[str, LoRALayer]) -> None:
    """Before the scales, which follow from them. Those of an adapter that was cut are of no run's settings."""
    were = [config.spec(name).rank for name in layers]
    here = [len(layer.delta(ADAPTER).A) for layer in layers.values()]  # of all parts where it is fused, as PEFT counts
    if were != here and len(set(were)) > 1:
        raise ValueError(
            f"its ranks differ from layer to layer ({min(were)} to {max(were)}) and from those here ({min(here)} to "
            f"{max(here)}); of an adapter that was cut, start from the one before"
        )


def _check_scales(config: PeftConfig, layers: dict[str, LoRALayer]) -> None:
    for name, layer in layers.items():
        was, now = config.spec(name).scale, layer.delta(ADAPTER).scale
        if not math.isclose(was, now, rel_tol=1e-6):
            raise ValueError(f"its scale is {was:g} at {name} and {now:g} here; give the same rank, alpha and scaling")


def _factors(file: TensorFile, layer: LoRALayer, name: str) -> tuple[Tensor, Tensor]:
    """A and B of a layer, B of each adapted part below that of the one before."""
    delta = layer.delta(ADAPTER)
    A, B = (file.read(key, delta.A.dtype) for key in factor_keys(layer, name))
    if len(A) != len(delta.A):
        parts = len(delta.layout.adapted)
        raise ValueError(f"its rank is {len(A) // parts} at {name} and {delta.spec.rank} here; give the same rank")
    return A, B if delta.layout.is_whole else _of_parts(B, delta.layout, name)


def _of_parts(B: Tensor, layout: OutputLayout, name: str) -> Tensor:
    """What `save_peft_folder` made block-diagonal, (out, parts · rank), as (adapted, rank) again."""
    count = len(layout.adapted)
    blocks = B.reshape(layout.groups, layout.parts, -1, count, B.shape[1] // count)
    own = torch.cat([blocks[:, part, :, place].flatten(0, 1) for place, part in enumerate(layout.adapted)])
    if not torch.equal(expand_low_rank(torch.eye(B.shape[1], dtype=B.dtype), own, layout).T, B):
        raise ValueError(f"it adapts {name} as one matrix, where this run adapts parts of it")
    return own
