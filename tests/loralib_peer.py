"""The real loralib in the place of a model's layers, and files as it writes them."""

from collections.abc import Callable
from pathlib import Path

import loralib
import torch
from peft_peer import new_of
from torch import nn

HEAD = ("classifier",)


def with_loralib(model: nn.Module, kinds: dict[str, Callable[[nn.Module], nn.Module]]) -> nn.Module:
    """Replace the layers whose names end so by the real loralib's, with the same weights."""
    for name, layer in list(model.named_modules()):
        make = next((make for ending, make in kinds.items() if name.endswith(ending)), None)
        if make is not None:
            peer = make(layer).to(layer.weight.device)
            with torch.no_grad():
                peer.weight.copy_(layer.weight)
                if getattr(layer, "bias", None) is not None:
                    peer.bias.copy_(layer.bias)
            parent, _, key = name.rpartition(".")
            setattr(model.get_submodule(parent), key, peer)
    return model.train().eval()  # loralib merges in eval() and takes it back in train()


def plain(r: int, alpha: float) -> Callable[[nn.Module], nn.Module]:
    return lambda layer: loralib.Linear(layer.in_features, layer.out_features, r=r, lora_alpha=alpha)


def embedding(r: int, alpha: float) -> Callable[[nn.Module], nn.Module]:
    return lambda layer: loralib.Embedding(layer.num_embeddings, layer.embedding_dim, r=r, lora_alpha=alpha)


def fused(r: int, alpha: float, parts: list[bool]) -> Callable[[nn.Module], nn.Module]:
    def make(layer: nn.Module) -> nn.Module:
        rows, columns = layer.weight.shape
        options = {"enable_lora": parts, "fan_in_fan_out": True, "merge_weights": False}
        return loralib.MergedLinear(rows, columns, r=r, lora_alpha=alpha, **options)

    return make


def save(model: nn.Module, file: Path, heads: tuple[str, ...] = (), bias: str = "none") -> Path:
    """What loralib's README says: the LoRA state dict and, as its GLUE example does, the head."""
    state = loralib.lora_state_dict(model, bias=bias)
    torch.save({**state, **{name: model.get_parameter(name).detach() for name in new_of(model, heads)}}, file)
    return file


def lora_parameters(model: nn.Module, heads: tuple[str, ...] = ()) -> list[nn.Parameter]:
    return [p for name, p in model.named_parameters() if "lora_" in name or name in new_of(model, heads)]
