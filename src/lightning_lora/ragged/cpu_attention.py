"""Attention of a ragged batch on a CPU, as one step of autograd over all texts.

    W = softmax(scale · Q Kᵀ + bias),   O = (m ⊙ W) V,   m from dropout                  (arXiv 1706.03762, equation 1)

    dV = (m ⊙ W)ᵀ dO,   dS = softmax'(m ⊙ dO Vᵀ),   dQ = scale · dS K,   dK = scale · dSᵀ Q

Texts of like length are computed together. With short texts the products take less time than calling them: so rows
are gathered straight into the shape that a product needs, one mask is drawn for all texts, and what the parts of a
batch give is put in place by one gather. Kept for backward are Q, K, V and W, in which a minus sign stands for what
dropout drops; torch's own keeps the dropped W and the mask beside them, and looks for rows without a key.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_lora.lora import draw_seed, dropout_signs, kept_factor
from lightning_lora.ragged.layout import Layout, Texts

NARROW = 16
"""Below this torch's softmax goes number by number, in want of a whole AVX-512 vector: 3 to 6 times as slow."""


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
    # Autocast would reach into forward alone, and backward would meet weights of another type.
    with torch.autocast("cpu", enabled=False):
        found: Tensor = _Attention.apply(query, key, value, layout, biases, p, seed, scale)  # type: ignore[no-untyped-call]
    return found


@dataclass(frozen=True)
class _Rows:
    """Where the heads' rows of tokens go and come from, counted as token · heads + head.

    Attributes:
        queries: For each group of texts, the rows of (texts, heads, queries); padding repeats its text's first token.
        keys: Likewise of (texts, heads, keys), with the heads of the keys.
        real: For each group with padding, (texts, 1, queries, 1), 1 for queries and 0 for padding; else None.
        outputs: For each wanted token and head, its row among the groups' outputs, one group after another; for filler
            the row behind the last.
        tokens: Likewise for every token, its row among the groups' keys.
    """

    queries: tuple[Int64[Tensor, " _"], ...]
    keys: tuple[Int64[Tensor, " _"], ...]
    real: tuple[Tensor | None, ...]
    outputs: Int64[Tensor, " _"]
    tokens: Int64[Tensor, " _"]


def _rows_of(layout: Layout, heads: int, key_heads: int) -> _Rows:
    """Made once for a batch: its layers share them."""
    cached = layout.shared
    if (heads, key_heads) not in cached:
        head, serving = torch.arange(heads)[:, None], torch.arange(heads)[:, None] // (heads // key_heads)
        queries, keys, real, outputs, tokens = [], [], [], [], []
        before_queries = before_keys = 0
        for texts in layout.groups:
            at = _tokens_at(texts)
            places = texts.slots % texts.longest
            text = texts.slots // texts.longest
            asked = at if texts.wanted is None else at.gather(1, texts.wanted[:, None])
            queries.append((asked[:, None, :] * heads + head).flatten())
            keys.append((at[:, None, :] * key_heads + serving).flatten())
            padded = texts.wanted is None and not texts.is_even
            real.append((torch.arange(texts.longest) < texts.lengths[:, None])[:, None, :, None] if padded else None)
            every = before_keys + (text[:, None] * heads + head.T) * texts.longest + places[:, None]
            tokens.append(every.flatten())
            if texts.wanted is not None:
                every = before_queries + torch.arange(len(texts.lengths) * heads)
            outputs.append(every.flatten())
            before_queries, before_keys = before_queries + len(queries[-1]), before_keys + len(keys[-1])
        rows_of_filler = layout.filler * heads
        tokens.append(torch.full((rows_of_filler,), before_keys))
        if layout.wanted is None:
            outputs.append(torch.full((rows_of_filler,), before_queries))
        gathers = (tuple(queries), tuple(keys), tuple(real), torch.cat(outputs), torch.cat(tokens))
        cached[heads, key_heads] = _Rows(*gathers)
    found: _Rows = cached[heads, key_heads]
    return found


def _tokens_at(texts: Texts) -> Int64[Tensor, "texts longest"]:
    """The token at each place of the padded view."""
    starts = texts.tokens.start + texts.starts
    places = torch.arange(texts.longest)
    at: Tensor = starts[:, None] + torch.where(places < texts.lengths[:, None], places, 0)
    return at


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
        rows = _rows_of(layout, query.shape[1], key.shape[1])
        parts, outputs, weights = _parts(query, key, value, scale), [], []
        signs = _signs(layout, query.shape[1], p, seed)
        for number, (texts, bias) in enumerate(zip(layout.groups, biases, strict=True)):
            q, k, v = _gathered(parts, rows, number, texts, query.shape[1])
            scores = _product(q, k.mT)
            w = _softmax(scores if bias is None else scores.add_(bias))
            if p:
                w.copysign_(signs[number])
            weights.append(w)
            outputs.append(_product(w.relu() if p else w, v).flatten(0, 2))
        ctx.save_for_backward(query, key, value, *weights)
        ctx.layout, ctx.p, ctx.scale = layout, p, scale
        found = _placed(outputs, rows.outputs).view(-1, query.shape[1], value.shape[2])
        return (found.mul_(kept_factor(p)) if p else found).to(query.dtype)

    @staticmethod
    @once_differentiable  # W is kept as a number: a second derivative would be wrong
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *weights = ctx.saved_tensors
        heads, layout = query.shape[1], ctx.layout
        rows = _rows_of(layout, heads, key.shape[1])
        parts = _parts(query, key, value, ctx.scale)
        wanted = None if layout.wanted is None else torch.arange(len(layout.lengths) * heads)
        flat = gradient.reshape(-1, gradient.shape[2]).to(parts[0].dtype)
        dq, dk, dv, done = [], [], [], 0
        for number, texts in enumerate(layout.groups):
            q, k, v = _gathered(parts, rows, number, texts, heads)
            w = weights[number]
            asked = rows.queries[number] if wanted is None else wanted[done : done + q.shape[0] * heads]
            done += q.shape[0] * heads
            g = flat.index_select(0, asked).view(*q.shape[:3], -1)
            if (real := rows.real[number]) is not None:
                g.mul_(real)
            if ctx.p:
                g.mul_(kept_factor(ctx.p))
            dw, left = _product(g, v.mT), w
            if ctx.p:
                dw, left, w = torch.ops.aten.threshold_backward(dw, w, 0), w.relu(), w.abs()
            dv.append(_product(left.mT, g).flatten(0, 2))
            ds = _softmax_backward(dw, w)
            dq.append(_product(ds, k).flatten(0, 2))
            dk.append(_product(ds.mT, q).flatten(0, 2))
        of_query = _placed(dq, rows.outputs).view(-1, *query.shape[1:]).mul_(ctx.scale).to(query.dtype)
        if layout.wanted is not None:
            of_query = torch.zeros_like(query).index_copy_(0, layout.wanted, of_query)
        return of_query, _summed(dk, rows, key, heads), _summed(dv, rows, value, heads), *[None] * 5


def _parts(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled queries, keys and values in fp32 where they are of a narrower type.

    oneDNN makes a kernel for every new shape of a narrow product, and the shapes here are as many as the batches.
    """
    wider = torch.promote_types(query.dtype, torch.float32)
    return query.to(wider) * scale, key.to(wider), value.to(wider)


def _placed(parts: list[Float[Tensor, "_ width"]], rows: Int64[Tensor, " outputs"]) -> Float[Tensor, "outputs width"]:
    """Rows of the groups' results; the row behind the last is zero, for the filler."""
    return torch.cat([*parts, parts[0].new_zeros(1, parts[0].shape[1])]).index_select(0, rows)


def _gathered(
    parts: tuple[Tensor, Tensor, Tensor], rows: _Rows, number: int, texts: Texts, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a group, each (texts, heads, places, width)."""
    indices = (rows.queries[number], rows.keys[number], rows.keys[number])
    found = (part.reshape(-1, part.shape[2]).index_select(0, index) for part, index in zip(parts, indices, strict=True))
    q, k, v = (rows_.view(len(texts.lengths), heads, -1, rows_.shape[1]) for rows_ in found)
    return q, k, v


def _product(one: Float[Tensor, "n h a b"], two: Float[Tensor, "n h b c"]) -> Float[Tensor, "n h a c"]:
    """`torch.matmul` of two contiguous tensors or their transposes, without its search for a shape."""
    if one.shape[-1] == 1:  # outer products, as of one query a text: bmm takes ten times as long
        return one * two
    product = torch.bmm(one.flatten(0, 1), two.flatten(0, 1))
    return product.view(*one.shape[:2], *product.shape[1:])


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


def _signs(layout: Layout, heads: int, p: float, seed: int) -> list[Tensor]:
    """Of dropout, for each group of texts; drawn together."""
    if not p:
        return []
    shapes = []
    for texts in layout.groups:
        asked = texts.longest if texts.wanted is None else 1
        shapes.append((len(texts.lengths), heads, asked, texts.longest))
    sizes = [torch.Size(shape).numel() for shape in shapes]
    drawn = torch.split(dropout_signs((sum(sizes),), p, seed), sizes)
    return [part.view(shape) for part, shape in zip(drawn, shapes, strict=True)]


def _summed(parts: list[Tensor], rows: _Rows, like: Tensor, heads: int) -> Tensor:
    """Gradients of the groups' keys or values, put back to their tokens and summed over the heads that share them."""
    by_token = _placed(parts, rows.tokens).view(-1, heads, like.shape[2])
    if heads > like.shape[1]:
        by_token = by_token.view(-1, like.shape[1], heads // like.shape[1], like.shape[2]).sum(2)
    return by_token.to(like.dtype)
