"""Writing an adapter as the folder that Hugging Face's PEFT reads: adapter_config.json and adapter_model.safetensors.

Our A and B are PEFT's ``lora_A.weight`` and ``lora_B.weight``, in the same orientation. A fused projection of which
some parts are adapted becomes one adapter of rank ``parts · rank`` whose B is block-diagonal; the product is the same.
What the checkpoint lacked (the head) goes in with the adapter, as PEFT's ``modules_to_save``.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lightning_lora.adapters_io.facts import FACTS_FILE, AdapterFacts
from lightning_lora.atomic import atomic_folder
from lightning_lora.inject import adapted_layers, check_stands_once, head_names, new_modules
from lightning_lora.lora import LoRAConv1D, LoRALayer, LowRankDelta, adapter_keys
from lightning_lora.lora.functional import expand_low_rank

PREFIX = "base_model.model."
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
# Ends of names of the modules that PEFT takes for a classifier's head, saved with the adapter, whatever it is told.
_HEADS_OF_PEFT = ("classifier", "score")

T = TypeVar("T")


def save_peft_folder(
    model: nn.Module,
    folder: Path,
    *,
    base_name: str,
    revision: str | None = None,
    adapter: str = "default",
    new_parameters: Collection[str] = (),
    facts: AdapterFacts | None = None,
) -> None:
    """Write one adapter and the newly initialised modules, atomically.

    Args:
        model: A model with injected adapters, merged or not.
        folder: Where to write; replaced if it is there.
        base_name: Hub id or folder of the base model, for PEFT to find it.
        revision: Hub revision of the base model.
        adapter: Name of the adapter.
        new_parameters: Names of the newly initialised parameters, and of others that were trained with the adapter.
        facts: What is known of task and base model. It is written beside PEFT's files, for loading to check; None
            leaves a folder of PEFT's own two files.

    Raises:
        ValueError: the model has no such adapter, its layers cannot be told in one PEFT configuration, or one of them
            stands in the model at several places.
        CannotWriteError: the folder cannot be written to, or the disk is full; what was there is as it was.
    """
    layers = adapted_layers(model, adapter)
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        check_stands_once(model, name, layer)
        tensors |= _factors(name, layer, adapter)
    new_parameters = _as_peft_saves(model, new_parameters)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tensors |= {
        _own_key(name, layers): parameters[own].detach()
        for name, own in head_names(model, adapter, new_parameters).items()
    }
    saved = new_modules(model, new_parameters)
    heads = {name for name, _ in model.named_modules() if name.endswith(_HEADS_OF_PEFT)}
    config = _config(layers, adapter) | {
        "base_model_name_or_path": base_name,
        "revision": revision,
        "modules_to_save": saved or None,
        "bias": _bias(set(parameters) - adapter_keys(model), layers, new_parameters, saved),
        # PEFT cannot open a classifier's adapter without the head it expects; to the logits the task type is nothing.
        "task_type": "SEQ_CLS" if saved and heads <= set(saved) else None,
    }
    with atomic_folder(folder) as temporary:
        (temporary / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, temporary / WEIGHTS_FILE)
        if facts is not None:
            (temporary / FACTS_FILE).write_text(replace(facts, parameters=tuple(new_parameters)).to_json())


def adapter_folder_of(run: Path) -> Path | None:
    """The folder of a run's adapter, which may be given itself; None where there is none."""
    return next((folder for folder in (run / "adapter", run) if (folder / CONFIG_FILE).is_file()), None)


def factor_keys(layer: nn.Module, name: str) -> tuple[str, str]:
    """PEFT's names of A and B of a layer, adapted or not yet."""
    if isinstance(layer, nn.Embedding):
        return f"{PREFIX}{name}.lora_embedding_A", f"{PREFIX}{name}.lora_embedding_B"
    return f"{PREFIX}{name}.lora_A.weight", f"{PREFIX}{name}.lora_B.weight"


def _as_peft_saves(model: nn.Module, new_parameters: Collection[str]) -> list[str]:
    """``new_parameters``, plus modules whose name merely ends in a saved one's.

    PEFT matches by suffix, so ``classifier`` also saves DistilBERT's ``pre_classifier``.
    """
    ends, adapters = tuple(new_modules(model, new_parameters)), adapter_keys(model)
    modules = tuple(f"{name}." for name, _ in model.named_modules() if name.endswith(ends))
    names = [name for name, _ in model.named_parameters(remove_duplicate=False) if name not in adapters]
    return list(dict.fromkeys([*new_parameters, *(name for name in names if name.startswith(modules))]))


def _bias(
    parameters: Collection[str], layers: Collection[str], new_parameters: Collection[str], saved: Collection[str]
) -> str:
    """PEFT's word for the biases among ``new_parameters``, beside those of the modules that are saved whole.

    Args:
        parameters: Names of the base model's parameters.
        layers: Names of the adapted layers.
        new_parameters: Names of the parameters that are saved.
        saved: Names of the modules that are saved whole.
    """
    heads = tuple(f"{module}." for module in saved)
    single = {name for name in new_parameters if not (heads and name.startswith(heads))}
    biases = {name for name in parameters if name.endswith(".bias")}
    if single and single == {f"{name}.bias" for name in layers} & biases:
        return "lora_only"
    return "all" if single and biases <= set(new_parameters) else "none"


def _factors(name: str, layer: LoRALayer, adapter: str) -> dict[str, Tensor]:
    delta = layer.delta(adapter)
    A, B = delta.A.detach(), delta.B.detach()
    if not delta.layout.is_whole:
        # expand_low_rank maps (…, ranks) to (…, out); on the identity it gives the block-diagonal B itself, transposed.
        B = expand_low_rank(torch.eye(A.shape[0], dtype=B.dtype, device=B.device), B, delta.layout).T
    return dict(zip(factor_keys(layer, name), (A, B), strict=True))


def _own_key(name: str, layers: Mapping[str, LoRALayer]) -> str:
    """PEFT's name of a parameter of the model's own; PEFT puts an adapted layer's one level deeper."""
    module, _, key = name.rpartition(".")
    return f"{PREFIX}{module}.base_layer.{key}" if module in layers else PREFIX + name


def _config(layers: dict[str, LoRALayer], adapter: str) -> dict[str, Any]:
    """PEFT's LoraConfig: the most frequent rank and alpha, and the layers that differ by name.

    PEFT's rank is that of the exported factors: of a fused layer the summed rank, and alpha grows with it.
    """
    deltas = {name: layer.delta(adapter) for name, layer in layers.items()}
    dropouts = {delta.spec.dropout for delta in deltas.values()}
    if len(dropouts) > 1:
        raise ValueError(f"PEFT has one dropout for all layers; adapter {adapter!r} has {sorted(dropouts)}")
    rooted = all(delta.spec.scaling == "alpha_over_sqrt_rank" for delta in deltas.values())
    ranks = {name: delta.A.shape[0] for name, delta in deltas.items()}
    alphas = {name: _exported_alpha(delta, rooted) for name, delta in deltas.items()}
    usual_rank, usual_alpha = _most_frequent(ranks.values()), _most_frequent(alphas.values())
    return {
        "peft_type": "LORA",
        "inference_mode": True,
        # Of a Conv1D. PEFT goes by each layer's class all the same, and says so where the two disagree.
        "fan_in_fan_out": any(isinstance(layer, LoRAConv1D) for layer in layers.values()),
        "r": usual_rank,
        "lora_alpha": _whole(usual_alpha),
        "rank_pattern": {_exactly(name): rank for name, rank in ranks.items() if rank != usual_rank},
        "alpha_pattern": {_exactly(name): _whole(alpha) for name, alpha in alphas.items() if alpha != usual_alpha},
        "lora_dropout": dropouts.pop(),
        "use_rslora": rooted,
        "init_lora_weights": True,
        "target_modules": sorted(deltas),
    }


def _exported_alpha(delta: LowRankDelta, rooted: bool) -> float:
    """The alpha that gives this layer's scale at the exported rank, without a division where there need be none."""
    spec, rank = delta.spec, delta.A.shape[0]
    parts = rank // spec.rank
    if spec.scaling == "alpha_over_rank" and not rooted:
        return spec.effective_alpha * parts
    if rooted:
        return spec.effective_alpha * parts**0.5
    return spec.scale * rank


def _most_frequent(numbers: Iterable[T]) -> T:
    ((number, _),) = Counter(numbers).most_common(1)
    return number


def _whole(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number


def _exactly(name: str) -> str:
    """A layer's name as the pattern for it alone."""
    return f"^{re.escape(name)}"
