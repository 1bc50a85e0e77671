"""Attention of a ragged batch on a CPU, as one step of autograd over all texts.

    W = softmax(scale · Q Kᵀ + bias),   O = (m ⊙ W) V,   m from dropout                  (arXiv 1706.03762, equation 1)

    dV = (m ⊙ W)ᵀ dO,   dS = softmax'(m ⊙ dO Vᵀ),   dQ = scale · dS K,   dK = scale · dSᵀ Q

Texts of like length are computed together. With short texts the products take less time than calling them: so one
gather brings the rows of all texts into the shapes that products need, which write into parts of one tensor, one mask
is drawn for all texts, and one gather more puts the results in place. Kept for backward are Q, K, V and W, in which a
minus sign stands for what dropout drops; torch's own keeps the dropped W and the mask beside them, and looks for rows
without a key.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int8, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_lora.lora import draw_seed, kept_elements, kept_factor
from lightning_lora.ragged.layout import Layout

NARROW = 8 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 16
"""Below this torch's softmax goes number by number, in want of a whole vector: 3 to 6 times as slow."""


def cpu_attention(
    query: Float[Tensor, "tokens heads width"],
    key: Float[Tensor, "tokens key_heads width"],
    value: Float[Tensor, "tokens key_heads value_width"],
    *,
    layout: Layout,
    causal: bool,
    window: int | None,
    p: float,
    scale: float,
) -> Float[Tensor, "outputs heads value_width"]:
    """Attention within each text, for all tokens or for those that the layout wants.

    Args:
        query: Of all tokens.
        key: Of all tokens; a head may serve several heads of the queries, side by side.
        value: As ``key``.
        layout: Where the texts lie, and which tokens' output is wanted.
        causal: Whether a token sees only those before it.
        window: Only keys less than this many places away are seen; None for no limit.
        p: Dropout of the attention weights; the seed comes from `draw_seed`.
        scale: Of the scores.
    """
    biases = [texts.bias(causal, window, query.dtype) for texts in layout.groups]
    seed = draw_seed() if p else 0
    # Neither direction asks autocast: it would reach into one alone, and the other meet weights of another type.
    with torch.autocast("cpu", enabled=False):
        found: Tensor = _Attention.apply(query, key, value, layout, biases, p, seed, scale)  # type: ignore[no-untyped-call]
    return found


@dataclass(frozen=True)
class _Group:
    """Texts that are padded together.

    Attributes:
        texts: Their number.
        queries: Of each.
        keys: Of each.
        asked: Their part of the gathered queries.
        seen: Their part of the gathered keys.
    """

    texts: int
    queries: int
    keys: int
    asked: slice
    seen: slice


@dataclass(frozen=True)
class _Rows:
    """Where the heads' rows of tokens go and come from, counted as token · heads + head.

    Attributes:
        groups: Of texts. What is gathered for one is (texts, heads, places) rows, one group behind another.
        queries: The row that is gathered for each query; padding repeats its text's first token.
        keys: Likewise for each key, counted with the heads of the keys.
        real: (rows of the queries, 1), 1 for queries and 0 for padding; None where there is none.
        outputs: For each wanted token and head, its row among the gathered queries; for filler the row behind the last.
        tokens: Likewise for every token, its row among the gathered keys.
    """

    groups: tuple[_Group, ...]
    queries: Int64[Tensor, " query_rows"]
    keys: Int64[Tensor, " key_rows"]
    real: Float[Tensor, "query_rows 1"] | None
    outputs: Int64[Tensor, " wanted_rows"]
    tokens: Int64[Tensor, " token_rows"]


def _rows_of(layout: Layout, heads: int, key_heads: int) -> _Rows:
    """Made once for a batch: its layers share them."""
    cached = layout.shared
    if (heads, key_heads) not in cached:
        cached[heads, key_heads] = _made_rows(layout, heads, key_heads)
    found: _Rows = cached[heads, key_heads]
    return found


def _made_rows(layout: Layout, heads: int, key_heads: int) -> _Rows:
    """By NumPy, which calls on small arrays in a third of torch's time."""
    head = np.arange(heads)
    serving = head // (heads // key_heads)
    groups, queries, keys, real, outputs, tokens = [], [], [], [], [], []
    before_queries = before_keys = 0
    for texts in layout.groups:
        lengths, longest = texts.lengths.numpy(), texts.longest
        starts, places = texts.tokens.start + texts.starts.numpy(), np.arange(longest)
        inside = places < lengths[:, None]
        at = starts[:, None] + np.where(inside, places, 0)
        asked = at if texts.wanted is None else (starts + texts.wanted.numpy())[:, None]
        queries.append((asked[:, None, :] * heads + head[:, None]).ravel())
        keys.append((at[:, None, :] * key_heads + serving[:, None]).ravel())
        first_row = np.arange(len(lengths))[:, None, None] * heads + head
        of_tokens = (first_row * longest + places[:, None])[inside].ravel()
        tokens.append(before_keys + of_tokens)
        outputs.append(before_queries + (of_tokens if texts.wanted is None else first_row.ravel()))
        real.append(inside.repeat(heads, 0).ravel())
        asked_to, seen_to = before_queries + len(queries[-1]), before_keys + len(keys[-1])
        rows_of_both = slice(before_queries, asked_to), slice(before_keys, seen_to)
        groups.append(_Group(len(lengths), asked.shape[1], longest, *rows_of_both))
        before_queries, before_keys = asked_to, seen_to
    rows_of_filler = layout.filler * heads
    tokens.append(np.full(rows_of_filler, before_keys))
    if layout.wanted is None:
        outputs.append(np.full(rows_of_filler, before_queries))
    every = np.concatenate(real)
    padded = layout.wanted is None and not every.all()
    return _Rows(
        tuple(groups),
        torch.from_numpy(np.concatenate(queries)),
        torch.from_numpy(np.concatenate(keys)),
        torch.from_numpy(every.astype(np.float32))[:, None] if padded else None,
        torch.from_numpy(np.concatenate(outputs)),
        torch.from_numpy(np.concatenate(tokens)),
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        biases: list[Tensor | None],
        p: float,
        seed: int,
        scale: float,
    ) -> Tensor:
        heads = query.shape[1]
        rows = _rows_of(layout, heads, key.shape[1])
        q, k, v = _gathered(query, key, value, scale, rows)
        found, weights = _place_for(rows.queries, v), []
        signs = _signs(rows.groups, heads, p, seed)
        for number, (group, bias) in enumerate(zip(rows.groups, biases, strict=True)):
            scores = _product(_asked(q, group), _seen(k, group).mT).view(group.texts, heads, group.queries, group.keys)
            w = _softmax(scores if bias is None else scores.add_(bias)).flatten(0, 1)
            if p:
                w.copysign_(signs[number])
            weights.append(w)
            _product(w.relu() if p else w, _seen(v, group), out=_asked(found, group))
        ctx.save_for_backward(query, key, value, *weights)
        ctx.layout, ctx.p, ctx.scale = layout, p, scale
        placed = found.index_select(0, rows.outputs).view(-1, heads, value.shape[2])
        return (placed.mul_(kept_factor(p)) if p else placed).to(query.dtype)

    @staticmethod
    @once_differentiable  # W is kept as a number: a second derivative would be wrong
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _gradients(ctx, gradient)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Of query, key and value, by the formulas of this module."""
    query, key, value, *weights = ctx.saved_tensors
    layout, heads = ctx.layout, query.shape[1]
    rows = _rows_of(layout, heads, key.shape[1])
    q, k, v = _gathered(query, key, value, ctx.scale, rows)
    g = gradient.reshape(-1, gradient.shape[2]).to(q.dtype)
    if layout.wanted is None:
        g = g.index_select(0, rows.queries)
        if rows.real is not None:
            g.mul_(rows.real)
    if ctx.p:
        g = g * kept_factor(ctx.p)
    dq, dk, dv = _place_for(rows.queries, q), _place_for(rows.keys, k), _place_for(rows.keys, v)
    for group, kept in zip(rows.groups, weights, strict=True):
        g_, w, left = _asked(g, group), kept, kept
        dw = _product(g_, _seen(v, group).mT)
        if ctx.p:
            dw, left, w = torch.ops.aten.threshold_backward(dw, w, 0), w.relu(), w.abs()
        _product(left.mT, g_, out=_seen(dv, group))
        ds = _softmax_backward(dw, w)
        _product(ds, _seen(k, group), out=_asked(dq, group))
        _product(ds.mT, _asked(q, group), out=_seen(dk, group))
    of_query = dq.index_select(0, rows.outputs).view(-1, *query.shape[1:]).mul_(ctx.scale).to(query.dtype)
    if layout.wanted is not None:
        of_query = torch.zeros_like(query).index_copy_(0, layout.wanted, of_query)
    return of_query, _summed(dk, rows, key, heads), _summed(dv, rows, value, heads), *[None] * 5


def _gathered(query: Tensor, key: Tensor, value: Tensor, scale: float, rows: _Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled queries, keys and values of all groups, (rows, width) each, in fp32 where they are of a narrower type.

    oneDNN makes a kernel for every new shape of a narrow product, and the shapes here are as many as the batches.
    """
    wider = torch.promote_types(query.dtype, torch.float32)
    of_all = ((query.to(wider) * scale, rows.queries), (key.to(wider), rows.keys), (value.to(wider), rows.keys))
    q, k, v = (part.reshape(-1, part.shape[2]).index_select(0, index) for part, index in of_all)
    return q, k, v


def _place_for(rows: Int64[Tensor, " rows"], like: Float[Tensor, "_ width"]) -> Float[Tensor, "rows_and_one width"]:
    """Room for a result for each row. The row behind the last is zero, for the filler."""
    place = like.new_empty(len(rows) + 1, like.shape[1])
    place[-1].zero_()
    return place


def _asked(rows: Float[Tensor, "rows width"], group: _Group) -> Float[Tensor, "products queries width"]:
    """The group's part of what there is for each query; a product is of one head of a text."""
    return rows[group.asked].view(-1, group.queries, rows.shape[1])


def _seen(rows: Float[Tensor, "rows width"], group: _Group) -> Float[Tensor, "products keys width"]:
    """The group's part of what there is for each key."""
    return rows[group.seen].view(-1, group.keys, rows.shape[1])


def _product(
    one: Float[Tensor, "n a b"], two: Float[Tensor, "n b c"], out: Float[Tensor, "n a c"] | None = None
) -> Float[Tensor, "n a c"]:
    """`torch.bmm`, but for outer products, as of one query a text: there it takes ten times as long."""
    return torch.mul(one, two, out=out) if one.shape[-1] == 1 else torch.bmm(one, two, out=out)


def _softmax(scores: Float[Tensor, "*_ keys"]) -> Float[Tensor, "*_ keys"]:
    """Over the keys; the scores are used up."""
    if scores.shape[-1] >= NARROW:
        return scores.softmax(-1)
    powers = scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return powers.div_(powers.sum(-1, keepdim=True))


def _softmax_backward(gradient: Float[Tensor, "*_ keys"], w: Float[Tensor, "*_ keys"]) -> Float[Tensor, "*_ keys"]:
    """``w ⊙ (g − Σ w ⊙ g)``; the gradient is used up."""
    if w.shape[-1] >= NARROW:
        found: Tensor = torch.ops.aten._softmax_backward_data(gradient, w, -1, w.dtype)
        return found
    weighted = gradient.mul_(w)
    return weighted.sub_(w * weighted.sum(-1, keepdim=True))


def _signs(groups: Sequence[_Group], heads: int, p: float, seed: int) -> list[Int8[Tensor, "products queries keys"]]:
    """-1 for what dropout drops and 0 for the rest, for each group of texts; drawn together."""
    if not p:
        return []
    shapes = [(group.texts * heads, group.queries, group.keys) for group in groups]
    sizes = [math.prod(shape) for shape in shapes]
    drawn = torch.split(kept_elements((sum(sizes),), p, seed).view(torch.int8) - 1, sizes)
    return [part.view(shape) for part, shape in zip(drawn, shapes, strict=True)]


def _summed(found: Float[Tensor, "rows width"], rows: _Rows, like: Tensor, heads: int) -> Tensor:
    """Gradients of the groups' keys or values, put back to their tokens and summed over the heads that share them."""
    by_token = found.index_select(0, rows.tokens).view(-1, heads, like.shape[2])
    if heads > like.shape[1]:
        by_token = by_token.view(-1, like.shape[1], heads // like.shape[1], like.shape[2]).sum(2)
    return by_token.to(like.dtype)
