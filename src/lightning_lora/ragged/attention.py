"""Attention over a ragged batch, in the form that Hugging Face models call: padded among texts of like length only."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lightning_lora.lora import draw_seed, drop, dropout_factors
from lightning_lora.ragged.layout import Layout

NAME = "lightning_lora_ragged"


def ragged_attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads tokens width"],
    key: Float[Tensor, "1 key_heads tokens width"],
    value: Float[Tensor, "1 key_heads tokens value_width"],
    attention_mask: None,
    *,
    ragged: Layout,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "1 tokens heads value_width"], None]:
    """Attention within each text, as the padded model computes it on those texts.

    Args:
        module: The attention module that calls; says whether it is causal where ``is_causal`` does not.
        query: Of all tokens in their one row; keys and values alike, whose heads may be fewer.
        key: As ``query``.
        value: As ``query``.
        attention_mask: None; the layout has what it would say.
        ragged: Where the texts lie, and which tokens' output is wanted; that of the others is zero.
        dropout: Of the attention weights.
        scaling: Of the scores; None is 1 / sqrt(width).
        is_causal: Whether a token sees only those before it.
        sliding_window: Only keys less than this many places away are seen.
        softcap: Scores are squashed to within this, softcap · tanh(score / softcap) (Gemma 2, arXiv 2408.00118, 2).
    """
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    scale = 1 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    by_token = [part[0].transpose(0, 1) for part in (query, key, value)]
    outputs = []
    for texts in ragged.groups:
        parts = (texts.queries(by_token[0]), texts.padded(by_token[1]), texts.padded(by_token[2]))
        queries, keys, values = (part.transpose(1, 2) for part in parts)
        bias = texts.bias(causal, sliding_window, query.dtype)
        if softcap is not None:
            found = _capped(queries, keys, values, bias, dropout, scale, softcap)
        elif query.device.type == "cpu":
            found = _on_cpu(queries, keys, values, bias, dropout, scale)
        else:
            found, _weights = sdpa_attention_forward(
                module, queries, keys, values, bias, dropout=dropout, scaling=scale, is_causal=False
            )
        outputs.append(found.flatten(0, 1) if ragged.wanted is not None else texts.unpadded(found))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if ragged.wanted is not None:
        joined = joined.new_zeros(query.shape[2], *joined.shape[1:]).index_copy(0, ragged.wanted, joined)
    return joined.unsqueeze(0), None


class _Attention(torch.autograd.Function):
    """softmax(scale · Q Kᵀ + bias) V with dropout on the softmax, whose backward draws the dropout again.

    torch computes attention with dropout on a CPU from its parts, looks for rows without a key on the way, and keeps
    the softmax, the dropped softmax and the mask. This one keeps the softmax.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, p: float, scale: float
    ) -> Tensor:
        query = query * scale
        scores = query @ key.mT
        weights = (scores if bias is None else scores.add_(bias)).softmax(-1)
        ctx.p, ctx.scale, ctx.seed = p, scale, draw_seed() if p else 0
        ctx.save_for_backward(query, key, value, weights)
        if p:
            weights = weights * dropout_factors(weights.shape, p, ctx.seed, dtype=weights.dtype)
        return weights @ value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = ctx.saved_tensors
        of_weights, dropped = gradient @ value.mT, weights
        if ctx.p:
            factors = dropout_factors(weights.shape, ctx.p, ctx.seed, dtype=weights.dtype)
            of_weights.mul_(factors)
            dropped = factors.mul_(weights)
        of_value = dropped.mT @ gradient
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        return (of_scores @ key).mul_(ctx.scale), of_scores.mT @ query, of_value, None, None, None


def _on_cpu(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, p: float, scale: float
) -> Float[Tensor, "texts queries heads value_width"]:
    key, value = _for_each_head(query, key, value)
    found: Tensor = _Attention.apply(query, key, value, bias, p, scale)  # type: ignore[no-untyped-call]
    return found.transpose(1, 2)


def _capped(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, p: float, scale: float, softcap: float
) -> Float[Tensor, "texts queries heads value_width"]:
    """The plain formula; torch's attention has no cap."""
    key, value = _for_each_head(query, key, value)
    scores = torch.tanh(query @ key.mT * scale / softcap) * softcap
    if bias is not None:
        scores = scores + bias
    weights = drop(scores.softmax(-1, dtype=torch.float32).to(query.dtype), p)
    return (weights @ value).transpose(1, 2)


def _for_each_head(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values that several heads share, repeated for each of them."""
    sharing = query.shape[1] // key.shape[1]
    return (key, value) if sharing == 1 else (key.repeat_interleave(sharing, 1), value.repeat_interleave(sharing, 1))


@contextmanager
def ragged_attention_in(model: PreTrainedModel) -> Iterator[None]:
    """Within the block the model's attention is `ragged_attention`, and it makes no masks of its own."""
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def _no_mask(*_: Any, **__: Any) -> None:
    """The model's own masks are of its one row, tokens by tokens; the layout's take their place."""


ALL_ATTENTION_FUNCTIONS.register(NAME, ragged_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _no_mask)
