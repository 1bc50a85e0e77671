"""Whether a model's layers run once for a batch."""

from torch import nn


def runs_layers_again(model: nn.Module) -> bool:
    """Whether backward runs layers of the model again (gradient checkpointing): as they are then, hooks and all."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
