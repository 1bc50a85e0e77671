"""An adapted linear layer as one step of autograd, which computes and keeps less than its composition from operations.

Forward and backward of ``h = W0 x + scale · B A x`` (Hu et al. 2021, arXiv 2106.09685, equation 3) for rows x (T, in):

    y  = x W0ᵀ + b                 dS = Bᵀ gᵀ                                (rank, T)
    S  = A x̃ᵀ                      dA = scale · dS x̃      dB = scale · (S g)ᵀ
    y += scale · Sᵀ Bᵀ             dx = g W0 + scale · m ⊙ (dSᵀ A)

where x̃ = m ⊙ x is what dropout leaves of x; m is 0 or 1, and its factor 1 / (1 - p) goes into the scale, with no pass
over x of its own. m is drawn again from a seed in backward (on a CPU; elsewhere it is kept for each layer, a byte an
element, whether there are CUDA graphs or not, since a graph cannot take a seed). Kept between the two: x itself, which
layers that are given the same tensor share; the parameters; S, Bᵀ and A where it is rounded, which are rank-sized. The
composition keeps, for each layer, x̃ where there is dropout and a wider copy of x where the factors are wider. It also
writes and reads every low-rank term as a (T, out) tensor of its own, where here the products are added into y and dx,
of which nobody else holds a reference yet.

S, dS and Bᵀ lie in memory as wide rows, not as thin columns: on a CPU their products with rank 8 take a fifth to two
thirds of the time that way.

Both ideas are known: one shared input and products added in place from Unsloth's hand-written LoRA backward, the choice
of what to compute and to keep from RunLoRA (Cherniuk et al. 2023, arXiv 2312.03415).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real, UInt8
from torch import Tensor

from lightning_lora.lora.dropout import draw_seed, kept_elements, kept_factor, where_kept
from lightning_lora.lora.functional import WHOLE, OutputLayout, add_term, autocasts, low_rank_term
from lightning_lora.lora.own_backward import may_have_own_backward


def adapted_linear(
    x: Float[Tensor, "*batch in"],
    weight: Float[Tensor, "out in"],
    bias: Float[Tensor, "out"] | None,
    A: Float[Tensor, "ranks in"],
    B: Float[Tensor, "adapted rank"],
    scale: float,
    layout: OutputLayout = WHOLE,
    dropout: float = 0.0,
    rounds_factors: bool = False,
) -> Float[Tensor, "*batch out"]:
    """``F.linear(x, weight, bias) + low_rank_term(F.dropout(x, dropout), A, B, scale, layout)``.

    The term is computed in the wider of the input's and the factors' types, or in the input's where factors are rounded
    to it, and the sum is rounded once to the type of the base layer's output. A gradient is computed for everything
    that requires one, weight and bias included, and of any order: for a second derivative, the composition is
    differentiated instead.

    Args:
        x: Input rows, in the type of ``weight`` and ``bias``.
        weight: Of the base layer; a view where that keeps it as (in, out).
        bias: Of the base layer.
        A: Factors of the adapted parts, stacked.
        B: Likewise.
        scale: Of the low-rank term.
        layout: One group: the adapted parts are ranges of output features.
        dropout: Probability of dropping an entry of the low-rank term's input; see `kept_elements`.
        rounds_factors: Whether A and B are rounded to the type of ``x``; their gradients come in their own.
    """
    seed = draw_seed() if dropout and x.device.type == "cpu" else None
    kind = x.dtype if rounds_factors else torch.promote_types(x.dtype, A.dtype)
    y: Tensor = _AdaptedLinear.apply(x, weight, bias, A, B, scale, layout, dropout, seed, kind)  # type: ignore[no-untyped-call]
    return y


def is_fusable(x: Tensor, weight: Tensor, A: Tensor, B: Tensor, layout: OutputLayout = WHOLE) -> bool:
    """Whether `adapted_linear` computes what the composition does, and keeps no more.

    Autocast chooses types operation by operation, and of a frozen factor the composition keeps nothing.
    """
    trains = A.requires_grad and B.requires_grad
    return (
        may_have_own_backward(x, weight, A, B)
        and (trains or not torch.is_grad_enabled())
        and layout.groups == 1
        and not autocasts(x)
    )


class _AdaptedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        scale: float,
        layout: OutputLayout,
        dropout: float,
        seed: int | None,
        kind: torch.dtype,
    ) -> Tensor:
        ctx.scale, ctx.layout, ctx.dropout, ctx.seed = scale * kept_factor(dropout), layout, dropout, seed
        a, parts, mask = A.to(kind), len(layout.adapted), _mask(ctx, x)
        S = a.mm(_rows(_dropped(x, mask)).to(kind).T)
        Bt = [part.T.contiguous() for part in _chunks(B.to(kind), parts)]
        base = F.linear(x, weight, bias)
        # The base output itself where it has this type already: F.linear has just made it, it is nobody else's.
        y = base.to(kind)
        for columns, s, bt in zip(_columns(y.view(-1, y.shape[-1]), layout), _chunks(S, parts), Bt, strict=True):
            columns.addmm_(s.T, bt, alpha=ctx.scale)
        ctx.save_for_backward(x, weight, A, B, a, S, mask if seed is None else None, *Bt)
        y = y.to(base.dtype)
        # F.linear of more than two dimensions gives a view, and a view that a Function returns must not be changed in
        # place, as users and models may change what a Linear gives.
        return torch.ops.aten._unsafe_view(y, y.shape) if y._is_view() else y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False):
            # Grad mode is on in backward where the gradients are to be differentiated themselves (create_graph).
            by = _gradients_of_composition if torch.is_grad_enabled() else _gradients
            dx, dweight, dA, dB = by(ctx, gradient)
            dbias = _rows(gradient).sum(0) if ctx.needs_input_grad[2] else None
        return dx, dweight, dbias, dA, dB, *[None] * 5


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight, A and B where they are needed, by the formulas of this module."""
    x, weight, A, B, a, S, kept_mask, *Bt = ctx.saved_tensors
    needs_x, needs_weight, _, needs_A, needs_B, *_ = ctx.needs_input_grad
    dx = dweight = dA = dB = None
    g, scale, kind, mask = _rows(gradient), ctx.scale, S.dtype, _mask(ctx, x, kept_mask)
    columns = _columns(g.to(kind), ctx.layout)
    dS = _joined([bt.mm(part.T) for bt, part in zip(Bt, columns, strict=True)])
    if needs_B:
        dB = _joined([s.mm(part).T for s, part in zip(_chunks(S, len(Bt)), columns, strict=True)])
        dB = dB.to(B.dtype).mul_(scale)
    if needs_A:
        dA = dS.mm(_rows(_dropped(x, mask)).to(kind)).to(A.dtype).mul_(scale)
    if needs_weight:
        dweight = g.T.mm(_rows(x))
    if needs_x:
        dx = g.mm(weight).to(kind)
        if mask is None:
            dx.addmm_(dS.T, a, alpha=scale)
        else:
            dx.addcmul_(dS.T.mm(a), _rows(mask), value=scale)
        dx = dx.to(x.dtype).view(x.shape)
    return dx, dweight, dA, dB


def _gradients_of_composition(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The same as a graph of ordinary operations, so that they can be differentiated; S is computed anew for that."""
    *inputs, _, S, kept_mask = ctx.saved_tensors[:7]
    # Where the layer was used before in this forward, x depends on A and B too; that path is the outer backward's.
    x, weight, A, B = (tensor.view_as(tensor) for tensor in inputs)
    needed = [ctx.needs_input_grad[position] for position in (0, 1, 3, 4)]
    mask = _mask(ctx, x, kept_mask)
    # By a product, which has a gradient, as `where_kept` has not.
    term = low_rank_term(x if mask is None else x * mask, A.to(S.dtype), B.to(S.dtype), ctx.scale, ctx.layout)
    wanted = [tensor for tensor, need in zip((x, weight, A, B), needed, strict=True) if need]
    found = iter(torch.autograd.grad(add_term(F.linear(x, weight), term), wanted, gradient, create_graph=True))
    return tuple(next(found) if need else None for need in needed)


def _mask(ctx: Any, x: Tensor, kept: Tensor | None = None) -> UInt8[Tensor, "*batch in"] | None:
    """Which elements of ``x`` dropout keeps; None where there is no dropout."""
    if kept is not None or not ctx.dropout:
        return kept
    return kept_elements(x.shape, ctx.dropout, ctx.seed, device=x.device)


def _dropped(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else where_kept(x, mask)


def _rows(tensor: Real[Tensor, "*batch features"]) -> Real[Tensor, "T features"]:
    return tensor if tensor.ndim == 2 else tensor.reshape(-1, tensor.shape[-1])


def _columns(y: Float[Tensor, "T out"], layout: OutputLayout) -> list[Tensor]:
    """Views of the adapted parts' columns."""
    parts = _chunks(y, layout.parts, dim=1)
    return [parts[part] for part in layout.adapted]


def _chunks(tensor: Tensor, count: int, dim: int = 0) -> Sequence[Tensor]:
    """`Tensor.chunk`, without a call where there is nothing to divide: a step of short texts is mostly calls."""
    return tensor.chunk(count, dim) if count > 1 else [tensor]


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
