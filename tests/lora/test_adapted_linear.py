"""An adapted linear layer as one step of autograd: its values and gradients are the formula's."""

import copy
from typing import Any

import pytest
import torch
from cases import CASES, OUT, Case
from lone_layer import DROPOUTS, WIDTH, Composed, adapted, delta_of, gradients, is_fused, rows
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_lora.lora import OutputLayout
from lightning_lora.lora.adapted_linear import _AdaptedLinear, adapted_linear
from lightning_lora.lora.dropout import draw_seed, kept_elements

LINEAR_CASES = [case for case in CASES if not isinstance(case.build(), nn.Embedding)]

over_linear_cases = pytest.mark.parametrize("case", LINEAR_CASES, ids=lambda case: case.name)

# Of values and gradients of size 1 to 50, which sum up to 24 products: a few units in the last place of each type.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def formula(case: Case, x: Tensor, m: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor) -> Tensor:
    """``x W0ᵀ + b + scale · (m ⊙ x) Aᵀ Bᵀ`` part by part; ``weight`` is (out, in)."""
    features = torch.arange(OUT).view(case.layout.groups, case.layout.parts, -1)
    y = x @ weight.T if bias is None else x @ weight.T + bias
    count = len(case.layout.adapted)
    for part, a, b in zip(case.layout.adapted, A.chunk(count), B.chunk(count), strict=True):
        y = y.index_add(-1, features[:, part].flatten(), case.spec().scale * (m * x) @ a.T @ b.T)
    return y


@over_linear_cases
@DROPOUTS
@pytest.mark.parametrize("base_trains", [False, True])
def test_values_and_gradients_are_those_of_the_formula(case: Case, dropout: float, base_trains: bool) -> None:
    layer = case.adapted(case.base()).train()
    delta = delta_of(layer)
    delta.dropout.p = dropout
    for parameter in layer._parameters.values():
        if parameter is not None:
            parameter.requires_grad_(base_trains)
    x = case.inputs().requires_grad_()
    torch.manual_seed(11)
    m = torch.ones_like(x)
    if dropout:
        m = kept_elements(x.shape, dropout, draw_seed()) / (1 - dropout)
        assert 0 < (m == 0).float().mean() < 1

    torch.manual_seed(11)
    y = layer(x)
    assert is_fused(y) == (case.layout.groups == 1)
    assert y.dtype == case.dtype
    weights = torch.randn(y.shape, dtype=torch.float64)
    (y * weights.to(y.dtype)).sum().backward()

    exact = {
        name: parameter.detach().double().requires_grad_()
        for name, parameter in {"x": x, "weight": layer.weight, "bias": layer.bias, "A": delta.A, "B": delta.B}.items()
        if parameter is not None
    }
    oriented = exact["weight"].T if layer.weight_is_in_by_out else exact["weight"]
    expected = formula(case, exact["x"], m.double(), oriented, exact.get("bias"), exact["A"], exact["B"])
    (expected * weights.to(y.dtype).double()).sum().backward()

    tolerance = TOLERANCE[case.dtype]
    torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=tolerance)
    for name, tensor in {"x": x, "weight": layer.weight, "bias": layer.bias, "A": delta.A, "B": delta.B}.items():
        if tensor is None:
            continue
        if name in ("weight", "bias") and not base_trains:
            assert tensor.grad is None
            continue
        assert tensor.grad is not None
        assert tensor.grad.dtype == tensor.dtype
        scale = float(exact[name].grad.abs().max())
        torch.testing.assert_close(
            tensor.grad.double() / scale, exact[name].grad / scale, atol=tolerance, rtol=tolerance, msg=name
        )


LAYOUTS = pytest.mark.parametrize("layout", [OutputLayout(), OutputLayout((0, 2), parts=3)], ids=["whole", "parts"])


@LAYOUTS
@DROPOUTS
def test_first_and_second_derivatives_by_finite_differences(layout: OutputLayout, dropout: float) -> None:
    count, width = len(layout.adapted), 6 // layout.parts
    shapes = [(2, 3, 4), (6, 4), (6,), (2 * count, 4), (width * count, 2)]
    inputs = tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)

    def layer(x: Tensor, weight: Tensor, bias: Tensor, A: Tensor, B: Tensor) -> Tensor:
        torch.manual_seed(2)
        return adapted_linear(x, weight, bias, A, B, 1.5, layout, dropout)

    assert torch.autograd.gradcheck(layer, inputs)
    # The sine makes the second derivative of the bias other than zero.
    assert torch.autograd.gradgradcheck(lambda *tensors: layer(*tensors).sin(), inputs)


def test_a_dropped_entry_has_no_part_in_either_direction() -> None:
    """With a base of zeros, dx is zero exactly where the mask is; and the mask is another one in the next pass."""
    layer, x = adapted(dropout=0.5), rows()
    layer.weight.zero_()
    layer.bias.zero_()
    masks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        m = 2 * kept_elements(x.shape, 0.5, draw_seed())
        torch.manual_seed(seed)
        y = layer(x)
        torch.testing.assert_close(y, delta_of(layer).scale * (m * x) @ delta_of(layer).A.T @ delta_of(layer).B.T)
        # Other draws in between do not matter.
        torch.rand(100)
        (dx,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(dx == 0, m == 0)
        masks.append(m)
    assert not torch.equal(*masks)


def test_a_mask_that_is_kept_as_on_a_gpu_is_the_same_in_both_directions() -> None:
    """Without a seed, which a CUDA graph could not be given; here on the CPU, whose layers have one."""
    layer, x = adapted(dropout=0.5), rows()
    delta = delta_of(layer)
    torch.manual_seed(3)
    kept = kept_elements(x.shape, 0.5, None)
    assert kept.unique().tolist() == [0, 1]
    m = 2 * kept
    torch.manual_seed(3)
    term = delta.A, delta.B, delta.scale, delta.layout, 0.5, None, delta.A.dtype
    y = _AdaptedLinear.apply(x, layer.weight, layer.bias, *term)  # type: ignore[no-untyped-call]
    expected = x @ layer.weight.T + layer.bias + delta.scale * (m * x) @ delta.A.T @ delta.B.T
    torch.testing.assert_close(y, expected)
    weights = torch.randn_like(y)
    for one, two in zip(
        torch.autograd.grad(y, (x, delta.A, delta.B), weights),
        torch.autograd.grad(expected, (x, delta.A, delta.B), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


@DROPOUTS
def test_it_draws_the_random_numbers_of_the_composition(dropout: float) -> None:
    x = rows()
    fused, composed = adapted(dropout=dropout), adapted(Composed, dropout)
    for one, other in zip(gradients(fused, x), gradients(composed, x), strict=True):
        torch.testing.assert_close(one, other)
    torch.manual_seed(5)
    assert is_fused(fused(x))
    after = torch.get_rng_state()
    torch.manual_seed(5)
    assert not is_fused(composed(x))
    assert torch.equal(torch.get_rng_state(), after)


def test_evaluation_drops_nothing() -> None:
    x = rows()
    assert torch.equal(adapted(dropout=0.4).eval()(x), adapted()(x))
    assert not torch.equal(adapted(dropout=0.4)(x), adapted()(x))


def test_nothing_is_changed_that_others_hold() -> None:
    layer, x = adapted(dropout=0.4), rows()
    held = {"x": x, "weight": layer.weight, "bias": layer.bias, "A": delta_of(layer).A, "B": delta_of(layer).B}
    before = {name: tensor.detach().clone() for name, tensor in held.items()}
    y = layer(x)
    gradient = torch.randn_like(y)
    given, values = gradient.clone(), y.detach().clone()
    first = torch.autograd.grad(y, (x, *layer.adapters.parameters()), gradient, retain_graph=True)
    again = torch.autograd.grad(y, (x, *layer.adapters.parameters()), gradient)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(gradient, given)
    assert torch.equal(y, values)
    assert all(torch.equal(tensor, before[name]) for name, tensor in held.items())


@pytest.mark.parametrize("shape", [(-1,), (1, -1), (2, 2, -1)])
def test_an_output_of_any_shape_may_be_changed_in_place(shape: tuple[int, ...]) -> None:
    """Of other shapes than (rows, width) F.linear gives a view."""
    layer = adapted()
    x = rows()[:4].detach().reshape(*shape, WIDTH) if shape != (-1,) else rows()[0].detach()
    x.requires_grad_()
    expected = torch.autograd.grad(2 * layer(x).relu().sum(), (x, delta_of(layer).B))
    found = torch.autograd.grad(layer(x).mul_(2).relu_().sum(), (x, delta_of(layer).B))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_output_may_be_changed_in_place_and_the_input_may_not() -> None:
    layer, x = adapted(), rows()
    expected = torch.autograd.grad(2 * layer(x).relu().sum(), (x, delta_of(layer).B))
    found = torch.autograd.grad(layer(x).mul_(2).relu_().sum(), (x, delta_of(layer).B))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    changed = x.detach().clone()
    y = layer(changed)
    changed.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize(
    "reshaped",
    [
        lambda x: x[0],
        lambda x: x[:0],
        lambda x: x.view(2, 4, 5, WIDTH),
        lambda x: x.view(8, 5, WIDTH).transpose(0, 1),
        lambda x: x.T.contiguous().T,
        lambda x: x[:1].expand(7, -1),
    ],
    ids=["vector", "empty", "4d", "transposed", "columns", "expanded"],
)
@DROPOUTS
def test_inputs_of_every_shape_and_stride(reshaped: Any, dropout: float) -> None:
    x = rows()
    torch.manual_seed(5)
    y = adapted(dropout=dropout)
    z = adapted(Composed, dropout)
    outputs, found = [], []
    for layer in (y, z):
        torch.manual_seed(5)
        outputs.append(layer(reshaped(x)))
        found.append(torch.autograd.grad(outputs[-1].sin().sum(), (x, delta_of(layer).A, delta_of(layer).B)))
    assert is_fused(outputs[0])
    assert not is_fused(outputs[1])
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_recomputing_in_backward_drops_the_same_entries(use_reentrant: bool) -> None:
    layer, x = adapted(dropout=0.4), rows()

    def run(**how: bool) -> list[Tensor]:
        torch.manual_seed(5)
        layer.zero_grad()
        y = checkpoint(layer, x, use_reentrant=use_reentrant, **how) if how else layer(x)
        x.grad = None
        y.sin().sum().backward()
        return [x.grad.clone(), delta_of(layer).A.grad.clone(), delta_of(layer).B.grad.clone()]

    expected = run()
    assert all(map(torch.equal, run(preserve_rng_state=True), expected))
    # The control: where the generator's state is not restored, other entries are dropped.
    assert not all(map(torch.equal, run(preserve_rng_state=False), expected))


def test_a_deep_copy_trains_alone() -> None:
    layer, x = adapted(), rows()
    layer(x).sum().backward()
    twin = copy.deepcopy(layer)
    before = delta_of(layer).B.grad.clone()
    twin(x).sum().backward()
    assert torch.equal(delta_of(layer).B.grad, before)
    torch.testing.assert_close(delta_of(twin).B.grad, before)


def test_factors_rounded_at_use_are_those_of_an_adapter_in_bf16() -> None:
    """Output and the gradient of x are bit-equal; the factors' gradients are rounded once, to bf16."""
    layer = adapted(base_type=torch.bfloat16)
    delta_of(layer).rounds_factors = True
    twin = copy.deepcopy(layer)
    delta_of(twin).to(torch.bfloat16)
    x = torch.randn(40, WIDTH).bfloat16().requires_grad_()
    y = layer(x)
    assert is_fused(y)
    assert torch.equal(y, twin(x))
    for found, expected in zip(gradients(layer, x), gradients(twin, x), strict=True):
        assert torch.equal(found.bfloat16(), expected)
    delta_of(layer).rounds_factors = False
    assert not torch.equal(layer(x), y)


def test_a_layer_used_twice_in_one_forward_by_hand() -> None:
    """Of one feature with W = 0, y = (B A)² x; the same gradients where they are to be differentiated themselves."""
    x, A, B = (torch.tensor([[value]], dtype=torch.float64, requires_grad=True) for value in (2.0, 3.0, 5.0))
    zero = torch.zeros(1, 1, dtype=torch.float64)
    y = adapted_linear(adapted_linear(x, zero, None, A, B, 1.0), zero, None, A, B, 1.0)
    for create_graph in (False, True):
        found = torch.autograd.grad(y, (x, A, B), retain_graph=True, create_graph=create_graph)
        assert [gradient.item() for gradient in found] == [225, 300, 180], "(B A)², 2 B² A x and 2 B A² x"
    (second,) = torch.autograd.grad(found[1], A)
    assert second.item() == 100, "2 B² x"
