"""Whether layers run once for a batch."""

from collections.abc import Iterable

from torch import nn


def run_again(modules: Iterable[nn.Module]) -> bool:
    """Whether backward runs any of them again (gradient checkpointing): as they are then, hooks and all."""
    return any(getattr(module, "gradient_checkpointing", False) for module in modules)
