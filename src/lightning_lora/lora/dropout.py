"""Dropout that is cheap on a CPU: sixteen random bits an element, and a mask that is drawn again, not kept.

torch's own draws a double for every element there, keeps the mask in the type of its input, and spends more time on it
than on the layer norm beside it (docs/LOG.md). On other devices it is torch's own, but for the input of an adapted
layer, whose mask is kept in bytes there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from lightning_lora.lora.own_backward import may_have_own_backward

_LEVELS = 1 << 16
_ELEMENTS_OF_A_WORD = 4
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_CPU = torch.device("cpu")


def draw_seed() -> int:
    """A 64-bit seed from torch's default CPU generator, as `kept_elements` takes it."""
    return int(torch.empty((), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None))


def kept_factor(p: float) -> float:
    """What dropout multiplies those elements by that it does not drop, 1 / (1 - p)."""
    return 1 / (1 - p) if p < 1 else 0.0


def dropout_signs(shape: Sequence[int], p: float, seed: int) -> Float[Tensor, "*shape"]:
    """Numbers in fp32 on the CPU, each with a minus sign with probability ``p``. A pure function of its arguments.

    Args:
        shape: Of the tensor to drop from.
        p: Probability of a minus sign, 0 to 1.
        seed: From `draw_seed`; the same seed gives the same signs.
    """
    bits, threshold = _drawn(torch.Size(shape).numel(), p, seed)
    return torch.from_numpy(bits.astype(np.float32)).sub_(threshold).view(*shape)


class _SeedWord(np.random.bit_generator.ISeedSequence):
    """A seed that a generator takes as it is, for each word of its state."""

    def __init__(self, seed: int) -> None:
        self.seed = seed % (1 << 64)

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> NDArray[np.unsignedinteger]:
        return np.full(n_words, self.seed, dtype)


def _drawn(elements: int, p: float, seed: int) -> tuple[NDArray[np.int16], int]:
    """Sixteen bits for each element, and the number below which they mean that it is dropped.

    Where p · 2^16 is no whole number, the threshold is the one below or above, drawn once for the tensor with the odds
    that make the probability of every element ``p`` itself. Two elements then share at most the last of sixteen bits of
    their threshold, a correlation below 1e-9 for p = 0.1.

    The bits are those of SFC64 (C. Doty-Humphrey's PractRand), of which NumPy makes 64 at a time, and the same in every
    version (NEP 19). On one core they take a third of the time of torch's generator, or of a hash of each place on two.
    The three words of its state are the seed, as its author has it. NumPy would spread the seed over them, in the time
    that the bits of 30,000 elements take, or of 100,000 amid training; but this seed has 64 random bits.
    """
    generator = np.random.SFC64(_SeedWord(seed))  # type: ignore[arg-type]  # the stubs know SeedSequence alone
    words = generator.random_raw(1 + -(-elements // _ELEMENTS_OF_A_WORD))
    above = int(words[0]) < p * _LEVELS % 1 * (1 << 64)
    return words[1:].view(np.int16)[:elements], int(p * _LEVELS) + above - _LEVELS // 2


def kept_elements(
    shape: Sequence[int], p: float, seed: int | None, *, device: torch.device = _CPU
) -> UInt8[Tensor, "*shape"]:
    """1 where dropout keeps an element, 0, with probability ``p``, where it drops it.

    In bytes, for `where_kept`.

    On the CPU they are 0 where `dropout_signs` are minus, a pure function of the arguments. Other devices draw them
    from torch's generator: a CUDA graph, which is replayed with other numbers each time, could not be given a seed.

    Args:
        shape: Of the tensor to drop from.
        p: Probability of an element to be dropped, 0 to 1.
        seed: From `draw_seed`; the same seed keeps the same elements. None on other devices than the CPU.
        device: Of the result.
    """
    if seed is None:
        return torch.empty(tuple(shape), dtype=torch.uint8, device=device).bernoulli_(1 - p)
    bits, threshold = _drawn(torch.Size(shape).numel(), p, seed)
    return torch.from_numpy(bits >= threshold).view(torch.uint8).view(*shape)


def where_kept(x: Float[Tensor, "*shape"], kept: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x`` where ``kept`` is 1, and zero where it is 0, whatever ``x`` is there. Without a gradient.

    The bits are multiplied as those of integers: torch multiplies bf16 by bytes in two and a half times as long.
    """
    return (x.view(_INTEGERS[x.dtype.itemsize]) * kept).view(x.dtype)


class _Dropped(torch.autograd.Function):
    """Whose backward draws the kept elements again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        return where_kept(x, kept_elements(x.shape, p, seed)).mul_(kept_factor(p))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # Not what forward does but itself, so that a gradient can be differentiated again.
        return _Dropped.apply(gradient, ctx.p, ctx.seed), None, None  # type: ignore[no-untyped-call]


def drop(x: Float[Tensor, "*shape"], p: float, training: bool = True) -> Float[Tensor, "*shape"]:
    """``x`` with each element zeroed with probability ``p`` and the others times 1 / (1 - p); ``x`` itself otherwise.

    The same state of torch's default generator gives the same result; compiled or traced, another one.
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
