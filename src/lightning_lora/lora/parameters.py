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
    """State-dict keys that are an adapter's own, factors and heads: those that the base model does not have."""
    inside = tuple(f"{name}.adapters.".lstrip(".") for name, _ in routed_modules(model))
    return {key for key in model.state_dict() if key.startswith(inside)}
