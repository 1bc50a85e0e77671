"""A ragged batch gives the logits and gradients of the padded model, on every architecture that runs ragged."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from ragged_texts import LENGTHS, PADDING_TOKENS, adapted, takes_types, texts
from tiny_models import TINY
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lightning_lora.lengths import PaddingCost
from lightning_lora.lora import adapter_parameters
from lightning_lora.ragged import Layout, attention, layout, ragged_logits, runs_ragged
from lightning_lora.ragged.execution import FIRST_TOKEN, LAST_TOKEN, filled_to

RAGGED = sorted(FIRST_TOKEN | LAST_TOKEN)
EXACT = {"atol": 1e-12, "rtol": 1e-9}
"""Of float64 throughout."""
SOFTMAX_IN_FP32 = {"atol": 1e-6, "rtol": 1e-5}
"""Of the plain formula, whose softmax is in fp32 whatever the type of the model: it sums the padded row in another
order than the shorter one, by a few times 2**-24 of each weight. On a CPU with AVX-512 the orders may be the same."""


def tolerance(architecture: str) -> dict[str, float]:
    return SOFTMAX_IN_FP32 if architecture == "gemma2" else EXACT  # whose scores are capped, by the plain formula


def both(
    model: Any, lengths: list[int], pairs: bool = False, padding_tokens: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    padded, ragged = texts(lengths, pairs, padding_tokens)
    if not takes_types(model):
        del padded["token_type_ids"], ragged["token_type_ids"]
    return model(**padded).logits, ragged_logits(model, ragged)


def gradients(model: Any, logits: Tensor) -> dict[str, Tensor]:
    """Of the adapters, where every text and every output counts differently."""
    weights = torch.linspace(-1, 2, logits.numel(), dtype=logits.dtype).view(logits.shape)
    names, factors = zip(*adapter_parameters(model), strict=True)
    return dict(zip(names, torch.autograd.grad((logits * weights).sum(), factors), strict=True))


CASES = [
    pytest.param(architecture, lengths, (), id=f"{architecture}-{name}")
    for architecture in RAGGED
    for name, lengths in LENGTHS.items()
]
CASES += [
    pytest.param(decoder, LENGTHS["mixed"], PADDING_TOKENS, id=f"{decoder}-ending in padding")
    for decoder in sorted(LAST_TOKEN)
]


@pytest.mark.parametrize(("architecture", "lengths", "padding_tokens"), CASES)
def test_logits_and_gradients_are_those_of_the_padded_model(
    architecture: str, lengths: list[int], padding_tokens: Sequence[int]
) -> None:
    model = adapted(architecture)
    assert runs_ragged(model)
    before = model.config._attn_implementation
    expected, found = both(model, lengths, takes_types(model), padding_tokens)
    assert model.config._attn_implementation == before
    torch.testing.assert_close(found, expected, **tolerance(architecture))
    assert len(lengths) == 1 or expected.std(0).min() > 1e-4, "the texts give different logits, or nothing is tested"
    of_padded = gradients(model, expected)
    torch.testing.assert_close(gradients(model, found), of_padded, **tolerance(architecture))
    # Over one key the softmax is constant, so queries and keys have no gradient.
    assert max(lengths) == 1 or all(gradient.abs().max() > 0 for gradient in of_padded.values())


WINDOWED = {
    "gemma2": {"sliding_window": 4},
    "mistral": {"sliding_window": 4},
    "qwen2": {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 1},
}


@pytest.mark.parametrize("architecture", sorted(WINDOWED))
def test_a_sliding_window_is_that_of_the_model_on_each_text_alone(architecture: str) -> None:
    """Not on padded rows, where Gemma 2 gives NaN: within the window some padding sees no key."""
    torch.manual_seed(0)
    model = adapted(architecture, **WINDOWED[architecture])
    torch.manual_seed(0)
    without = adapted(architecture, sliding_window=24)
    _, ragged = texts(LENGTHS["mixed"], pairs=False)
    del ragged["token_type_ids"]
    rows = ragged["input_ids"].split(LENGTHS["mixed"], dim=1)
    expected, found = torch.cat([model(input_ids=row).logits for row in rows]), ragged_logits(model, ragged)
    torch.testing.assert_close(found, expected, **tolerance(architecture))
    torch.testing.assert_close(gradients(model, found), gradients(model, expected), **tolerance(architecture))
    change = (ragged_logits(without, ragged) - found).abs().amax(1)
    assert (change > 1e-4).tolist() == [length > 4 for length in LENGTHS["mixed"]], "the control"


@pytest.mark.parametrize("groups", [[4], [1, 1, 1, 1]], ids=["together", "apart"])
@pytest.mark.parametrize("architecture", RAGGED)
def test_as_on_a_gpu_too(architecture: str, groups: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch's attention is called on each group of padded texts; here on the CPU."""
    calls: list[int] = []

    def counted(module: Any, query: Tensor, *rest: Any, **named: Any) -> Any:
        calls.append(len(query))
        return sdpa_attention_forward(module, query, *rest, **named)

    monkeypatch.setattr(attention, "may_have_own_backward", lambda _: False)
    monkeypatch.setattr(attention, "sdpa_attention_forward", counted)
    monkeypatch.setattr(layout, "ATTENTION", PaddingCost(group=1000.0 if groups == [4] else 1.0, token=0.0))
    model = adapted(architecture)
    expected, found = both(model, LENGTHS["mixed"], pairs=False)
    torch.testing.assert_close(found, expected, **tolerance(architecture))
    capped = getattr(model.config, "attn_logit_softcapping", None) is not None
    assert calls == ([] if capped else groups * (len(calls) // len(groups)))
    assert bool(calls) is not capped
    factors = [parameter for _, parameter in adapter_parameters(model)]
    for one, two in zip(
        torch.autograd.grad(found.square().sum(), factors),
        torch.autograd.grad(expected.square().sum(), factors),
        strict=True,
    ):
        torch.testing.assert_close(one, two, **tolerance(architecture))


# GPT-2's own forward looks for padding among its tokens.
@pytest.mark.parametrize("architecture", sorted(set(RAGGED) - {"gpt2"}))
def test_no_device_is_waited_for(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's "meta" device, of whose tensors no value can be read."""
    monkeypatch.setattr(layout, "ATTENTION_ON_GPU", PaddingCost(group=1.0, token=0.0))
    model = TINY[architecture]().train().to("meta")
    _, ragged = texts(LENGTHS["mixed"], pairs=False)
    inputs = {name: values.to("meta") for name, values in ragged.items() if name != "token_type_ids"}
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        ragged_logits(model, inputs)
    logits = ragged_logits(model, {**inputs, "lengths": ragged["lengths"]})
    logits.sum().backward()
    assert logits.shape == (4, model.config.num_labels)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "modernbert"])
def test_also_where_the_padded_model_computes_attention_by_the_plain_formula(architecture: str) -> None:
    with torch.no_grad():
        expected, found = both(adapted(architecture, "eager"), LENGTHS["mixed"], pairs=False)
    torch.testing.assert_close(found, expected, **SOFTMAX_IN_FP32)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_texts_do_not_see_each_other(architecture: str) -> None:
    model = adapted(architecture)
    _, ragged = texts(LENGTHS["mixed"], pairs=False)
    del ragged["token_type_ids"]
    other = {**ragged, "input_ids": ragged["input_ids"].clone()}
    other["input_ids"][0, 8:] = other["input_ids"][0, 8:].roll(1)  # the two texts behind the first two
    with torch.no_grad():
        one, two = ragged_logits(model, ragged), ragged_logits(model, other)
    assert torch.equal(one[:2], two[:2])
    assert not torch.allclose(one[2:], two[2:])


@pytest.mark.parametrize("architecture", sorted(LAST_TOKEN - {"gemma2", "gpt2", "opt"}))
def test_padding_on_the_left_makes_no_difference_where_positions_are_relative(architecture: str) -> None:
    """Up to the rounding of the rotations, whose angles are in fp32; Gemma 2 so padded gives NaN."""
    model = adapted(architecture)
    padded, ragged = texts(LENGTHS["mixed"], pairs=False)
    for name in ("input_ids", "attention_mask"):
        rows = zip(padded[name], LENGTHS["mixed"], strict=True)
        padded[name] = torch.stack([row.roll(len(row) - length) for row, length in rows])
    assert padded["attention_mask"][1].tolist() == [0] * 11 + [1]
    expected = model(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).logits
    found = ragged_logits(model, {name: ragged[name] for name in ("input_ids", "lengths")})
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradients(model, found), gradients(model, expected), atol=1e-5, rtol=1e-4)


def test_dropout_is_on_in_training_and_gradients_are_finite() -> None:
    model = adapted("bert").train()
    _, ragged = texts(LENGTHS["mixed"], pairs=False)
    one, two = ragged_logits(model, ragged), ragged_logits(model, ragged)
    assert not torch.allclose(one, two)
    one.sum().backward()
    assert all(parameter.grad.isfinite().all() for _, parameter in adapter_parameters(model))


@pytest.mark.parametrize("architecture", sorted(set(TINY) - set(RAGGED)))
def test_the_others_do_not_run_ragged(architecture: str) -> None:
    assert not runs_ragged(TINY[architecture]())


def test_a_head_that_reads_the_mean_does_not_run_ragged() -> None:
    model: Any = TINY["modernbert"]()
    model.config.classifier_pooling = "mean"
    assert not runs_ragged(model)


@pytest.mark.parametrize("architecture", sorted(set(RAGGED) - {"albert"}))  # which has no gradient checkpointing
def test_layers_that_run_again_do_not_run_ragged(architecture: str) -> None:
    model = TINY[architecture]()
    model.activation_checkpointing_enable()
    assert not runs_ragged(model)
    model.activation_checkpointing_disable()
    assert runs_ragged(model)


def test_attention_to_both_sides_does_not_run_ragged() -> None:
    assert not runs_ragged(adapted("gemma2", use_bidirectional_attention=True))


@pytest.mark.parametrize(
    ("lengths", "said"),
    [([], "at least one text"), ([2, 0], "every text at least one token"), ([2], "lengths sum to 2")],
)
def test_lengths_that_cannot_be_are_refused(lengths: list[int], said: str) -> None:
    inputs = {"input_ids": torch.ones(1, 3, dtype=torch.int64), "lengths": torch.tensor(lengths, dtype=torch.int64)}
    with pytest.raises(ValueError, match=said):
        ragged_logits(TINY["bert"](), inputs)


def test_the_padded_views_and_back() -> None:
    layout = Layout(torch.tensor([5, 5, 1, 6, 6]))
    values = torch.arange(23.0)[:, None]
    views = [texts.padded(values)[..., 0].tolist() for texts in layout.groups]
    five, six = list(range(5)), list(range(6))
    expected = [[five, [5 + place for place in five]], [[10]], [[11 + place for place in six], list(range(17, 23))]]
    assert views == expected, "neighbours of like length share a view"
    back = torch.cat([texts.unpadded(texts.padded(values)) for texts in layout.groups])
    assert torch.equal(back, values)
    (together,) = Layout(torch.tensor([4, 3])).groups
    assert together.padded(values)[..., 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 0]]
    assert layout.positions.tolist() == [*five, *five, 0, *six, *six]
    assert (layout.starts.tolist(), layout.ends.tolist()) == ([0, 5, 10, 11, 17], [4, 9, 10, 16, 22])


def test_little_is_filler_and_lengths_are_few() -> None:
    def filled(tokens: int) -> int:
        multiple = filled_to(tokens, torch.bfloat16)
        return -(-tokens // multiple) * multiple

    rows = range(512, 4096)
    assert all(filled(tokens) - tokens <= tokens / 16 for tokens in rows)
    assert list(map(filled, rows)) == sorted(map(filled, rows))
    for fewest in (256, 512, 1024):
        assert len({filled(tokens) for tokens in range(fewest, 2 * fewest)}) <= 17
    assert filled(5) == 32
    assert filled_to(366, torch.float32) == 1
