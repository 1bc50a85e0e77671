"""Attention on a CPU against the plain formula in fp64, with the same dropout."""

import math
from collections.abc import Iterable, Sequence

import pytest
import torch
from torch import Tensor, nn

from lightning_lora.lora import draw_seed, kept_elements, kept_factor
from lightning_lora.ragged.attention import ragged_attention
from lightning_lora.ragged.layout import Layout

LENGTHS = [6, 6, 5]  # one padded view
HEADS, WIDTH = 3, 4


def tokens(lengths: Sequence[int] = LENGTHS) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, HEADS, sum(lengths), WIDTH, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def plain(parts: list[Tensor], factors: Iterable[Tensor], causal: bool, lengths: Sequence[int] = LENGTHS) -> Tensor:
    """Text by text, by the formula of Vaswani et al. 2017, arXiv 1706.03762, equation 1."""
    outputs, start = [], 0
    for length, of_text in zip(lengths, factors, strict=True):
        query, key, value = (part[0, :, start : start + length] for part in parts)
        scores = query @ key.mT / math.sqrt(WIDTH)
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores[0]).triu(1).bool(), -math.inf)
        weights = scores.softmax(-1) * of_text[:, :length, :length]
        outputs.append((weights @ value).transpose(0, 1))
        start += length
    return torch.cat(outputs)[None]


@pytest.mark.parametrize("narrow", [1, 16], ids=["torch's softmax", "our softmax"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_it_is_the_plain_formula_with_the_same_dropout(
    p: float, causal: bool, narrow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_lora.ragged.cpu_attention.NARROW", narrow)
    ours, theirs = tokens(), tokens()
    torch.manual_seed(9)
    found, _ = ragged_attention(
        nn.Module(), *ours, None, ragged=Layout(torch.tensor(LENGTHS)), dropout=p, is_causal=causal
    )
    torch.manual_seed(9)
    shape = (len(LENGTHS), HEADS, max(LENGTHS), max(LENGTHS))
    factors = kept_elements(shape, p, draw_seed()).double() * kept_factor(p) if p else torch.ones(shape)
    expected = plain(theirs, factors, causal)
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=1e-12)
    direction = torch.randn_like(found)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=1e-14, rtol=1e-11)


@pytest.mark.parametrize("causal", [False, True])
def test_each_group_of_texts_has_its_own_part_of_one_mask(causal: bool) -> None:
    lengths, views = [2, 3, 3, 9, 8], [(3, 3), (2, 9)]
    layout = Layout(torch.tensor(lengths))
    assert [(len(texts.lengths), texts.longest) for texts in layout.groups] == views
    ours, theirs = tokens(lengths), tokens(lengths)
    torch.manual_seed(9)
    found, _ = ragged_attention(nn.Module(), *ours, None, ragged=layout, dropout=0.4, is_causal=causal)
    torch.manual_seed(9)
    sizes = [texts * HEADS * longest**2 for texts, longest in views]
    parts = (kept_elements((sum(sizes),), 0.4, draw_seed()).double() * kept_factor(0.4)).split(sizes)
    shapes = [(texts, HEADS, longest, longest) for texts, longest in views]
    factors = [text for part, shape in zip(parts, shapes, strict=True) for text in part.view(shape)]
    expected = plain(theirs, factors, causal, lengths)
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=1e-12)
    for output in (found, expected):
        output.square().sum().backward()
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=1e-14, rtol=1e-11)


def test_of_the_tokens_that_are_not_wanted_nothing_is_computed() -> None:
    layout = Layout(torch.tensor(LENGTHS))
    whole, _ = ragged_attention(nn.Module(), *tokens(), None, ragged=layout, is_causal=False)
    wanted = layout.starts + torch.tensor([2, 0, 4])
    found, _ = ragged_attention(nn.Module(), *tokens(), None, ragged=layout.only(wanted), is_causal=False)
    torch.testing.assert_close(found[0, wanted], whole[0, wanted], atol=1e-14, rtol=1e-12)
    others = torch.ones(sum(LENGTHS), dtype=torch.bool).index_fill(0, wanted, False)
    assert int(found[0, others].count_nonzero()) == 0
    assert int(whole[0, others].count_nonzero()) > 0


def test_a_second_derivative_is_refused() -> None:
    parts = tokens()
    found, _ = ragged_attention(nn.Module(), *parts, None, ragged=Layout(torch.tensor(LENGTHS)), is_causal=False)
    (first,) = torch.autograd.grad(found.square().sum(), parts[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_filler_is_seen_by_nobody_and_gives_nothing(softcap: float | None) -> None:
    """`softcap` takes the other path, of torch's operations."""
    parts = tokens()
    longer = [nn.functional.pad(part.detach(), (0, 0, 0, 3), value=7.0).requires_grad_() for part in parts]
    exact, filled = Layout(torch.tensor(LENGTHS)), Layout(torch.tensor(LENGTHS), multiple=10)
    assert (filled.filler, filled.positions[-4:].tolist()) == (3, [4, 0, 0, 0])
    options = {"is_causal": False, "softcap": softcap}
    expected, _ = ragged_attention(nn.Module(), *parts, None, ragged=exact, **options)
    found, _ = ragged_attention(nn.Module(), *longer, None, ragged=filled, **options)
    assert torch.equal(found[:, :-3], expected)
    assert int(found[:, -3:].count_nonzero()) == 0
    direction = torch.randn_like(found)  # also of the filler's outputs
    (found * direction).sum().backward()
    (expected * direction[:, :-3]).sum().backward()
    for one, two in zip(longer, parts, strict=True):
        assert one.grad is not None
        assert two.grad is not None
        torch.testing.assert_close(one.grad[:, :, :-3], two.grad, atol=1e-15, rtol=1e-12)
        assert int(one.grad[:, :, -3:].count_nonzero()) == 0


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_in_bf16_it_is_computed_in_fp32_and_rounded_once(p: float) -> None:
    narrow = [part.detach().bfloat16().requires_grad_() for part in tokens()]
    wide = [part.detach().float().requires_grad_() for part in narrow]
    outputs = []
    for parts in (narrow, wide):
        torch.manual_seed(9)
        output, _ = ragged_attention(
            nn.Module(), *parts, None, ragged=Layout(torch.tensor(LENGTHS)), dropout=p, is_causal=False
        )
        output.float().sum().backward()
        outputs.append(output)
    assert torch.equal(outputs[0], outputs[1].bfloat16())
    for one, two in zip(narrow, wide, strict=True):
        assert two.grad is not None
        assert torch.equal(one.grad, two.grad.bfloat16())


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("around_backward", [False, True])
def test_autocast_changes_nothing_in_it(dtype: torch.dtype, p: float, around_backward: bool) -> None:
    found = []
    for enabled in (False, True):
        parts = [part.detach().to(dtype).requires_grad_() for part in tokens()]
        torch.manual_seed(9)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert ((torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16) is enabled
            output, _ = ragged_attention(
                nn.Module(), *parts, None, ragged=Layout(torch.tensor(LENGTHS)), dropout=p, is_causal=False
            )
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled and around_backward):
            output.float().square().sum().backward()
        found.append([output, *(part.grad for part in parts)])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
