"""Training a model in a random subspace: ``θ = θ0 + P δ`` with d numbers δ that train and a fixed P, (D, d).

P lifts R^d into R^D, the space of all parameters; it projects nothing. The intrinsic dimension of a task is the
smallest d at which so trained a model reaches 90 % of what full fine-tuning reaches (Li et al. 2018, arXiv 1804.08838;
Aghajanyan et al. 2020, arXiv 2012.13255). It is measured: it belongs to a model, a task, a metric and a recipe of
training, and is the rank of no matrix.

The columns of P have length 1 and are nearly orthogonal, so that a step in δ is about as long in θ. For two columns the
cosine has the mean 0 and the standard deviation ``cosine_std``; see `DenseLift` and `FastfoodLift`.
"""

import bisect
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from lightning_lora.inject import train_only

_BLOCK = 64  # where a product with a small Hadamard matrix is quicker than six passes of additions


def walsh_hadamard(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """``H x`` along the last dimension, H the (n, n) Hadamard matrix of entries ±1 in Sylvester's order.

    By ``H_{ab} = H_a ⊗ H_b``, in O(n log n) operations and O(n) memory. It is its own inverse up to the factor n.

    Raises:
        ValueError: n is not a power of two.
    """
    n = x.shape[-1]
    if n < 1 or n & (n - 1):
        raise ValueError(f"a Hadamard matrix of this kind has a power of two of rows, not {n}")
    if n <= _BLOCK:
        return x @ _hadamard(n).to(x)
    inner = x.reshape(*x.shape[:-1], n // _BLOCK, _BLOCK) @ _hadamard(_BLOCK).to(x)
    return walsh_hadamard(inner.mT).mT.flatten(-2)


@cache
def _hadamard(n: int) -> Float[Tensor, "n n"]:
    H = torch.ones(1, 1)
    while len(H) < n:
        H = torch.cat([torch.cat([H, H], dim=1), torch.cat([H, -H], dim=1)])
    return H


class DenseLift(nn.Module):
    """P with independent normal entries, each column divided by its length; D · d numbers.

    Attributes:
        cosine_std: ``1/√D``: one of two columns may be held fixed, and a unit vector's entry has the mean square 1/D.
    """

    P: Tensor

    def __init__(self, dimension: int, parameters: int, seed: int = 0) -> None:
        """Draw P, fp32.

        Args:
            dimension: d, from 1 to ``parameters``.
            parameters: D.
            seed: Of a generator of its own.

        Raises:
            ValueError: d is not in its range.
        """
        super().__init__()
        generator = _generator(dimension, parameters, seed)
        self.cosine_std = 1 / math.sqrt(parameters)
        drawn = torch.randn(parameters, dimension, generator=generator)
        self.register_buffer("P", drawn / drawn.norm(dim=0), persistent=False)

    def forward(self, delta: Float[Tensor, " d"]) -> Float[Tensor, " D"]:
        """``P δ``."""
        return self.P @ delta


class FastfoodLift(nn.Module):
    """P of stacked blocks ``H G Π H B``, in O(D log d) operations and O(D) memory; P is never formed.

    A block has n rows, n the next power of two from d; B has random signs and G normal numbers on the diagonal, Π
    permutes. (Le, Sarlós and Smola 2013, "Fastfood", section 3; without their S, which gives rows the lengths that
    those of a normal matrix have. Nor has arXiv 2012.13255.)

    An entry is normal, as one of ``H G`` times signs. All columns of a block have the length ``√n ‖g‖``, so that one
    number makes them unit vectors: exactly where n divides D, else on average, since the last block is cut off.

    Attributes:
        cosine_std: ``√(2/D)``: the cosine is ``Σ ±g² / Σ g²`` with as many plus as minus, and ``Var g² = 2``. Within
            a block it is the same, up to the sign, for all columns j and k of one ``j XOR k``.
    """

    signs: Tensor
    order: Tensor
    gaussian: Tensor

    def __init__(self, dimension: int, parameters: int, seed: int = 0) -> None:
        """Draw the blocks, fp32 and int64.

        Args:
            dimension: d, from 1 to ``parameters``.
            parameters: D.
            seed: Of a generator of its own.

        Raises:
            ValueError: d is not in its range.
        """
        super().__init__()
        generator = _generator(dimension, parameters, seed)
        self.size = parameters
        self.cosine_std = math.sqrt(2 / parameters)
        n = 1 << (dimension - 1).bit_length()
        blocks = -(-parameters // n)
        signs = torch.randint(2, (blocks, n), generator=generator).float() * 2 - 1
        order = torch.rand(blocks, n, generator=generator).argsort(dim=1)
        gaussian = torch.randn(blocks, n, generator=generator)
        # A whole column has the square length n Σ g²; of its blocks · n rows D are kept.
        length = math.sqrt(float(gaussian.double().square().sum()) * parameters / blocks)
        self.register_buffer("signs", signs, persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("gaussian", gaussian / length, persistent=False)

    def forward(self, delta: Float[Tensor, " d"]) -> Float[Tensor, " D"]:
        """``P δ``."""
        padded = nn.functional.pad(delta, (0, self.signs.shape[1] - len(delta)))
        mixed = walsh_hadamard(self.signs * padded).gather(1, self.order)
        return walsh_hadamard(self.gaussian * mixed).flatten()[: self.size]


def _generator(dimension: int, parameters: int, seed: int) -> torch.Generator:
    if not 1 <= dimension <= parameters:
        raise ValueError(f"dimension={dimension} must be from 1 to the {parameters} parameters")
    return torch.Generator().manual_seed(seed)


Lift = Callable[[int, int, int], nn.Module]


class RandomSubspace(nn.Module):
    """A model that trains in a random subspace of its parameters, and takes and gives what the model does.

    What trains is ``delta``, (d - m,), with ``layer_scales`` also ``scales``, (m,), and of the model itself the
    parameters left outside. Without scales it is the "direct" intrinsic dimension (DID), with them the
    "structure-aware" one (SAID): ``θ_i = θ0_i + λ_i (P δ)_i`` for each of m layers, the λ among the d (arXiv
    2012.13255). δ starts at 0, so that the model starts as it is, and λ at 1.

    Attributes:
        model: The model; its lifted parameters stay at θ0.
        lifted: Names of the lifted parameters, in the model's order.
    """

    def __init__(
        self,
        model: nn.Module,
        dimension: int,
        *,
        seed: int = 0,
        outside: Collection[str] = (),
        layer_scales: bool = False,
        lift: Lift = FastfoodLift,
    ) -> None:
        """Freeze θ0 and draw P.

        Args:
            model: Changed in place: all but the parameters outside are frozen.
            dimension: d, all numbers that train in the place of the lifted parameters.
            seed: Of P.
            outside: Names of parameters that train as they are, and count neither in d nor in D: a new head.
            layer_scales: Whether to learn one scale for each layer.
            lift: `FastfoodLift` or `DenseLift`.

        Raises:
            ValueError: d is not from 1 (with scales, m + 1) to D, or a name is not a parameter.
        """
        super().__init__()
        train_only(model, outside)
        self.model = model
        named = dict(model.named_parameters())
        self.lifted = tuple(name for name, parameter in named.items() if not parameter.requires_grad)
        layers = [layer_of(name) for name in self.lifted]
        kinds = list(dict.fromkeys(layers)) if layer_scales else []
        self._layer = [kinds.index(layer) for layer in layers] if layer_scales else None
        if dimension <= len(kinds):
            raise ValueError(f"dimension={dimension} must be above {len(kinds)}, the number of the layers' scales")
        self._sizes = [named[name].numel() for name in self.lifted]
        self.lift = lift(dimension - len(kinds), sum(self._sizes), seed)
        self.delta = nn.Parameter(torch.zeros(dimension - len(kinds)))
        self.scales = nn.Parameter(torch.ones(len(kinds))) if layer_scales else None

    def parameters_in_place(self) -> dict[str, Tensor]:
        """``θ0 + λ P δ`` by name, with the gradients of δ and λ."""
        pieces = self.lift(self.delta).split(self._sizes)
        if self.scales is not None and self._layer is not None:
            pieces = [piece * self.scales[layer] for piece, layer in zip(pieces, self._layer, strict=True)]
        named = dict(self.model.named_parameters())
        return {name: named[name] + piece.view_as(named[name]) for name, piece in zip(self.lifted, pieces, strict=True)}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's, at ``θ0 + λ P δ``."""
        return functional_call(self.model, self.parameters_in_place(), args, kwargs)


def layer_of(name: str) -> str:
    """The layer that a parameter is of: its name up to the first number, else its first two parts.

    "bert.encoder.layer.3.output.dense.weight" is of "bert.encoder.layer.3", and "bert.pooler.dense.bias" of
    "bert.pooler".
    """
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), None)
    return ".".join(parts[: 2 if number is None else number + 1])


@dataclass(frozen=True)
class Trial:
    """The scores of one size, a seed each.

    Attributes:
        size: A dimension, or a number of parameters.
        scores: At least one.
    """

    size: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores)

    @property
    def standard_error(self) -> float:
        """Of the mean; nan of a single score, which does not say how far others would be from it."""
        if len(self.scores) < 2:
            return math.nan
        squares = sum((score - self.mean) ** 2 for score in self.scores)
        return math.sqrt(squares / (len(self.scores) - 1) / len(self.scores))


@dataclass(frozen=True)
class Reached:
    """Where a threshold is reached.

    Attributes:
        size: The smallest size of the grid whose mean reaches it; None where the largest does not.
        surely_below: The largest size tried whose mean and two standard errors are below it; None where there is none.
        surely_reached: The smallest tried whose mean less two standard errors reaches it; None where there is none.
    """

    size: int | None
    surely_below: int | None
    surely_reached: int | None


def smallest_reaching(measure: Callable[[int], Sequence[float]], threshold: float, grid: Sequence[int]) -> Reached:
    """The smallest size of a grid whose mean score over seeds reaches a threshold, by bisection.

    About ``log2(len(grid))`` sizes are measured. Bisection takes for granted that scores rise with the size, which
    within noise they need not; what noise leaves open is between ``surely_below`` and ``surely_reached``.

    Args:
        measure: From a size to its scores, a seed each. It should remember them if searches share sizes.
        threshold: To be reached by the mean.
        grid: Sizes, ascending.
    """
    tried: dict[int, Trial] = {}

    def mean_at(size: int) -> float:
        tried[size] = Trial(size, tuple(measure(size)))
        return tried[size].mean

    place = bisect.bisect_left(grid, threshold, key=mean_at)
    below = [t.size for t in tried.values() if t.mean + 2 * t.standard_error < threshold]
    reached = [t.size for t in tried.values() if t.mean - 2 * t.standard_error >= threshold]
    size = grid[place] if place < len(grid) else None
    return Reached(size, max(below, default=None), min(reached, default=None))
