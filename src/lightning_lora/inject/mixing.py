"""One batch that mixes tasks: each row goes through its own adapter and head, the base model runs once. The law:

mixed_logits(m, rows, batch)[i]  ==  m(batch).logits[i] with rows[i] enabled, up to rounding, gradients included
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lora.inject.adapters import check_unmerged
from lightning_lora.inject.attach import check_adapter, shared_routing
from lightning_lora.inject.heads import outputs_of
from lightning_lora.inject.vocabulary import token_embedding
from lightning_lora.lora import LoRAEmbedding, lora_layers, route, run_again, spans_of


@contextmanager
def mixed(model: nn.Module, rows: Sequence[str | None]) -> Iterator[None]:
    """Within the block, row i of every batch goes through adapter ``rows[i]``, or (None) through the base model.

    Neighbouring rows of one adapter are computed together; `mixed_logits` brings them together first. Logits of heads
    with fewer outputs than the widest in the batch are filled up with -inf. Switching inside the block has no effect
    before its end.

    Args:
        model: A model with injected adapters; none may be merged.
        rows: The adapter of each row of the batch.

    Raises:
        ValueError: there are no rows, the model has no such adapter, or one of them adapts an embedding of which it is
            not known that it looks up rows of the batch (positions, for one, are the same for all rows); the model
            trains with gradient checkpointing, which runs layers again in backward, when the block may be over. In the
            block: a layer that one of them adapts is given something that has no row for each row of the batch.
        RuntimeError: an adapter is merged.
    """
    routing = shared_routing(model)
    if not rows:
        raise ValueError("rows is empty; give the name of an adapter, or None, for each row of the batch")
    for adapter in set(rows) - {None}:
        check_adapter(model, str(adapter))
    _check_embeddings(model, rows)
    _check_runs_once(model)
    check_unmerged(model, before="mixing adapters")
    before, routing.spans = routing.spans, spans_of(rows)
    try:
        yield
    finally:
        routing.spans = before


def mixed_logits(model: nn.Module, rows: Sequence[str | None], inputs: Mapping[str, Any]) -> list[Tensor]:
    """The logits of a batch of several tasks, each row through its own adapter and head.

    Args:
        model: A classifier with injected adapters, whose output has ``logits``.
        rows: The adapter of each row, in any order; None for the base model.
        inputs: The model's arguments. Tensors have one row for each of ``rows``; labels do not belong here, since the
            tasks have each their own loss.

    Returns:
        For each row, in the order given, a tensor of as many logits as its head has outputs.

    Raises:
        ValueError: labels are given, a tensor has another number of rows; and as `mixed` raises.
        RuntimeError: as `mixed` raises.
    """
    if "labels" in inputs:
        raise ValueError("labels cannot be given for a mixed batch; compute each task's loss from its rows' logits")
    for name, value in inputs.items():
        if isinstance(value, Tensor) and (value.ndim == 0 or len(value) != len(rows)):
            raise ValueError(f"{name} is of shape {tuple(value.shape)}, but rows names {len(rows)} rows")
    order, _ = route(rows)
    ordered = {name: _reordered(value, order) for name, value in inputs.items()}
    with mixed(model, [rows[row] for row in order]):
        logits: Tensor = model(**ordered).logits
    widths = {adapter: outputs_of(model, adapter) for adapter in set(rows)}
    found = {row: values[: widths[rows[row]]] for row, values in zip(order, logits, strict=True)}
    return [found[row] for row in range(len(rows))]


def _reordered(value: Any, order: list[int]) -> Any:
    return value.index_select(0, torch.tensor(order, device=value.device)) if isinstance(value, Tensor) else value


def _check_runs_once(model: nn.Module) -> None:
    if model.training and torch.is_grad_enabled() and run_again(model.modules()):
        raise ValueError(
            "gradient checkpointing runs layers again in backward, and then without the rows' adapters; turn it off to "
            "train on mixed batches"
        )


def _check_embeddings(model: nn.Module, rows: Sequence[str | None]) -> None:
    # Of its weight: encoder and decoder may look up in it by embeddings of their own (T5).
    tokens = getattr(token_embedding(model), "weight", None)
    for name, layer in lora_layers(model):
        if isinstance(layer, LoRAEmbedding) and layer.weight is not tokens and any(map(layer.carries, rows)):
            raise ValueError(f"{name} is adapted, and is not the embedding of tokens; such a model runs no mixed batch")
