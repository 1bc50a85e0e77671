"""Putting one module in another's place, and counting its places."""

from torch import nn


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` stands below ``model``, at every alias."""
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if child is old:
                parent._modules[key] = new


def check_stands_once(model: nn.Module, name: str, module: nn.Module) -> None:
    """Raise ValueError where a layer has several places in the model, of which a file of adapters can tell one only."""
    places = sum(child is module for parent in model.modules() for child in parent._modules.values())
    if places > 1:
        raise ValueError(
            f"{name} stands in the model at {places} places and is adapted at all of them here; a file can tell of an "
            "adapter at one of them only, so such a layer's is neither saved nor loaded"
        )
