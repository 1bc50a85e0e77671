"""Where an adapted linear layer is left to a composition of operations, and that nothing is passed by otherwise."""

from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fwAD
import torch.nn.functional as F
from cases import CASES
from lone_layer import Composed, adapted, delta_of, gradients, is_fused, rows
from torch import Tensor, nn


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
    for hooked in (delta_of(layer), delta_of(layer).dropout):
        calls: list[nn.Module] = []
        handle = hooked.register_forward_hook(lambda module, args, output, calls=calls: calls.append(module))
        assert not is_fused(layer(x))
        assert calls == [hooked]
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
