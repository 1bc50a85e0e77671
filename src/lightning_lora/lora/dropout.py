"""Dropout that is cheap on a CPU: sixteen random bits an element, and a mask that is drawn again, not kept.

torch's own draws a double for every element there, keeps the mask in the type of its input, and spends more time on it
than on the layer norm beside it (docs/LOG.md). On other devices it is torch's own.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor, nn

from lightning_lora.lora.own_backward import may_have_own_backward

_LANES = 2
"""Elements whose bits come from one 32-bit number."""
_INT32 = (-(1 << 31), 1 << 31)
_GOLDEN = 0x9E3779B9 - (1 << 32)
"""2^32 divided by the golden ratio, odd: places go far apart."""
_LEVELS = 1 << 16
_CPU = torch.device("cpu")


def draw_seed() -> int:
    """A 64-bit seed from torch's default CPU generator, as `dropout_factors` takes it."""
    return int(torch.empty((), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None))


def kept_factor(p: float) -> float:
    """What dropout multiplies those elements by that it does not drop, 1 / (1 - p)."""
    return 1 / (1 - p) if p < 1 else 0.0


def dropout_signs(shape: Sequence[int], p: float, seed: int) -> Float[Tensor, "*shape"]:
    """Numbers in fp32 on the CPU, each with a minus sign with probability ``p``. A pure function of its arguments.

    An element is dropped where its sixteen bits, as a number below 2^16, are less than p · 2^16. Where that is no whole
    number, the threshold is the one below or above, drawn once for the tensor with the odds that make the probability
    of every element ``p`` itself. Two elements then share at most the last of sixteen bits of their threshold, a
    correlation below 1e-9 for p = 0.1.

    Args:
        shape: Of the tensor to drop from.
        p: Probability of a minus sign, 0 to 1.
        seed: From `draw_seed`; the same seed gives the same signs.
    """
    generator = torch.Generator().manual_seed(seed)
    threshold = float(torch.rand((), generator=generator, dtype=torch.float64)) < p * _LEVELS % 1
    elements = torch.Size(shape).numel()
    bits = _random_bits(-(-elements // _LANES), generator).view(torch.int16)[:elements]
    # Compared as floats: torch compares narrow integers one by one, which takes longer than drawing them.
    return bits.float().sub_(int(p * _LEVELS) + threshold - _LEVELS // 2).view(*shape)


def _random_bits(count: int, generator: torch.Generator) -> Int32[Tensor, " count"]:
    """Random 32-bit numbers: a hash of the place, under two keys from the generator.

    The hash is lowbias32 (C. Wellons, "Prospecting for Hash Functions", 2018; three xor-shifts and two products), with
    one key added before it and the other in its midst. torch computes it on all cores and in vector registers, in half
    the time that its own generator takes.
    """
    added, midway = torch.randint(*_INT32, (2,), generator=generator).tolist()
    x = torch.arange(count, dtype=torch.int32).mul_(_GOLDEN).add_(added)
    shifted = torch.empty_like(x)
    for shift, factor, key in ((16, 0x7FEB352D, midway), (15, 0x846CA68B - (1 << 32), 0), (16, 1, 0)):
        torch.bitwise_right_shift(x, shift, out=shifted)
        x.bitwise_xor_(shifted.bitwise_and_((1 << (32 - shift)) - 1))  # the shift repeats the sign bit
        if factor != 1:
            x.mul_(factor).bitwise_xor_(key)
    return x


def dropout_factors(
    shape: Sequence[int], p: float, seed: int | None, *, dtype: torch.dtype = torch.float32, device: torch.device = _CPU
) -> Float[Tensor, "*shape"]:
    """What dropout multiplies by: 0 with probability ``p``, else 1 / (1 - p).

    On the CPU they are 0 where `dropout_signs` are minus, a pure function of the arguments. Other devices draw them
    from torch's generator: a CUDA graph, which is replayed with other numbers each time, could not be given a seed.

    Args:
        shape: Of the tensor to drop from.
        p: Probability of an element to be dropped, 0 to 1.
        seed: From `draw_seed`; the same seed gives the same factors. None on other devices than the CPU.
        dtype: Of the factors.
        device: Of the factors.
    """
    if seed is None:
        return torch.empty(tuple(shape), dtype=dtype, device=device).bernoulli_(1 - p).mul_(kept_factor(p))
    return dropout_signs(shape, p, seed).ge_(0).to(dtype).mul_(kept_factor(p))


class _Dropped(torch.autograd.Function):
    """``x · factors``, whose backward draws the factors again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        return x * dropout_factors(x.shape, p, seed, dtype=x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * dropout_factors(gradient.shape, ctx.p, ctx.seed, dtype=gradient.dtype), None, None


def drop(x: Float[Tensor, "*shape"], p: float, training: bool = True) -> Float[Tensor, "*shape"]:
    """``x`` with each element zeroed with probability ``p`` and the others times 1 / (1 - p); ``x`` itself otherwise.

    The random numbers are torch's: the same state of its default generator gives the same result.
    """
    if not training or p == 0:
        return x
    if x.device.type != "cpu" or not may_have_own_backward(x):
        return F.dropout(x, p)
    dropped: Tensor = _Dropped.apply(x, p, draw_seed())  # type: ignore[no-untyped-call]
    return dropped


class Dropout(nn.Dropout):
    """`nn.Dropout` by `drop`."""

    def forward(self, input: Tensor) -> Tensor:
        return drop(input, self.p, self.training)


def use_cheap_dropout(model: nn.Module) -> None:
    """Put a `Dropout` in the place of every `nn.Dropout` in ``model``. Subclasses keep what they are."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))
