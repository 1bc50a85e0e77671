"""Finding adapted layers and adapter parameters: by type, never by name."""

from collections.abc import Iterator

from torch import nn

from lightning_lora.lora.layers import LoRALayer
from lightning_lora.lora.routed import routed_modules
from lightning_lora.lora.routing import Routing


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoRALayer]]:
    """(name, layer) of every adapted layer, each once, in the model's order."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoRALayer))


def adapter_parameters(model: nn.Module, adapter: str | None = None) -> Iterator[tuple[str, nn.Parameter]]:
    """(full name, parameter) of every A and B, of one adapter or (None) of all."""
    for name, layer in lora_layers(model):
        for key in layer.adapters:
            if adapter in (None, key):
                yield f"{name}.adapters.{key}.A".lstrip("."), layer.delta(key).A
                yield f"{name}.adapters.{key}.B".lstrip("."), layer.delta(key).B


def routing_of(model: nn.Module) -> Routing | None:
    """The routing that the model's adapted layers share, or None where there are none."""
    return next((layer.routing for _, layer in lora_layers(model)), None)


def adapter_keys(model: nn.Module) -> set[str]:
    """Names of tensors that are an adapter's own, factors and heads: those that the base model does not have.

    Also while one is merged, when a state dict leaves them out.
    """
    inside = tuple(f"{name}.adapters.".lstrip(".") for name, _ in routed_modules(model))
    tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return {name for name, _ in tensors if name.startswith(inside)}
