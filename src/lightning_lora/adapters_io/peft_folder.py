"""Writing an adapter as the folder that Hugging Face's PEFT reads: adapter_config.json and adapter_model.safetensors.

Our A and B are PEFT's ``lora_A.weight`` and ``lora_B.weight``, in the same orientation. A fused projection of which
some parts are adapted becomes one adapter of rank ``parts · rank`` whose B is block-diagonal; the product is the same.
What the checkpoint lacked (the head) goes in with the adapter, as PEFT's ``modules_to_save``.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lightning_lora.atomic import atomic_folder
from lightning_lora.inject import head_names, new_modules
from lightning_lora.lora import LoRAEmbedding, LoRALayer, LoraSpec, LowRankDelta, lora_layers
from lightning_lora.lora.functional import expand_low_rank

PREFIX = "base_model.model."


def save_peft_folder(
    model: nn.Module,
    folder: Path,
    *,
    base_name: str,
    revision: str | None = None,
    adapter: str = "default",
    new: Collection[str] = (),
) -> None:
    """Write one adapter and the newly initialised modules, atomically.

    Args:
        model: A model with injected adapters, merged or not.
        folder: Where to write; replaced if it is there.
        base_name: Hub id or folder of the base model, for PEFT to find it.
        revision: Hub revision of the base model.
        adapter: Name of the adapter.
        new: Names of the newly initialised parameters.

    Raises:
        ValueError: the model has no such adapter, or its layers cannot be told in one PEFT configuration.
    """
    layers = {name: layer for name, layer in lora_layers(model) if adapter in layer.adapters}
    if not layers:
        raise ValueError(f"the model has no adapter named {adapter!r} to save")
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        tensors |= _factors(name, layer, adapter)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tensors |= {PREFIX + name: parameters[own].detach() for name, own in head_names(model, adapter, new).items()}
    config = _config(layers, adapter) | {
        "base_model_name_or_path": base_name,
        "revision": revision,
        "modules_to_save": new_modules(model, new) or None,
    }
    with atomic_folder(folder) as temporary:
        (temporary / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        save_file(
            {key: value.cpu().contiguous() for key, value in tensors.items()}, temporary / "adapter_model.safetensors"
        )


def _delta(layer: LoRALayer, adapter: str) -> LowRankDelta:
    delta = layer.adapters[adapter]
    assert isinstance(delta, LowRankDelta)
    return delta


def _factors(name: str, layer: LoRALayer, adapter: str) -> dict[str, Tensor]:
    delta = _delta(layer, adapter)
    A, B = delta.A.detach(), delta.B.detach()
    if not delta.layout.is_whole:
        # expand_low_rank maps (…, ranks) to (…, out); on the identity it gives the block-diagonal B itself, transposed.
        B = expand_low_rank(torch.eye(A.shape[0], dtype=B.dtype, device=B.device), B, delta.layout).T
    if isinstance(layer, LoRAEmbedding):
        return {f"{PREFIX}{name}.lora_embedding_A": A, f"{PREFIX}{name}.lora_embedding_B": B}
    return {f"{PREFIX}{name}.lora_A.weight": A, f"{PREFIX}{name}.lora_B.weight": B}


def _config(layers: dict[str, LoRALayer], adapter: str) -> dict[str, Any]:
    """PEFT's LoraConfig. Its rank is the summed rank of a fused layer, so alpha grows where the rule divides by it."""
    deltas = {name: _delta(layer, adapter) for name, layer in layers.items()}
    spec: LoraSpec = next(iter(deltas.values())).spec
    if any(delta.spec != spec for delta in deltas.values()):
        raise ValueError(f"the layers of adapter {adapter!r} differ in their settings; they need one export each")
    rooted = spec.scaling == "alpha_over_sqrt_rank"
    transposed = {layer.weight_is_in_by_out for layer in layers.values() if not isinstance(layer, LoRAEmbedding)}
    if len(transposed) > 1:
        raise ValueError("PEFT cannot hold Linear and Conv1D layers in one adapter; adapt them under two names")
    ranks = {name: delta.A.shape[0] for name, delta in deltas.items()}
    alphas = {name: spec.scale * (ranks[name] ** 0.5 if rooted else ranks[name]) for name in deltas}
    usual_rank = max(set(ranks.values()), key=list(ranks.values()).count)
    usual_alpha = next(alphas[name] for name in deltas if ranks[name] == usual_rank)
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "inference_mode": True,
        "bias": "none",
        "fan_in_fan_out": transposed == {True},
        "r": usual_rank,
        "lora_alpha": int(usual_alpha) if float(usual_alpha).is_integer() else usual_alpha,
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != usual_rank},
        "alpha_pattern": {name: alphas[name] for name, rank in ranks.items() if rank != usual_rank},
        "lora_dropout": spec.dropout,
        "use_rslora": rooted,
        "init_lora_weights": True,
        "target_modules": sorted(deltas),
    }
