"""An adapted linear layer as one step of autograd: its values and gradients are the formula's, and it keeps little."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fwAD
import torch.nn.functional as F
from cases import CASES, OUT, Case
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from lightning_lora.lora import LoRALayer, LoRALinear, LoraSpec, LowRankDelta, OutputLayout, Routing
from lightning_lora.lora.adapted_linear import adapted_linear
from lightning_lora.lora.dropout import draw_seed, dropout_factors

LINEAR_CASES = [case for case in CASES if not isinstance(case.build(), nn.Embedding)]
over_linear_cases = pytest.mark.parametrize("case", LINEAR_CASES, ids=lambda case: case.name)
DROPOUTS = pytest.mark.parametrize("dropout", [0.0, 0.4])

# Of values and gradients of size 1 to 50, which sum up to 24 products: a few units in the last place of each type.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}

ROWS, WIDTH, RANK = 40, 32, 2
BYTES = 8


class Composed(LoRALinear):
    """The same layer as a composition of operations: it never says that its base is a linear layer."""

    linear_forward = None


def adapted(
    lora_class: type[LoRALayer] = LoRALinear, dropout: float = 0.0, base_type: torch.dtype = torch.float64
) -> LoRALayer:
    """A layer (WIDTH, WIDTH) in training whose values are those of seed 3; its factors are at least fp32."""
    torch.manual_seed(3)
    base = nn.Linear(WIDTH, WIDTH).to(base_type).requires_grad_(False)
    layer = lora_class.adopt(base, Routing("default"))
    spec = LoraSpec(RANK, dropout=dropout, dtype=torch.promote_types(base_type, torch.float32))
    nn.init.normal_(layer.add_adapter("default", spec).B)
    return layer.train()


def rows() -> Tensor:
    return torch.randn(ROWS, WIDTH, dtype=torch.float64, requires_grad=True)


def delta_of(layer: LoRALayer) -> LowRankDelta:
    delta = layer.adapters["default"]
    assert isinstance(delta, LowRankDelta)
    return delta


def is_fused(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "_AdaptedLinearBackward"


def gradients(layer: LoRALayer, x: Tensor, seed: int = 5) -> tuple[Tensor, ...]:
    """Of the sum of sines of the output, with respect to x, A and B."""
    torch.manual_seed(seed)
    return torch.autograd.grad(layer(x).sin().sum(), (x, delta_of(layer).A, delta_of(layer).B))


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
        m = dropout_factors(x.shape, dropout, draw_seed(), dtype=x.dtype, device=x.device)
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


def test_a_dropped_entry_has_no_part_in_either_direction() -> None:
    """With a base of zeros, dx is zero exactly where the mask is; and the mask is another one in the next pass."""
    layer, x = adapted(dropout=0.5), rows()
    layer.weight.zero_()
    layer.bias.zero_()
    masks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        m = dropout_factors(x.shape, 0.5, draw_seed(), dtype=x.dtype, device=x.device)
        torch.manual_seed(seed)
        y = layer(x)
        torch.testing.assert_close(y, delta_of(layer).scale * (m * x) @ delta_of(layer).A.T @ delta_of(layer).B.T)
        # Other draws in between do not matter.
        torch.rand(100)
        (dx,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(dx == 0, m == 0)
        masks.append(m)
    assert not torch.equal(*masks)


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


def test_autocast_is_left_to_the_composition_and_does_not_reach_into_backward() -> None:
    single = torch.float32
    fused, composed, x = adapted(base_type=single), adapted(Composed, base_type=single), rows().detach().float()
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = fused(x)
        assert y.dtype == torch.bfloat16
        assert not is_fused(y)
        assert torch.equal(y, composed(x))
    expected = gradients(fused, x)
    y = fused(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = y.sin().sum()
        found = torch.autograd.grad(loss, (x, delta_of(fused).A, delta_of(fused).B))
    assert all(map(torch.equal, found, expected))


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


def test_function_transforms_see_the_composition() -> None:
    layer, x = adapted(), rows()
    factors = {f"adapters.default.{name}": p.detach() for name, p in delta_of(layer).named_parameters()}
    found = torch.func.grad(lambda f: torch.func.functional_call(layer, f, (x,)).sin().sum())(factors)
    _, grad_A, grad_B = gradients(layer, x)
    torch.testing.assert_close(found["adapters.default.A"], grad_A)
    torch.testing.assert_close(found["adapters.default.B"], grad_B)


@pytest.mark.usefixtures("_plain_functions")
def test_a_compiled_layer_is_one_graph_of_torchs_operations() -> None:
    layer, x = adapted(), rows()
    graphs: list[torch.fx.GraphModule] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(layer, backend=counting, fullgraph=True)
    torch.testing.assert_close(gradients(compiled, x), gradients(layer, x))
    (graph,) = graphs
    assert [node.target for node in graph.graph.nodes].count(F.linear) == 3


@pytest.mark.usefixtures("_plain_functions")
def test_dropout_in_the_composition_can_be_compiled_and_transformed() -> None:
    layer, x = adapted(dropout=0.4), rows()
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.manual_seed(5)
    once = compiled(x)
    assert not torch.equal(compiled(x), once)
    torch.manual_seed(5)
    assert torch.equal(compiled(x), once)
    direction = torch.func.grad(lambda rows: layer(rows).sum())(x)
    assert direction.shape == x.shape


@pytest.mark.usefixtures("_plain_functions")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_traced_layer_is_a_graph_of_torchs_operations() -> None:
    layer, x = adapted(), rows()
    traced = torch.jit.trace(layer, (x,), check_trace=False)
    assert "PythonOp" not in str(traced.graph)
    torch.testing.assert_close(traced(2 * x), layer(2 * x))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own use of it
def test_forward_mode_differentiation_sees_the_composition() -> None:
    layer, x = adapted(), rows()
    direction = torch.randn_like(x)
    with fwAD.dual_level():
        tangent = fwAD.unpack_dual(layer(fwAD.make_dual(x, direction))).tangent
    torch.testing.assert_close(tangent, layer(direction) - layer(torch.zeros_like(x)))


def test_hooks_and_another_dropout_on_the_term_are_not_passed_by() -> None:
    layer, x = adapted(), rows()
    calls: list[nn.Module] = []
    handle = delta_of(layer).register_forward_hook(lambda module, args, output: calls.append(module))
    assert not is_fused(layer(x))
    assert calls == [delta_of(layer)]
    handle.remove()
    assert is_fused(layer(x))
    delta_of(layer).dropout = nn.Threshold(0.0, 0.0)
    torch.testing.assert_close(
        layer(x), F.linear(x, layer.weight, layer.bias) + 2 * x.relu() @ delta_of(layer).A.T @ delta_of(layer).B.T
    )


def test_hooks_on_the_layer_itself_see_input_and_output() -> None:
    layer, x = adapted(), rows()
    layer.register_forward_hook(lambda module, args, output: output + args[0])
    torch.testing.assert_close(layer(x), adapted()(x) + x)


def test_every_kind_of_linear_layer_is_fused_and_only_those() -> None:
    fused = {case.name: is_fused(case.adapted(case.base())(case.inputs())) for case in CASES}
    expected = {case.name: "embedding" not in case.name and "interleaved" not in case.name for case in CASES}
    assert fused == expected


def test_tensors_of_other_classes_see_the_composition() -> None:
    class Quantised(Tensor):
        pass

    layer, x = adapted(), rows()
    assert is_fused(layer(x))
    assert not is_fused(layer(x.as_subclass(Quantised)))
