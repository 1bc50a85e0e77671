"""A mixed batch equals each row run alone with its adapter enabled; gradients too; PEFT's peer refuses to train."""

import copy

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from tiny_models import TINY
from torch import Tensor, nn
from two_tasks import ROWS, batch, new_names, two_tasks

from lightning_lora.inject import (
    disable,
    enable,
    inject_adapter,
    merge,
    mixed,
    mixed_logits,
    train_adapters,
)
from lightning_lora.lora import LoraSpec, adapter_parameters, lora_layers

NAMES: list[str | None] = ["b", "a", None, "a", "b"]
LABELS = {"a": torch.tensor([1, 0]), "b": torch.tensor([2, 0])}
# Of DeBERTa-v3 and OPT, see below.
EVERYWHERE = pytest.mark.parametrize("architecture", sorted(set(TINY) - {"deberta-v2", "opt"}))


def alone(model: nn.Module, adapter: str | None, inputs: dict[str, Tensor]) -> Tensor:
    """The logits of the whole batch with one adapter in force."""
    if adapter is None:
        disable(model)
    else:
        enable(model, adapter)
    logits: Tensor = model(**inputs).logits
    return logits


def loss_of(adapter: str, rows: Tensor) -> Tensor:
    return F.cross_entropy(rows, LABELS[adapter], reduction="sum")


def rows_of(adapter: str | None) -> list[int]:
    return [row for row, name in enumerate(NAMES) if name == adapter]


def without_dropout(model: nn.Module) -> None:
    """Dropout draws anew in every pass; T5's attention keeps its probability as a number."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@EVERYWHERE
@torch.no_grad()
def test_each_row_is_as_if_run_alone(architecture: str) -> None:
    model, _ = two_tasks(architecture)
    inputs = batch()
    together = mixed_logits(model, NAMES, inputs)
    separate = {adapter: alone(model, adapter, inputs) for adapter in set(NAMES)}
    assert [len(row) for row in together] == [3, 2, 2, 2, 3]
    for row, adapter in enumerate(NAMES):
        torch.testing.assert_close(together[row], separate[adapter][row], rtol=1e-9, atol=1e-11)
    # The control: another row's adapter gives something else, so that the comparison can tell.
    assert (separate["a"] - separate[None]).abs().min() > 1e-6
    assert (separate["a"] - separate["b"][:, :2]).abs().min() > 1e-6


@EVERYWHERE
def test_gradients_of_each_adapter_are_those_of_running_alone(architecture: str) -> None:
    model, new = two_tasks(architecture)
    train_adapters(model, ["a", "b"], new)
    model.train()
    without_dropout(model)
    inputs = batch()
    logits = mixed_logits(model, NAMES, inputs)
    losses = [loss_of(adapter, torch.stack([logits[row] for row in rows_of(adapter)])) for adapter in LABELS]
    torch.stack(losses).sum().backward()
    together = gradients(model)
    separate: dict[str, Tensor] = {}
    for adapter in LABELS:
        loss_of(adapter, alone(model, adapter, inputs)[rows_of(adapter)]).backward()
        separate |= gradients(model)
    assert set(together) == set(separate) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, gradient in separate.items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-8, atol=1e-11)
    assert sum(float(gradient.abs().sum()) > 0 for gradient in together.values()) > len(together) / 2


def test_padded_logits_give_the_loss_of_the_narrow_head() -> None:
    model, _ = two_tasks("bert")
    inputs = batch()
    with torch.no_grad(), mixed(model, NAMES):
        padded = model(**inputs).logits
    assert padded.shape == (ROWS, 3)
    rows = rows_of("a")
    assert torch.equal(padded[rows, 2], torch.full((2,), -torch.inf, dtype=torch.float64))
    with torch.no_grad():
        narrow = alone(model, "a", inputs)[rows]
    torch.testing.assert_close(loss_of("a", padded[rows]), loss_of("a", narrow))
    assert torch.equal(padded[rows].argmax(1), narrow.argmax(1))


def test_peft_mixes_in_evaluation_and_refuses_to_train() -> None:
    """The peer, on adapters of equal values: equal outputs in evaluation; in training it raises where we train."""
    torch.manual_seed(0)
    base = TINY["bert"]()
    names = ["two", "one", "one", "two", "one"]
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["query", "value"])
    peer = get_peft_model(copy.deepcopy(base), config, adapter_name="one")
    peer.add_adapter("two", config)
    for adapter in ("one", "two"):
        inject_adapter(base, LoraSpec(rank=2), adapter=adapter)
    for path, layer in lora_layers(base):
        other = peer.base_model.model.get_submodule(path)
        for adapter, delta in layer.adapters.items():
            nn.init.normal_(delta.B, std=0.3)
            other.lora_A[adapter].weight.data.copy_(delta.A)
            other.lora_B[adapter].weight.data.copy_(delta.B)
    inputs = batch()
    peer.eval()
    with torch.no_grad():
        expected = peer(**inputs, adapter_names=names).logits
        torch.testing.assert_close(torch.stack(mixed_logits(base, names, inputs)), expected, rtol=1e-4, atol=1e-5)
    peer.train()
    with pytest.raises(ValueError, match="adapter_names` when the model is in training mode"):
        peer(**inputs, adapter_names=names)
    base.train()
    assert torch.stack(mixed_logits(base, names, inputs)).requires_grad


def test_what_cannot_be_mixed_is_refused() -> None:
    model, _ = two_tasks("bert")
    inputs = batch()
    with pytest.raises(ValueError, match="no adapter named 'c'; it has \\['a', 'b'\\]"), mixed(model, ["a", "c"]):
        pass
    with pytest.raises(ValueError, match="rows is empty"), mixed(model, []):
        pass
    with pytest.raises(ValueError, match="labels cannot be given"):
        mixed_logits(model, NAMES, {**inputs, "labels": torch.zeros(ROWS)})
    with pytest.raises(ValueError, match=r"input_ids is of shape \(5, 7\), but rows names 2 rows"):
        mixed_logits(model, ["a", "b"], inputs)
    with pytest.raises(ValueError, match=r"the mixed batch has 2 rows"), mixed(model, ["a", "b"]):
        model(**inputs)
    assert model(**inputs).logits.shape == (ROWS, 3)  # after an error the routing is what it was
    merge(model, "b")
    with pytest.raises(RuntimeError, match="adapter 'b' is merged"), mixed(model, NAMES):
        pass


def test_merging_inside_the_block_is_caught_by_the_layers() -> None:
    model, _ = two_tasks("bert")
    with mixed(model, NAMES):
        merge(model, "b")
        with pytest.raises(RuntimeError, match="a mixed batch is asked for"):
            model(**batch())


def test_a_projection_that_all_rows_share_is_refused_where_it_is_adapted() -> None:
    """DeBERTa-v3 sends the relative positions, one for all rows, through the query's and key's own projections."""
    model, _ = two_tasks("deberta-v2")
    with pytest.raises(ValueError, match=r"a LoRALinear is given a tensor of shape \(1, 16, 16\); a layer that is"):
        mixed_logits(model, NAMES, batch())


@torch.no_grad()
def test_opt_mixes_in_attention_and_refuses_where_it_flattens_rows_into_tokens() -> None:
    model, _ = two_tasks("opt")
    with pytest.raises(ValueError, match=r"a LoRALinear is given a tensor of shape \(35, 16\)"):
        mixed_logits(model, NAMES, batch())
    model, _ = two_tasks("opt", choice="qkvo")
    inputs = batch()
    together = mixed_logits(model, NAMES, inputs)
    for row, adapter in enumerate(NAMES):
        torch.testing.assert_close(together[row], alone(model, adapter, inputs)[row], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("architecture", "module", "said"),
    [
        ("opt", "fc1", r"a LoRALinear is given a tensor of shape \(35, 16\)"),
        ("bert", "position_embeddings", r"position_embeddings is adapted, and is not the embedding of tokens"),
    ],
)
@torch.no_grad()
def test_a_layer_that_carries_none_of_the_batchs_adapters_need_not_be_given_rows(
    architecture: str, module: str, said: str
) -> None:
    model, _ = two_tasks(architecture, choice="qkvo")
    inputs = batch()
    before = mixed_logits(model, NAMES, inputs)
    inject_adapter(model, LoraSpec(rank=2, dtype=torch.float64), modules=[module], adapter="c")
    for _, value in adapter_parameters(model, "c"):
        nn.init.normal_(value)
    assert all(map(torch.equal, mixed_logits(model, NAMES, inputs), before))
    with pytest.raises(ValueError, match=said):
        mixed_logits(model, ["c", *NAMES[1:]], inputs)


def test_gradient_checkpointing_is_refused_in_training_only() -> None:
    """Its second pass comes in backward, after the block; with reentrant checkpointing nothing would tell."""
    model, _ = two_tasks("bert")
    model.activation_checkpointing_enable()
    inputs = batch()
    model.train()
    with pytest.raises(ValueError, match="gradient checkpointing runs layers again in backward"):
        mixed_logits(model, NAMES, inputs)
    model.eval()
    assert len(mixed_logits(model, NAMES, inputs)) == ROWS


def test_adapted_positions_are_refused() -> None:
    torch.manual_seed(0)
    model = TINY["t5"]()
    inject_adapter(model, LoraSpec(rank=1), modules=["relative_attention_bias"], new_parameters=new_names(model))
    with pytest.raises(ValueError, match="relative_attention_bias is adapted, and is not the embedding of tokens"):
        mixed_logits(model, ["default"] * ROWS, batch())


@pytest.mark.parametrize(
    ("architecture", "name"), [("bert", "word_embeddings"), ("gpt2", "wte"), ("t5", "embed_tokens")]
)
def test_adapted_embeddings_of_tokens_run_mixed(architecture: str, name: str) -> None:
    """Of T5 those of encoder and decoder, which share their weight with the one that the model names."""
    torch.manual_seed(0)
    model = TINY[architecture]().double()
    for adapter in ("a", "b"):
        inject_adapter(model, LoraSpec(rank=2, dtype=torch.float64), modules=[name], adapter=adapter)
    for _, parameter in adapter_parameters(model):
        nn.init.normal_(parameter, std=0.3)
    inputs = batch()
    found = torch.stack(mixed_logits(model, NAMES, inputs))
    expected = {adapter: alone(model, adapter, inputs) for adapter in ("a", "b", None)}
    for row, adapter in enumerate(NAMES):
        torch.testing.assert_close(found[row], expected[adapter][row], atol=1e-12, rtol=1e-10)
    assert not torch.allclose(expected["a"], expected["b"])
