"""A routed head: adoption, its forward, merging by exchange, mixed rows."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lightning_lora.lora import RoutedHead, Routing, Span, lora_class_for


class Head(nn.Module):
    """Two layers, as of RoBERTa; ``labels`` outputs."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.dense, self.out = nn.Linear(6, 6), nn.Linear(6, labels)
        self.register_buffer("temperature", torch.rand(1) + 1)

    def forward(self, x: Tensor, *, double: bool = False) -> Tensor:
        logits = self.out(self.dense(x).tanh()) / self.temperature
        return 2 * logits if double else logits


def routed(adapter: str | None = None) -> tuple[RoutedHead, Head, Head]:
    """A head in place with two labels and one of adapter "b" with three."""
    base, own = Head(2), Head(3)
    head = RoutedHead.adopt(base, Routing(adapter))
    head.adapters["b"] = own
    return head, base, own


def test_it_is_its_head_and_gives_it_back() -> None:
    head, base, _ = routed()
    keys = list(base.state_dict())
    assert isinstance(head, Head)
    assert [key for key in head.state_dict() if not key.startswith("adapters.")] == keys
    assert head.dense.weight is base.dense.weight
    assert head.release() is base
    assert list(base.state_dict()) == keys
    assert lora_class_for(RoutedHead.adopt(nn.Linear(2, 2), Routing())) is None


@pytest.mark.parametrize(("adapter", "labels"), [(None, 2), ("a", 2), ("b", 3)])
def test_the_adapter_in_force_says_which_head(adapter: str | None, labels: int) -> None:
    head, base, own = routed(adapter)
    x = torch.randn(4, 6)
    expected = own(x, double=True) if adapter == "b" else base(x, double=True)
    assert expected.shape == (4, labels)
    assert torch.equal(head(x, double=True), expected)


def test_rows_go_through_their_own_heads_and_keep_their_gradients() -> None:
    head, base, own = routed()
    head.routing.spans = (Span("b", 0, 1), Span("a", 1, 3), Span("b", 3, 4))
    x = torch.randn(4, 6)
    found = head(x, double=True)
    assert torch.equal(found[[0, 3]], torch.cat([own(x[:1], double=True), own(x[3:], double=True)]))
    assert torch.equal(found[1:3, :2], base(x[1:3], double=True))
    assert torch.equal(found[1:3, 2], torch.full((2,), -torch.inf))
    labels = torch.tensor([2, 0, 1, 1])
    found.log_softmax(1).gather(1, labels[:, None]).sum().backward()
    together = own.out.weight.grad.clone(), base.out.weight.grad.clone()
    assert all(bool(gradient.isfinite().all()) for gradient in together)
    head.zero_grad()
    for module, rows in ((own, [0, 3]), (base, [1, 2])):
        module(x[rows], double=True).log_softmax(1).gather(1, labels[rows, None]).sum().backward()
    torch.testing.assert_close(together, (own.out.weight.grad, base.out.weight.grad))


def test_a_mixed_batch_of_other_length_is_refused() -> None:
    head, _, _ = routed()
    head.routing.spans = (Span("b", 0, 1), Span("a", 1, 3))
    with pytest.raises(ValueError, match=r"has 3 rows, but a RoutedHead is given a tensor of shape \(4, 6\)"):
        head(torch.randn(4, 6))


def test_merging_puts_the_head_in_place_and_unmerging_puts_it_back() -> None:
    head, base, own = routed("b")
    x = torch.randn(4, 6)
    before, of_base, expected = dict(head.named_parameters()), base(x), own(x)
    state = copy.deepcopy(own.state_dict())
    calls: list[nn.Module] = []
    head.register_forward_hook(lambda module, args, output: calls.append(module))
    head.merge("b")
    assert torch.equal(head(x), expected)
    assert head.labels == 3
    in_place = {key: value for key, value in head.state_dict().items() if not key.startswith("adapters.")}
    assert list(in_place) == list(state)
    assert all(torch.equal(in_place[key], value) for key, value in state.items())
    with pytest.raises(RuntimeError, match="adapter 'b' is already merged"):
        head.merge("b")
    head.routing.adapter = "a"
    with pytest.raises(RuntimeError, match="'b' is merged into the weights, but 'a' is asked for"):
        head(x)
    head.unmerge()
    assert torch.equal(head(x), of_base)
    assert calls == [head, head]
    after = dict(head.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is parameter for name, parameter in before.items())
    with pytest.raises(RuntimeError, match="nothing is merged"):
        head.unmerge()
    with pytest.raises(ValueError, match=r"no adapter named 'c', only \['b'\]"):
        head.merge("c")


def test_a_conversion_while_merged_reaches_both_heads() -> None:
    head, _, _ = routed("b")
    head.merge("b")
    head.to(torch.bfloat16).eval()
    head.unmerge()
    assert {value.dtype for value in head.state_dict().values()} == {torch.bfloat16}
    assert not any(module.training for module in head.modules())


def test_a_merged_release_holds_the_merged_head() -> None:
    head, base, own = routed("b")
    x = torch.randn(4, 6)
    expected = own(x)
    head.merge("b")
    assert head.release() is base
    assert torch.equal(base(x), expected)
