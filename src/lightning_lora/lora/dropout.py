"""Dropout that is cheap on a CPU: eight random bits an element, and a mask that is drawn again, not kept.

torch's own draws a double for every element there, keeps the mask in the type of its input, and spends more time on it
than on the layer norm beside it (docs/LOG.md). On other devices it is torch's own, but for the input of an adapted
layer, whose mask is kept in bytes there.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from lightning_lora.lora.own_backward import may_have_own_backward

_PERIOD = 1 << 13
_LEVELS = _PERIOD << 8
_BYTES_OF_A_WORD = 8
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_CPU = torch.device("cpu")


def draw_seed() -> int:
    """A 64-bit seed from torch's default CPU generator, as `kept_elements` takes it."""
    return int(torch.empty((), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None))


def kept_factor(p: float) -> float:
    """What dropout multiplies those elements by that it does not drop, 1 / (1 - p)."""
    return 1 / (1 - p) if p < 1 else 0.0


class _SeedWord(np.random.bit_generator.ISeedSequence):
    """A seed that a generator takes as it is, for each word of its state."""

    def __init__(self, seed: int) -> None:
        self.seed = seed % (1 << 64)

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> NDArray[np.unsignedinteger]:
        return np.full(n_words, self.seed, dtype)


@functools.cache
def _thresholds(levels: int) -> NDArray[np.uint8]:
    """Numbers of a period, twice in a row, whose mean is ``levels / _PERIOD``: the whole number below, or one more.

    Which places have one more is drawn once and for all.
    """
    order = np.random.SFC64(_SeedWord(0)).random_raw(_PERIOD).argsort()  # type: ignore[arg-type]  # as below
    below, places_above = divmod(levels, _PERIOD)
    return np.tile((below + (order < places_above)).astype(np.uint8), 2)


def _drawn(elements: int, p: float, seed: int) -> NDArray[np.bool_]:
    """Whether each element is kept; False with probability ``p``.

    A byte is drawn for each element, and the rarer of the two happens where it is below a threshold. p · 256 is seldom
    a whole number, so the thresholds are the ones below and above, in turn over a period, in a fixed order that begins
    anywhere. Where their share in it is no whole number of places either, it is rounded up or down, once for the tensor
    and with the odds that make the probability of every element ``p`` itself. Two elements have independent bytes and
    share the start in the period. Between those a period apart that gives a correlation, for p = 0.1 of 4e-5; between
    others it is a hundredth of that, of either sign; and how many of a tensor are dropped varies no more than if all
    were independent.

    The bytes are those of SFC64 (C. Doty-Humphrey's PractRand), of which NumPy makes eight at a time, and the same in
    every version (NEP 19). On one core they take a sixth of the time of torch's generator, or of a hash of each place
    on two. The three words of its state are the seed, as its author has it. NumPy would spread the seed over them, in
    the time that the bytes of 60,000 elements take, or of 200,000 amid training; but this seed has 64 random bits.
    """
    periods = -(-elements // _PERIOD)
    generator = np.random.SFC64(_SeedWord(seed))  # type: ignore[arg-type]  # the stubs know SeedSequence alone
    words = generator.random_raw(2 + periods * _PERIOD // _BYTES_OF_A_WORD)
    rounded, start = int(words[0]), int(words[1]) % _PERIOD
    levels = min(p, 1 - p) * _LEVELS
    thresholds = _thresholds(int(levels) + (rounded < levels % 1 * (1 << 64)))[start : start + _PERIOD]
    drawn = words[2:].view(np.uint8).reshape(periods, _PERIOD)
    kept = drawn < thresholds if p > 0.5 else drawn >= thresholds
    return kept.reshape(-1)[:elements]


def kept_elements(
    shape: Sequence[int], p: float, seed: int | None, *, device: torch.device = _CPU
) -> UInt8[Tensor, "*shape"]:
    """1 where dropout keeps an element, 0, with probability ``p``, where it drops it.

    In bytes, for `where_kept`.

    On the CPU they are a pure function of the arguments. Other devices draw them from torch's generator: a CUDA graph,
    which is replayed with other numbers each time, could not be given a seed.

    Args:
        shape: Of the tensor to drop from.
        p: Probability of an element to be dropped, 0 to 1.
        seed: From `draw_seed`; the same seed keeps the same elements. None on other devices than the CPU.
        device: Of the result.
    """
    if seed is None:
        return torch.empty(tuple(shape), dtype=torch.uint8, device=device).bernoulli_(1 - p)
    return torch.from_numpy(_drawn(torch.Size(shape).numel(), p, seed)).view(torch.uint8).view(*shape)


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
