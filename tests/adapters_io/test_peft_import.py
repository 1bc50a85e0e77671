"""What the real PEFT trained loads with equal logits, whatever its settings; another base is refused."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import EvaConfig, PeftModel
from peft_peer import QV, assert_equal, logits, new_of, refused, rewrite, trained_by_peft
from safetensors.torch import load_file
from tiny_models import TINY
from torch import nn

from lightning_lora.adapters_io import AdapterFacts, load_peft_folder, save_peft_folder
from lightning_lora.digests import fingerprint_of, tensor_digests
from lightning_lora.inject import enable, inject_adapter
from lightning_lora.lora import LoraSpec

HEAD = ("classifier",)

BLOCK = "bert.encoder.layer.1.attention.self"

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "last parts of names": ("bert", {"target_modules": QV}),
    "one expression": ("bert", {"target_modules": r".*\.layer\.[01]\..*\.(query|dense)"}),
    "all-linear": ("bert", {"target_modules": "all-linear"}),
    "all-linear of Conv1D": ("gpt2", {"target_modules": "all-linear"}),
    "fused, fan_in_fan_out": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "exclude": ("bert", {"target_modules": QV, "exclude_modules": ["layer.0.attention.self.query"]}),
    "exclude by expression": ("bert", {"target_modules": QV, "exclude_modules": r".*layer\.0.*query"}),
    "blocks": ("bert", {"target_modules": QV, "layers_to_transform": [1], "layers_pattern": "layer"}),
    "a full name among blocks": (
        "bert",
        {"target_modules": ["query", "classifier"], "layers_to_transform": [0], "task_type": None},
    ),
    "one block": ("bert", {"target_modules": QV, "layers_to_transform": 0}),
    "ranks and alphas": (
        "bert",
        {"target_modules": QV, "rank_pattern": {"query": 3, f"{BLOCK}.value": 1}, "alpha_pattern": {"layer.1.*": 7}},
    ),
    "rslora": ("bert", {"target_modules": QV, "use_rslora": True, "rank_pattern": {"value": 5}}),
    "head and pooler": ("bert", {"target_modules": QV, "modules_to_save": ["classifier", "pooler"]}),
    "no head": ("bert", {"target_modules": QV, "task_type": None}),
    "all biases": ("bert", {"target_modules": QV, "bias": "all"}),
    "all biases of t5": ("t5", {"target_modules": ["q"], "bias": "all", "modules_to_save": ["classification_head"]}),
    "biases of the adapted": ("roberta", {"target_modules": QV, "bias": "lora_only"}),
    "biases of Conv1D": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "bias": "lora_only"}),
    "embeddings": ("bert", {"target_modules": ["word_embeddings", "position_embeddings", "query"]}),
    "embeddings by expression": ("gpt2", {"target_modules": r".*\.(wte|c_attn)"}),
    "rank above the width": ("bert", {"target_modules": QV, "r": 40}),
    "dropout, gaussian": ("bert", {"target_modules": QV, "lora_dropout": 0.3, "init_lora_weights": "gaussian"}),
    "orthogonal": ("bert", {"target_modules": QV, "init_lora_weights": "orthogonal"}),
    "eva": ("bert", {"target_modules": QV, "init_lora_weights": "eva", "eva_config": EvaConfig()}),
    "mica": ("bert", {"target_modules": [*QV, "word_embeddings"], "init_lora_weights": "mica"}),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_what_peft_trained_loads_with_equal_logits(case: str, tmp_path: Path) -> None:
    architecture, settings = SETTINGS[case]
    base = TINY[architecture]()
    ours = copy.deepcopy(base)
    before = logits(base)
    peer = trained_by_peft(base, tmp_path, **settings)
    loaded = load_peft_folder(ours, tmp_path)
    assert_equal(logits(ours), logits(peer))
    assert not torch.allclose(before, logits(peer), atol=1e-2), "the control: the base model's logits differ"
    # MiCA freezes B.
    trained = sum(p.numel() for name, p in peer.named_parameters() if p.requires_grad or ".lora_" in name)
    assert loaded.report.totals.trainable == trained
    assert {module.name for module in loaded.report.modules} == {
        name.removeprefix("base_model.model.") for name, module in peer.named_modules() if hasattr(module, "base_layer")
    }


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning")
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "roberta"])
def test_all_linear_written_by_hand_means_what_it_means_to_peft(architecture: str, tmp_path: Path) -> None:
    base = TINY[architecture]()
    ours, again = copy.deepcopy(base), copy.deepcopy(base)
    peer = trained_by_peft(base, tmp_path, target_modules="all-linear")
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": "all-linear"}))
    assert_equal(logits(PeftModel.from_pretrained(again, tmp_path).eval()), logits(peer))
    load_peft_folder(ours, tmp_path)
    assert_equal(logits(ours), logits(peer))


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_travel_on_to_a_folder_of_ours(bias: str, tmp_path: Path) -> None:
    base = TINY["bert"]()
    first, second, untouched = copy.deepcopy(base), copy.deepcopy(base), copy.deepcopy(base.state_dict())
    peer = trained_by_peft(base, tmp_path / "peft", target_modules=QV, bias=bias)
    loaded = load_peft_folder(first, tmp_path / "peft")
    save_peft_folder(first, tmp_path / "ours", base_name="", new_parameters=loaded.parameters, facts=AdapterFacts())
    again = load_peft_folder(second, tmp_path / "ours")
    assert set(again.parameters) == set(loaded.parameters)
    assert_equal(logits(second), logits(peer))
    assert json.loads((tmp_path / "ours" / "adapter_config.json").read_text())["bias"] == bias
    third = TINY["bert"]()
    third.load_state_dict(untouched)
    assert_equal(logits(PeftModel.from_pretrained(third, tmp_path / "ours").eval()), logits(peer))


def test_biases_are_counted_without_those_of_other_adapters_heads(tmp_path: Path) -> None:
    base = TINY["bert"]()
    ours, again = copy.deepcopy(base), copy.deepcopy(base)
    peer = trained_by_peft(base, tmp_path / "peft", target_modules=QV, bias="all")
    loaded = load_peft_folder(ours, tmp_path / "peft")
    inject_adapter(ours, LoraSpec(rank=2), adapter="two", new_parameters=new_of(ours, HEAD))
    save_peft_folder(ours, tmp_path / "ours", base_name="", new_parameters=loaded.parameters)
    load_peft_folder(again, tmp_path / "ours")
    assert_equal(logits(again), logits(peer))
    assert json.loads((tmp_path / "ours" / "adapter_config.json").read_text())["bias"] == "all"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_load_as_peft_loads_them(dtype: torch.dtype, tmp_path: Path) -> None:
    ours = TINY["bert"]()
    trained_by_peft(copy.deepcopy(ours), tmp_path, target_modules=QV)
    rewrite(tmp_path, lambda tensors: {key: value.to(dtype) for key, value in tensors.items()})
    load_peft_folder(ours, tmp_path)
    factors = load_file(tmp_path / "adapter_model.safetensors")
    delta = ours.get_submodule(f"{BLOCK}.query").adapters["default"]
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    assert torch.equal(delta.A, factors[f"base_model.model.{BLOCK}.query.lora_A.weight"].to(wide))
    assert delta.B.dtype is wide
    assert ours.classifier.weight.dtype is torch.float32


def test_a_second_adapter_loads_beside_the_first(tmp_path: Path) -> None:
    ours = TINY["bert"]()
    peer = trained_by_peft(copy.deepcopy(ours), tmp_path, target_modules="all-linear", task_type=None)
    inject_adapter(ours, LoraSpec(rank=2))
    load_peft_folder(ours, tmp_path, adapter="second")
    assert_equal(logits(ours), logits(peer))


@pytest.mark.parametrize("outputs", [1, 3, 16])
def test_a_second_adapters_outputs_are_those_of_its_head_whatever_else_was_saved(outputs: int, tmp_path: Path) -> None:
    """An embedding of two rows, here of token types, has fewer than a head may have outputs."""
    ours = TINY["bert"]()
    base = copy.deepcopy(ours)
    base.classifier, base.config.num_labels = nn.Linear(16, outputs), outputs
    saved = ["classifier", "token_type_embeddings"]
    peer = trained_by_peft(base, tmp_path, target_modules=QV, modules_to_save=saved)
    inject_adapter(ours, LoraSpec(rank=2), adapter="first", new_parameters=new_of(ours, HEAD))
    before = logits(ours)
    load_peft_folder(ours, tmp_path, adapter="second", new_parameters=new_of(ours, HEAD))
    assert_equal(logits(ours), logits(peer))
    enable(ours, "first")
    assert torch.equal(logits(ours), before)


def facts_of(model: nn.Module, new: list[str]) -> AdapterFacts:
    digests = tensor_digests((name, value) for name, value in model.state_dict().items() if name not in new)
    return AdapterFacts("rte", ("entailment", "not_entailment"), fingerprint_of(digests), digests)


def test_another_base_is_refused_by_the_tensor_that_differs_unless_forced(tmp_path: Path) -> None:
    base = TINY["bert"]()
    model, other, new = copy.deepcopy(base), copy.deepcopy(base), new_of(base, HEAD)
    facts = facts_of(base, new)
    inject_adapter(model, LoraSpec(rank=2), new_parameters=new)
    save_peft_folder(model, tmp_path, base_name="base", new_parameters=new, facts=facts)

    with torch.no_grad():
        other.bert.encoder.layer[1].output.dense.bias[3] += 1e-6
    said = rf"another base model \({facts.base_fingerprint[:12]}\): 1 of its \d+ tensors"
    advice = "with --force of lightning-lora import-peft or merge, in Python with force=True"
    refused(tmp_path, rf"{said} .*\.layer\.1\.output\.dense\.bias; .*{advice}", other, new_parameters=new)
    refused(tmp_path, "tensors differ", copy.deepcopy(base).half(), new_parameters=new)
    load_peft_folder(other, tmp_path, new_parameters=new, force=True)
    with torch.no_grad():
        base.classifier.weight.normal_()  # new parameters are not the base model's
    load_peft_folder(base, tmp_path, new_parameters=new)
    load_peft_folder(base, tmp_path, adapter="again", new_parameters=new)


def test_the_facts_stay_small_and_name_no_value_of_a_weight(tmp_path: Path) -> None:
    names = {f"roberta.encoder.layer.{n}.attention.self.query.weight": "0f" * 32 for n in range(200)}
    text = AdapterFacts(base_digests=names).to_json()
    assert len(text) < 20_000
    assert not re.search("0f" * 5, text)
