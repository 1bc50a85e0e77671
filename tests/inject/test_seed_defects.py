"""The seed document's code defects that concern whole models (E13 to E15, E20, E23, E26), as behaviour of injection."""

import copy

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from lightning_lora.inject import count_parameters, eject, inject_adapter, merge, unmerge
from lightning_lora.lora import LoRALayer, LoraSpec, lora_layers
from lightning_lora.targets import ROLE_SETS


class Demo(nn.Module):
    """The six projections of the seed's demo model, 512 wide."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            self.add_module(name, nn.Linear(512, 512))
        self.ffn_up, self.ffn_down = nn.Linear(512, 2048), nn.Linear(2048, 512)


def tiny_bert() -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, num_labels=3
    )
    return BertForSequenceClassification(config).eval()


HEAD = {"classifier.weight", "classifier.bias"}


def test_e13_only_the_adapters_train() -> None:
    model = Demo()
    report = inject_adapter(model, LoraSpec(rank=16), modules=["q_proj", "v_proj"])
    assert report.totals.adapter == report.totals.trainable == 32_768
    assert report.totals.total == 3_183_104
    assert report.totals.trainable_percent == pytest.approx(1.0294, abs=1e-4)


def test_e13_a_training_step_leaves_the_base_bit_equal_and_moves_the_rest() -> None:
    model = tiny_bert()
    before = {name: p.clone() for name, p in model.named_parameters()}
    inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD)
    ids = torch.randint(60, (4, 7))
    for _ in range(2):  # at the first step B is zero, so A has no gradient yet
        model.zero_grad()
        model(ids, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5).step()
    after = dict(model.named_parameters())
    assert {name for name in before if not torch.equal(before[name], after[name])} == HEAD
    deltas = [layer.adapters["default"] for _, layer in lora_layers(model)]
    assert all(delta.B.abs().sum() > 0 for delta in deltas)


def test_e14_no_match_is_an_error_that_lists_what_is_there() -> None:
    with pytest.raises(ValueError, match=r"no layer is named 'q_projj'; did you mean 'q_proj'") as caught:
        inject_adapter(Demo(), LoraSpec(rank=4), modules=["q_projj"])
    assert "ffn_up  Linear 2048 x 512  (1)" in str(caught.value)
    assert "lora.modules=[name,...]" in str(caught.value)


def test_e14_a_partial_match_is_an_error_and_changes_nothing() -> None:
    model = Demo()
    with pytest.raises(ValueError, match="no layer is named 'w_proj'"):
        inject_adapter(model, LoraSpec(rank=4), modules=["q_proj", "w_proj"])
    assert not list(lora_layers(model))
    assert all(p.requires_grad for p in model.parameters())


def test_e14_an_unknown_architecture_lists_its_layers_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"Demo") as caught:
        inject_adapter(Demo(), LoraSpec(rank=4))
    assert "q_proj  Linear 512 x 512  (1)" in str(caught.value)
    assert "lora.modules=[name,...]" in str(caught.value)


def test_e15_a_name_matches_at_a_dot_and_never_the_head() -> None:
    model = tiny_bert()
    report = inject_adapter(
        model, LoraSpec(rank=2), modules=["dense"], new_parameters=HEAD | {"bert.pooler.dense.weight"}
    )
    names = [module.name for module in report.modules]
    assert len(names) == 6
    assert all(".layer." in name for name in names)
    with pytest.raises(ValueError, match="no layer is named 'ense'"):
        inject_adapter(tiny_bert(), LoraSpec(rank=2), modules=["ense"])
    with pytest.raises(ValueError, match="no layer is named 'classifier'"):
        inject_adapter(tiny_bert(), LoraSpec(rank=2), modules=["classifier"], new_parameters=HEAD)


def test_e20_a_second_injection_of_the_same_name_is_refused() -> None:
    model = tiny_bert()
    inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD)
    with pytest.raises(ValueError, match=r"already has an adapter named 'default'; call delete_adapter\(\)"):
        inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD)
    inject_adapter(model, LoraSpec(rank=3), adapter="second", new_parameters=HEAD)
    assert not any(isinstance(child, LoRALayer) for _, layer in lora_layers(model) for child in layer.children())


def test_e22_torch_layers_that_bypass_the_projection_are_refused() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
    for name in ("out_proj", "linear1"):
        with pytest.raises(ValueError, match="would have no effect"):
            inject_adapter(encoder, LoraSpec(rank=2), modules=[name])


def test_e23_merging_a_tied_weight_leaves_its_twin_alone() -> None:
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    model = GPT2LMHeadModel(config).eval()
    assert model.lm_head.weight is model.transformer.wte.weight
    inject_adapter(model, LoraSpec(rank=2), modules=["lm_head"])
    with torch.no_grad():
        model.lm_head.adapters["default"].B.normal_()
    embedding = model.transformer.wte.weight.clone()
    merge(model)
    assert torch.equal(model.transformer.wte.weight, embedding)
    assert not torch.equal(model.lm_head.weight, embedding)
    unmerge(model)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_e23_a_layer_with_two_names_is_adapted_once_and_replaced_at_both() -> None:
    model = Demo()
    model.again = model.q_proj
    report = inject_adapter(model, LoraSpec(rank=4), modules=["q_proj"])
    assert model.again is model.q_proj
    assert isinstance(model.q_proj, LoRALayer)
    assert report.totals.adapter == 4 * 1024
    eject(model)
    assert model.again is model.q_proj
    assert type(model.q_proj) is nn.Linear


def test_e26_counting_separates_the_head_and_survives_an_empty_model() -> None:
    assert count_parameters(nn.Module()).trainable_percent == 0
    model = tiny_bert()
    base = sum(p.numel() for p in model.parameters())
    totals = inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD).totals
    assert totals.adapter == 2 * 2 * 2 * (16 + 16)
    assert totals.head == 16 * 3 + 3
    assert totals.frozen == base - totals.head
    assert totals.total == base + totals.adapter


def test_ejecting_restores_the_very_same_module_objects() -> None:
    model = tiny_bert()
    before = dict(model.named_modules())
    state = copy.deepcopy(model.state_dict())
    inject_adapter(model, LoraSpec(rank=2), roles=ROLE_SETS["all"], new_parameters=HEAD)
    assert dict(model.named_modules()) != before
    assert eject(model) is model
    after = dict(model.named_modules())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
