"""What an adapted linear layer keeps for backward and makes in a step, counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from lone_layer import DROPOUTS, RANK, ROWS, WIDTH, Composed, adapted, delta_of, is_fused, rows
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_lora.lora import LoRALayer

BYTES = 8


@contextmanager
def keeping() -> Iterator[dict[int, int]]:
    """Bytes of every storage that is kept for backward, by address."""
    kept: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def kept_by(layers: list[nn.Module]) -> int:
    """Bytes that query, key and value keep together, given the same rows."""
    x = rows()
    with keeping() as kept:
        outputs = [layer(x) for layer in layers]
    assert all(output.requires_grad for output in outputs)
    return sum(kept.values())


@DROPOUTS
def test_layers_on_one_input_keep_what_trainable_linears_keep_and_rank_sized_terms(dropout: float) -> None:
    plain = kept_by([nn.Linear(WIDTH, WIDTH).double() for _ in range(3)])
    assert plain == BYTES * (ROWS * WIDTH + 3 * WIDTH * WIDTH)
    # A and B; S; B transposed.
    rank_sized = 3 * BYTES * RANK * (2 * WIDTH + ROWS + WIDTH)
    assert kept_by([adapted(dropout=dropout) for _ in range(3)]) == plain + rank_sized


def test_the_composition_keeps_a_dropped_copy_for_each_layer() -> None:
    """The control of the count above."""
    extra = kept_by([adapted(Composed, 0.4) for _ in range(3)]) - kept_by([adapted(dropout=0.4) for _ in range(3)])
    # Two copies more, because of x itself nothing is kept; less B transposed.
    assert extra >= BYTES * (2 * ROWS * WIDTH - 3 * RANK * WIDTH)


def test_without_gradients_nothing_is_kept() -> None:
    layer = adapted()
    with keeping() as kept, torch.no_grad():
        assert not layer(rows()).requires_grad
    assert not kept
    layer.adapters.requires_grad_(False)
    with keeping() as kept:
        assert not is_fused(layer(rows()))
    assert max(kept.values()) < BYTES * ROWS * WIDTH, "neither the input nor its like is kept for frozen factors"


class Recording(TorchDispatchMode):
    """Products, and storages that operations make, by their number of elements."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[str] = []
        self.made: dict[int, int] = {}
        self._alive: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in known:
            self._alive.append(result)
            self.made[result.untyped_storage().data_ptr()] = result.numel()
        name = func.overloadpacket.__name__
        if "mm" in name:
            self.products.append(name)
        return result

    def of_size(self, elements: int) -> int:
        return sum(size == elements for size in self.made.values())


def recorded(layer: LoRALayer, x: Tensor) -> tuple[Recording, Recording]:
    gradient = torch.randn_like(x)
    with Recording() as forward:
        y = layer(x)
    with Recording() as backward:
        y.backward(gradient)
    return forward, backward


def test_one_tensor_of_the_outputs_size_is_made_each_way_and_none_of_the_weights() -> None:
    layer, x = adapted(), rows()
    forward, backward = recorded(layer, x)
    assert forward.products == ["mm", "addmm", "addmm_"]
    assert backward.products == ["mm", "mm", "mm", "mm", "addmm_"]
    assert (forward.of_size(x.numel()), backward.of_size(x.numel())) == (1, 1)
    assert layer.weight.grad is None
    assert backward.of_size(WIDTH * WIDTH) == 0

    # The controls: the composition makes more, and a weight that trains has its gradient.
    forward, backward = recorded(adapted(Composed), x)
    assert forward.of_size(x.numel()) > 1
    assert backward.of_size(x.numel()) > 1
    layer.weight.requires_grad_()
    assert recorded(layer, x)[1].of_size(WIDTH * WIDTH) > 0


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    _, backward = recorded(adapted(), rows().detach())
    assert backward.products == ["mm", "mm", "mm"]
    assert backward.of_size(ROWS * WIDTH) == 0


def test_half_precision_with_fp32_factors_rounds_once() -> None:
    """The sum is nearer to the exact one than where the term is rounded first, and keeps no fp32 copy of x."""
    layer = adapted(base_type=torch.bfloat16)
    x = torch.randn(400, WIDTH).bfloat16()
    base, term = F.linear(x, layer.weight, layer.bias), delta_of(layer)(x)
    with keeping() as kept:
        y = layer(x)
    assert is_fused(y)
    assert x.untyped_storage().data_ptr() in kept
    assert 4 * x.numel() not in kept.values()
    base, term, y = base.detach(), term.detach(), y.detach()
    once = base.float() + term
    assert float((y.float() - once).abs().max()) <= float((once.bfloat16().float() - once).abs().max()) * 1.01
    early = base + term.bfloat16()
    assert (early.float() - once).abs().mean() > 1.1 * (y.float() - once).abs().mean()
