"""The mathematics of LoRA as functions of tensors (Hu et al. 2021, arXiv 2106.09685, equation 3).

    h = W0 x + scale · B A x,     W0 (out, in) frozen,     A (rank, in),     B (out, rank)

A fused projection holds several projections in one matrix: GPT-2's ``c_attn`` is query, key and value side by side.
`OutputLayout` says which output features belong to which part; each adapted part has a low-rank term of its own, and
A and B hold the parts' factors stacked: A (parts · rank, in), B (parts · part_width, rank).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class OutputLayout:
    """How the output features of a layer divide into parts, and which parts are adapted.

    The output is viewed as (groups, parts, width). One group is the contiguous layout ``q | k | v``; GPT-NeoX and
    DeBERTa interleave the three per attention head and have as many groups as heads.

    Attributes:
        adapted: The parts that have a low-rank term, ascending.
        parts: Number of parts in a group. 1 for an ordinary projection.
        groups: Number of groups.
    """

    adapted: tuple[int, ...] = (0,)
    parts: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        known = range(self.parts)
        if not self.adapted or list(self.adapted) != sorted(set(self.adapted)) or not set(self.adapted) <= set(known):
            raise ValueError(f"adapted={self.adapted} must be ascending part numbers from 0 to {self.parts - 1}")

    @property
    def is_whole(self) -> bool:
        """True where the layer is one part, adapted as a whole."""
        return self.parts == 1

    def adapted_features(self, out_features: int) -> int:
        """Number of output features that have a low-rank term, of a layer with ``out_features``."""
        if out_features % (self.groups * self.parts):
            raise ValueError(f"{out_features} features do not divide into {self.groups} groups of {self.parts} parts")
        return out_features // self.parts * len(self.adapted)


WHOLE = OutputLayout()


def autocasts(x: Tensor) -> bool:
    """Whether autocast chooses the types of operations on ``x``. Of "meta", which has none, torch raises."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def low_rank_term(
    x: Float[Tensor, "*batch in"],
    A: Float[Tensor, "ranks in"],
    B: Float[Tensor, "adapted rank"],
    scale: float,
    layout: OutputLayout = WHOLE,
) -> Float[Tensor, "*batch out"]:
    """``scale · B A x``, zero on the output features that are not adapted.

    Computed in the wider of the input's and the factors' types, or in autocast's. The scale is applied to the
    rank-sized product, the smallest tensor on the way.
    """
    if not autocasts(x):
        wider = torch.promote_types(x.dtype, A.dtype)
        x, A, B = x.to(wider), A.to(wider), B.to(wider)
    return expand_low_rank(F.linear(x, A) * scale, B, layout)


def expand_low_rank(
    reduced: Float[Tensor, "*batch ranks"], B: Float[Tensor, "adapted rank"], layout: OutputLayout
) -> Float[Tensor, "*batch out"]:
    """``B s`` part by part for ``s = scale · A x``, with the parts put where the layout says."""
    if layout.is_whole:
        return F.linear(reduced, B)
    count = len(layout.adapted)
    terms = [F.linear(s, b) for s, b in zip(reduced.chunk(count, dim=-1), B.chunk(count, dim=0), strict=True)]
    terms = [term.reshape(*term.shape[:-1], layout.groups, term.shape[-1] // layout.groups) for term in terms]
    by_part = dict(zip(layout.adapted, terms, strict=True))
    absent = torch.zeros_like(terms[0])
    return torch.stack([by_part.get(part, absent) for part in range(layout.parts)], dim=-2).flatten(-3)


def delta_weight(
    A: Float[Tensor, "ranks in"], B: Float[Tensor, "adapted rank"], scale: float, layout: OutputLayout = WHOLE
) -> Float[Tensor, "out in"]:
    """The dense update ``ΔW = scale · B A``, zero in the rows that are not adapted.

    Returned in fp64, or in fp32 on a device that has no fp64.

    Law: ``x @ delta_weight(A, B, s, l).T == low_rank_term(x, A, B, s, l)`` up to rounding.
    """
    precise = torch.float32 if A.device.type == "mps" else torch.float64
    A, B = A.detach().to(precise), B.detach().to(precise)
    return expand_low_rank(A.T * scale, B, layout).T


def add_term(result: Float[Tensor, "*batch out"], term: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch out"]:
    """``result + term`` in the wider of the two types, rounded once to the type of ``result``; neither is changed."""
    return (result + term).to(result.dtype)


def round_once(exact: Float[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """``exact`` in a narrower type, rounded to nearest, ties to even.

    torch goes from fp64 to bf16 and fp16 by way of fp32, and so rounds twice: 1 + 2^-8 + 2^-30, just above the middle
    of two bf16 numbers, becomes the lower one. Rounding to odd on the way makes the second rounding the right one
    (Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums", theorem 1).
    """
    if exact.dtype != torch.float64 or dtype.itemsize > 2:
        return exact.to(dtype)
    near = exact.float()
    too_far = near.double().abs() > exact.abs()
    truncated = torch.where(too_far, torch.nextafter(near, torch.zeros_like(near)), near)
    inexact = truncated.double() != exact
    odd = (truncated.view(torch.int32) | 1).view(torch.float32)
    return torch.where(inexact & truncated.isfinite(), odd, truncated).to(dtype)


def merged_weight(
    weight: Float[Tensor, "rows columns"], delta: Float[Tensor, "rows columns"]
) -> Float[Tensor, "rows columns"]:
    """``W0 + ΔW``, summed in the type of ``delta`` (fp64) and rounded once, to the type of ``weight``.

    Raises:
        ValueError: the sum is not finite, in the precise type or after rounding.
    """
    merged = round_once(weight.detach().to(delta.dtype) + delta, weight.dtype)
    if not bool(torch.isfinite(merged).all()):
        raise ValueError(f"merging gives values that are not finite in {weight.dtype}; the adapter has diverged")
    return merged
