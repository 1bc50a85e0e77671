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
    """
    unit = torch.finfo(x.dtype).eps / 2
    roundings = (A.shape[1] + A.shape[0] + 3) * unit
    size = x.abs() @ weight.abs().T + abs(scale) * (x.abs() @ A.abs().T) @ B.abs().T
    return 2 * roundings / (1 - roundings) * size
