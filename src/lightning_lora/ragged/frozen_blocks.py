"""The blocks below the first adapted one: what they give for a text is always the same, so it need be computed once.

Exact where nothing below changes: no dropout, no parameter that trains. A call then begins at the first adapted block.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightning_lora.ragged.attention import ragged_attention_in
from lightning_lora.ragged.last_block import LAST_BLOCKS, blocks_of
from lightning_lora.ragged.layout import Layout
from lightning_lora.ragged.turns import turn_in


class _ReachedError(Exception):
    """Carries the hidden states out of a model's forward."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def frozen_blocks(model: nn.Module) -> int:
    """How many blocks lie below the first one in which a parameter trains; the model should be in eval mode.

    Raises:
        ValueError: there is none, nothing above trains, something below the blocks trains (embeddings, what projects
            them), blocks are skipped at random, or the architecture is not known.
    """
    known = isinstance(model, PreTrainedModel) and model.config.model_type in LAST_BLOCKS
    if not known:
        raise ValueError(
            f"{type(model).__name__}: frozen blocks are kept for {', '.join(sorted(LAST_BLOCKS))}; leave out "
            "lora.cache_frozen_blocks"
        )
    if skipped := getattr(model.config, "layerdrop", 0):
        raise ValueError(
            f"{type(model).__name__} skips blocks at random (layerdrop={skipped}), perhaps the one that is given what "
            "was kept; leave out lora.cache_frozen_blocks"
        )
    trains = [any(parameter.requires_grad for parameter in block.parameters()) for block in blocks_of(model)]
    if below := _trained_below(model):
        raise ValueError(
            f"{below} is trained below the blocks, so what they are given changes with every step; leave out "
            "lora.cache_frozen_blocks"
        )
    if not any(trains) or trains[0]:
        raise ValueError(
            f"the first of {len(trains)} blocks is adapted, so none below it is frozen; leave out "
            f"lora.cache_frozen_blocks, or adapt upper blocks only, for example lora.layers={len(trains) - 1}"
        )
    return trains.index(True)


def _trained_below(model: PreTrainedModel) -> str | None:
    """A layer that trains and has a say in what the first block is given: one that a gradient reaches from there."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    token = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
    with torch.enable_grad():
        given = _given_to(model, 0, {"input_ids": token, "attention_mask": token + 1})
    if not given.requires_grad:
        return None
    gradients = torch.autograd.grad(given.sum(), list(trained.values()), allow_unused=True)
    reached = (name for name, gradient in zip(trained, gradients, strict=True) if gradient is not None)
    # None reaches a layer where the embeddings' output only says that it requires a gradient (gradient checkpointing).
    return next((name.partition(".adapters.")[0] for name in reached), None)


@torch.no_grad()
def hidden_states_before(
    model: PreTrainedModel, block: int, layout: Layout, arguments: Mapping[str, Any]
) -> Float[Tensor, "tokens width"]:
    """What a block is given, for every token of a row; the model should be in eval mode.

    Args:
        model: One that `runs_ragged`.
        block: Its number.
        layout: Of the texts in the row.
        arguments: What the base model is called with.
    """
    with ragged_attention_in(model):
        hidden = _given_to(model, block, arguments)
    return hidden[0, : len(layout.positions) - layout.filler]


def _given_to(model: PreTrainedModel, block: int, arguments: Mapping[str, Any]) -> Float[Tensor, "rows tokens width"]:
    """What a block is given when the base model is called; nothing behind it is computed."""

    def stop(_module: nn.Module, given: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        raise _ReachedError(given[0] if given else keywords["hidden_states"])

    with turn_in(model):
        handle = blocks_of(model)[block].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            model.base_model(**arguments)
        except _ReachedError as reached:
            return reached.hidden
        finally:
            handle.remove()
    raise AssertionError(f"{type(model).__name__} did not call its block {block}")


@contextmanager
def beginning_at(model: PreTrainedModel, block: int, hidden: Float[Tensor, "1 tokens width"]) -> Iterator[None]:
    """Within the block, the model goes from its embeddings to a block, which is given these hidden states."""
    parent, _, name = LAST_BLOCKS[model.config.model_type].blocks.rpartition(".")
    owner = model.base_model.get_submodule(parent)
    entering = hidden.to(model.dtype)

    def replace(_module: nn.Module, given: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return ((entering, *given[1:]), keywords) if given else (given, {**keywords, "hidden_states": entering})

    with turn_in(model):
        blocks = blocks_of(model)
        handle = blocks[block].register_forward_pre_hook(replace, with_kwargs=True, prepend=True)
        setattr(owner, name, nn.ModuleList(list(blocks)[block:]))
        try:
            with _embeddings_give(model.base_model, entering):
                yield
        finally:
            setattr(owner, name, blocks)
            handle.remove()


@contextmanager
def _embeddings_give(base: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Encoders' lookups, norm and dropout are not computed to be thrown away: 9 % of a step of one block of BERT-base.

    Decoders have a lookup alone, and ELECTRA a projection behind it, which takes another width.
    """
    embeddings = getattr(base, "embeddings", None)
    if embeddings is None or hasattr(base, "embeddings_project"):
        yield
        return
    own = vars(embeddings).get("forward")  # which somebody has put there
    embeddings.forward = lambda *_, **__: hidden  # hides the method of the class
    try:
        yield
    finally:
        del embeddings.forward
        if own is not None:
            embeddings.forward = own
