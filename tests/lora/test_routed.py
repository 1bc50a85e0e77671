"""What every routed module is: of its module's class, fit for pickle, and with the very hooks of its module."""

import copy
import pickle

import pytest
import torch
from cases import CASES, Case
from torch import Tensor, nn

from lightning_lora.lora import LoRALinear, LoraSpec, RoutedHead, Routing, lora_class_for

over_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@over_cases
@pytest.mark.parametrize("merged", [False, True])
def test_a_layer_comes_back_from_pickle_and_gives_back_its_module(case: Case, merged: bool) -> None:
    base = case.base()
    layer, x = case.adapted(base), case.inputs()
    if merged:
        layer.merge("default")
    back = pickle.loads(pickle.dumps(layer))
    assert type(back) is type(layer)
    assert torch.equal(back(x), layer(x))
    if merged:
        back.unmerge()
    released = back.release()
    assert type(released) is type(base)
    assert released is not base
    assert torch.equal(released(x), base(x))


class Named(nn.Linear):
    """A linear layer with something of its own."""

    def name(self) -> str:
        return f"{self.out_features} outputs"


def test_a_layer_of_a_subclass_stays_one() -> None:
    base = Named(4, 6)
    lora_class = lora_class_for(base)
    assert lora_class is LoRALinear
    layer = lora_class.adopt(base, Routing("default"))
    assert isinstance(layer, Named)
    assert layer.name() == "6 outputs"
    delta = layer.add_adapter("default", LoraSpec(rank=2))
    nn.init.normal_(delta.B)
    x = torch.randn(3, 4)
    torch.testing.assert_close(layer(x), base(x) + delta(x))


@pytest.mark.parametrize("kind", ["layer", "head"])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_hooks_handle_removes_it_whichever_module_it_was_registered_on(kind: str, register: str) -> None:
    base = nn.Linear(4, 4)
    calls: list[str] = []
    before = getattr(base, register)(lambda *_: calls.append("before"))
    routed = (LoRALinear if kind == "layer" else RoutedHead).adopt(base, Routing())
    after = getattr(routed, register)(lambda *_: calls.append("after"))
    x = torch.randn(2, 4)
    routed(x)
    assert calls == ["before", "after"]
    before.remove()
    routed(x)
    assert calls == ["before", "after", "after"]
    released = routed.release()
    assert released is base
    released(x)
    assert calls == ["before", "after", "after", "after"]
    after.remove()
    released(x)
    assert len(calls) == 4


def test_what_compiled_the_base_does_not_run_in_place_of_the_adapted_layer() -> None:
    base, x = nn.Linear(4, 4), torch.randn(2, 4)
    torch._dynamo.reset()
    base.compile(backend="eager")
    expected = base(x)
    layer = LoRALinear.adopt(base, Routing("default"))
    delta = layer.add_adapter("default", LoraSpec(rank=2))
    nn.init.normal_(delta.B)
    torch.testing.assert_close(layer(x), expected + delta(x))
    layer.compile(backend="eager")  # nor the other way round
    compiled = base._compiled_call_impl
    assert layer.release() is base
    assert base._compiled_call_impl is compiled
    assert torch.equal(base(x), expected)


def test_the_hooks_of_a_copy_are_its_own() -> None:
    head = RoutedHead.adopt(nn.Linear(4, 4), Routing())
    calls: list[Tensor] = []
    handle = head.register_forward_hook(lambda module, args, output: calls.append(output))
    other = copy.deepcopy(head)
    handle.remove()
    x = torch.randn(2, 4)
    assert torch.equal(head(x), other(x))
    assert len(calls) == 1
