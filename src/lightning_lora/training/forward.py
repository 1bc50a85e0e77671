"""A batch through the model, with whatever padding it has."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_lora.ragged import CudaGraphs, ragged_logits

NOT_INPUTS = ("labels", "idx")


def batch_logits(
    model: nn.Module, batch: Mapping[str, Any], graphs: CudaGraphs | None = None
) -> Float[Tensor, "rows outputs"]:
    """The model's fp32 logits for a batch.

    Args:
        model: Called as ``model(**inputs).logits``; for a ragged batch, one that `runs_ragged`.
        batch: Of `TextDataModule`; ``labels`` and ``idx`` are not inputs. ``lengths`` says that it is one row of
            tokens, ``groups`` holds padded batches.
        graphs: Of the model, for a ragged batch that it is given from its first block on; None for none.
    """
    if "groups" in batch:
        return torch.cat([batch_logits(model, group) for group in batch["groups"]])
    inputs: dict[str, Any] = {name: value for name, value in batch.items() if name not in NOT_INPUTS}
    if "lengths" not in inputs:
        logits: Tensor = model(**inputs).logits
    elif graphs is None or "hidden" in inputs:
        logits = ragged_logits(model, inputs)
    else:
        logits = graphs.logits(inputs)
    return logits.float()
