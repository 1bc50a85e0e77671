"""How far apart two ways to compute the same layer may be, by floating-point arithmetic alone."""

import torch
from jaxtyping import Float
from torch import Tensor


def forward_rounding_bound(
    x: Float[Tensor, "*batch in"],
    weight: Float[Tensor, "out in"],
    A: Float[Tensor, "rank in"],
    B: Float[Tensor, "out rank"],
    scale: float,
) -> Float[Tensor, "*batch out"]:
    """The largest ``|W0 x + s B A x − (W0 + s B A) x|`` that rounding can give, entry by entry.

    Each side errs by at most ``γ_n (|W0| |x| + s |B| |A| |x|)`` with ``γ_n = n u / (1 − n u)``, u half the distance
    from 1 to the next number, and n the roundings on the way to one entry: ``in + rank`` sums of products, the scale
    and the last sum (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.5). All arguments have
    one type, and the bound is for arithmetic in it, in any order.

    Raises:
        ValueError: n u is 1 or more, as of bf16 with 256 inputs: there is no such bound.
    """
    unit = torch.finfo(x.dtype).eps / 2
    roundings = (A.shape[1] + A.shape[0] + 3) * unit
    if roundings >= 1:
        raise ValueError(f"{x.dtype} has no bound for sums of {A.shape[1] + A.shape[0]} products")
    size = x.abs() @ weight.abs().T + abs(scale) * (x.abs() @ A.abs().T) @ B.abs().T
    return 2 * roundings / (1 - roundings) * size
