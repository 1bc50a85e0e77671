"""The laws of an adapted layer, each over the whole table of cases."""

import copy
import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, OUT, Case
from torch import Tensor, nn

from lightning_lora.lora import LoRALayer, LoRALinear, LoraSpec, LowRankDelta, Routing

over_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# Units: relative error of one rounding of the output in each type, with room for a sum of a few.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def delta_of(layer: LoRALayer) -> LowRankDelta:
    delta = layer.adapters["default"]
    assert isinstance(delta, LowRankDelta)
    return delta


def dense_delta(case: Case, delta: LowRankDelta) -> Tensor:
    """ΔW (out, in) row by row from its definition, in fp64: an independent slow rendering of the layout."""
    layout, rank = case.layout, case.rank
    A, B = delta.A.detach().double(), delta.B.detach().double()
    part_rows = OUT // layout.parts
    width = part_rows // layout.groups
    result = torch.zeros(OUT, A.shape[1], dtype=torch.float64)
    for row in range(OUT):
        group, within = divmod(row, layout.parts * width)
        part, offset = divmod(within, width)
        if part in layout.adapted:
            index = layout.adapted.index(part)
            b = B[index * part_rows + group * width + offset]
            result[row] = delta.scale * b @ A[index * rank : (index + 1) * rank]
    return result


def reference(case: Case, base: nn.Module, delta: LowRankDelta, x: Tensor) -> Tensor:
    """``(W0 + ΔW) x + bias`` in fp64."""
    dense = dense_delta(case, delta)
    weight = base.get_parameter("weight").double()
    if isinstance(base, nn.Embedding):
        return F.embedding(x, weight + dense.T)
    oriented = weight if isinstance(base, nn.Linear) else weight.T
    bias = getattr(base, "bias", None)
    return F.linear(x.double(), oriented + dense, None if bias is None else bias.double())


@over_cases
def test_forward_equals_the_dense_formula_and_differs_from_the_base(case: Case) -> None:
    base = case.base()
    layer = case.adapted(base)
    x = case.inputs()
    torch.testing.assert_close(
        layer(x).double(),
        reference(case, base, delta_of(layer), x),
        atol=TOLERANCE[case.dtype],
        rtol=TOLERANCE[case.dtype],
    )
    assert not torch.allclose(layer(x), base(x), atol=0.05)


@pytest.mark.parametrize("composed", [False, True])
@over_cases
def test_no_rows_in_are_no_rows_out(case: Case, composed: bool) -> None:
    """A hook on the term has the layer composed of torch's operations."""
    base = case.base()
    layer, x = case.adapted(base), case.inputs()[:0]
    if composed:
        delta_of(layer).register_forward_hook(lambda *_: None)
    output = layer(x)
    assert output.shape == base(x).shape
    assert output.dtype is base(x).dtype


@over_cases
def test_an_untrained_adapter_is_the_base(case: Case) -> None:
    base = case.base()
    x = case.inputs()
    assert torch.equal(case.adapted(base, trained=False)(x), base(x))


@over_cases
def test_merged_forward_equals_adapted_forward(case: Case) -> None:
    layer = case.adapted(case.base())
    x = case.inputs()
    adapted = layer(x)
    layer.merge("default")
    torch.testing.assert_close(layer(x), adapted, atol=TOLERANCE[case.dtype], rtol=TOLERANCE[case.dtype])


@over_cases
def test_merged_weight_is_rounded_once(case: Case) -> None:
    base = case.base()
    layer = case.adapted(base)
    dense = dense_delta(case, delta_of(layer))
    exact = base.get_parameter("weight").double() + (dense.T if layer.weight_is_in_by_out else dense)
    of_numpy = torch.from_numpy(exact.numpy().astype(np.float16))
    expected = of_numpy if case.dtype is torch.float16 else exact.to(case.dtype)
    layer.merge("default")
    # The order of the sum over the rank is free, which fp64 alone can see.
    torch.testing.assert_close(layer.weight.data, expected, rtol=0, atol=1e-15 if case.dtype is torch.float64 else 0)


@pytest.mark.parametrize(
    ("dtype", "bits", "upper"),
    [(torch.bfloat16, 8, 1.0078125), (torch.float16, 11, float(np.float16(1 + 2**-11 + 2**-30)))],
)
def test_a_merged_weight_just_above_the_middle_is_the_upper_one(dtype: torch.dtype, bits: int, upper: float) -> None:
    """1 + 2^-bits lies halfway from 1 to the next number; fp32, by way of which torch goes, has no 2^-30 beside 1."""
    base = nn.Linear(1, 1, bias=False, dtype=dtype).requires_grad_(False)
    layer = LoRALinear.adopt(base, Routing("default"))
    delta = layer.add_adapter("default", LoraSpec(rank=1, alpha=1.0))
    with torch.no_grad():
        base.weight.fill_(1.0)
        delta.B.fill_(2.0**-bits)
        delta.A.fill_(1 + 2.0 ** (bits - 30))
    layer.merge("default")
    assert float(layer.weight) == upper
    exact = torch.tensor(1 + 2.0**-bits + 2.0**-30, dtype=torch.float64)
    assert float(exact.to(dtype)) == 1.0, "the control: torch rounds twice"


@over_cases
def test_unmerge_gives_back_the_same_bits_in_the_same_object(case: Case) -> None:
    base = case.base()
    layer = case.adapted(base)
    before_object, before = layer.weight, layer.weight.clone()
    for _ in range(3):
        layer.merge("default")
        assert not torch.equal(layer.weight, before)
        layer.unmerge()
    assert layer.weight is before_object
    assert torch.equal(layer.weight, before)


@over_cases
def test_release_gives_back_the_very_module(case: Case) -> None:
    base = case.base()
    keys = list(base.state_dict())
    weight = base.weight
    x = case.inputs()
    expected = base(x)
    layer = case.adapted(base)
    released = layer.release()
    assert released is base
    assert list(released.state_dict()) == keys
    assert released.weight is weight
    assert torch.equal(released(x), expected)


@over_cases
def test_a_merged_release_holds_the_merged_weight_under_the_base_keys(case: Case) -> None:
    base = case.base()
    keys = list(base.state_dict())
    x = case.inputs()
    layer = case.adapted(base)
    layer.merge("default")
    merged_output = layer(x)
    released = layer.release()
    assert list(released.state_dict()) == keys
    assert torch.equal(released(x), merged_output)


@over_cases
def test_parameters_are_rank_times_in_plus_out(case: Case) -> None:
    layer = case.adapted(case.base())
    in_features, out_features = layer.features
    part = out_features // case.layout.parts
    counted = sum(p.numel() for p in layer.adapters.parameters())
    assert counted == len(case.layout.adapted) * case.spec().rank * (in_features + part)


@over_cases
def test_gradients_reach_the_factors_and_not_the_base(case: Case) -> None:
    layer = case.adapted(case.base())
    layer(case.inputs()).double().square().sum().backward()
    delta = delta_of(layer)
    for factor in (delta.A, delta.B):
        assert factor.grad is not None
        assert factor.grad.abs().sum() > 0
    assert layer.weight.grad is None


@over_cases
def test_gradients_equal_those_of_the_dense_formula(case: Case) -> None:
    layer = case.adapted(case.base().double())
    delta = delta_of(layer.double())
    x = case.inputs() if isinstance(layer, nn.Embedding) else case.inputs().double()
    grad_A, grad_B = torch.autograd.grad(layer(x).sin().sum(), (delta.A, delta.B))
    step = 1e-6
    for factor, gradient in ((delta.A, grad_A), (delta.B, grad_B)):
        row, column = divmod(int(gradient.abs().argmax()), gradient.shape[1])
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                factor[row, column] += sign * step
                values.append(layer(x).sin().sum())
                factor[row, column] -= sign * step
        assert float((values[0] - values[1]) / (2 * step)) == pytest.approx(float(gradient[row, column]), rel=1e-6)


@over_cases
def test_base_keys_and_type_are_kept(case: Case) -> None:
    base = case.base()
    layer = case.adapted(base)
    assert isinstance(layer, type(base))
    assert set(base.state_dict()) <= set(layer.state_dict())
    assert {key for key in layer.state_dict() if not key.startswith("adapters.")} == set(base.state_dict())
    assert layer.weight is base.weight


@over_cases
def test_the_argument_is_called_as_the_base_layer_calls_it(case: Case) -> None:
    base, x = case.base(), case.inputs()
    (name,) = inspect.signature(base.forward).parameters
    layer = case.adapted(base)
    assert torch.equal(layer(**{name: x}), layer(x))


@over_cases
@pytest.mark.parametrize("merged", [False, True])
def test_on_the_meta_device_it_runs_as_the_base_layer_does(case: Case, merged: bool) -> None:
    layer, x = case.adapted(case.base()), case.inputs().to("meta")
    delta_of(layer).dropout.p = 0.1
    if merged:
        layer.merge("default")
    layer.to("meta")
    expected = case.base().to("meta")(x)
    assert (layer(x).shape, layer(x).dtype) == (expected.shape, expected.dtype)
    if merged:
        layer.unmerge()
    assert layer.weight.is_meta
    layer(x).sum().backward()
    assert delta_of(layer).B.grad.is_meta


@over_cases
def test_a_conversion_while_merged_reaches_the_very_weight_that_is_set_aside(case: Case) -> None:
    layer = case.adapted(case.base())
    frozen = layer.weight
    layer.merge("default")
    layer.to(torch.float64)
    layer.unmerge()
    assert layer.weight is frozen
    assert frozen.dtype is torch.float64


@over_cases
def test_a_deep_copy_is_independent_and_equal(case: Case) -> None:
    layer = case.adapted(case.base())
    x = case.inputs()
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))
    with torch.no_grad():
        delta_of(twin).B.zero_()
    twin.routing.adapter = None
    assert layer.routing.adapter == "default"
    assert not torch.equal(twin(x), layer(x))
