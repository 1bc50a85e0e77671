"""Attention over a ragged batch, in the form that Hugging Face models call: padded among texts of like length only."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lightning_lora.lora import drop, may_have_own_backward
from lightning_lora.ragged.cpu_attention import cpu_attention
from lightning_lora.ragged.layout import Layout
from lightning_lora.ragged.turns import turn_in

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
        ragged: Where the texts lie, and which tokens' output is wanted; that of the others, and of filler, is zero.
        dropout: Of the attention weights.
        scaling: Of the scores; None is 1 / sqrt(width).
        is_causal: Whether a token sees only those before it.
        sliding_window: Only keys less than this many places away are seen.
        softcap: Scores are squashed to within this, softcap · tanh(score / softcap) (Gemma 2, arXiv 2408.00118, 2).
    """
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    scale = 1 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    by_token = [part.squeeze(0).transpose(0, 1) for part in (query, key, value)]
    if softcap is None and query.device.type == "cpu" and may_have_own_backward(query):
        found = cpu_attention(*by_token, layout=ragged, causal=causal, window=sliding_window, p=dropout, scale=scale)
    else:
        outputs = []
        for texts in ragged.groups:
            bias = texts.bias(causal, sliding_window, query.dtype)
            padded = (texts.queries(by_token[0]), texts.padded(by_token[1]), texts.padded(by_token[2]))
            queries, keys, values = (part.transpose(1, 2) for part in padded)
            if softcap is None:
                output, _weights = sdpa_attention_forward(
                    module, queries, keys, values, bias, dropout=dropout, scaling=scale, is_causal=False
                )
            else:
                output = _capped(queries, keys, values, bias, dropout, scale, softcap)
            outputs.append(output.flatten(0, 1) if ragged.wanted is not None else texts.unpadded(output))
        found = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        if ragged.wanted is None and ragged.filler:
            found = F.pad(found, (0, 0, 0, 0, 0, ragged.filler))
    if ragged.wanted is not None:
        found = found.new_zeros(query.shape[2], *found.shape[1:]).index_copy_(0, ragged.wanted, found)
    return found.unsqueeze(0), None


def _capped(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, p: float, scale: float, softcap: float
) -> Float[Tensor, "texts queries heads value_width"]:
    """The plain formula; torch's attention has no cap."""
    sharing = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(sharing, 1), value.repeat_interleave(sharing, 1)
    scores = torch.tanh(query @ key.mT * scale / softcap) * softcap
    if bias is not None:
        scores = scores + bias
    weights = drop(scores.softmax(-1, dtype=torch.float32).to(query.dtype), p)
    return (weights @ value).transpose(1, 2)


@contextmanager
def ragged_attention_in(model: PreTrainedModel) -> Iterator[None]:
    """Within the block the model's attention is `ragged_attention`, and it makes no masks of its own."""
    with turn_in(model):
        before = model.config._attn_implementation
        model.config._attn_implementation = NAME
        try:
            yield
        finally:
            model.config._attn_implementation = before


# Without a function for masks under this name the model makes none: they would be of its one row, tokens by tokens, and
# the layout has what they would say.
ALL_ATTENTION_FUNCTIONS.register(NAME, ragged_attention)
