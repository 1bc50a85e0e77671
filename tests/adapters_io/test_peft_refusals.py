"""Folders that are damaged, hostile or ask for more than plain LoRA: one line each, and the model is as it was."""

import copy
import json
import pickle
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft_peer import QV, Bomb, assert_equal, logits, new_of, refused, rewrite, trained_by_peft
from tiny_models import TINY

from lightning_lora.adapters_io import AdapterFacts, load_peft_folder
from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec, lora_layers

BLOCK = "bert.encoder.layer.1.attention.self"
# Tries every way of cutting a name into eight, three times over.
SLOW = r"(?:(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)){3}\4\6z|q"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that PEFT wrote for the tiny BERT, and that loads as it is."""
    trained_by_peft(TINY["bert"](), tmp_path / "adapter", target_modules=QV)
    load_peft_folder(TINY["bert"](), tmp_path / "adapter")
    return tmp_path / "adapter"


def reconfigure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 0}, "rank 0 must be a whole number from 1 to 65536"),
        ({"r": -4}, "rank -4 must be"),
        ({"r": True}, "rank true must be"),
        ({"r": 10**30}, "rank 1000000.* must be"),
        ({"r": 3}, r"lora_A.weight has shape \[2, 16\]; this model takes \[3, 16\]"),
        ({"rank_pattern": {"query": 0}}, "rank 0 must be"),
        ({"rank_pattern": ["query"]}, "must be a mapping"),
        ({"rank_pattern": {"(": 2}}, r"rank_pattern: \( is not a regular expression"),
        ({"lora_alpha": "abc"}, "alpha abc must be a number"),
        ({"lora_alpha": 1e38}, "alpha 1e.38 must be .* at most"),
        ({"lora_alpha": 2**22}, "alpha=4194304.0 makes the scale 2.09715e.06; it must be at most 1048576"),
        ({"lora_alpha": 10**400}, "alpha 1000.* must be"),
        ({"lora_alpha": float("nan")}, "alpha nan must be"),
        ({"lora_alpha": float("inf")}, "alpha inf must be"),
        ({"lora_alpha": 0}, "alpha 0 must be"),
        ({"alpha_pattern": {"query": float("-inf")}}, "alpha -inf must be"),
        ({"lora_dropout": 1.0}, r"lora_dropout=1.0 must lie in \[0, 1\)"),
        ({"lora_dropout": "much"}, "lora_dropout=much must lie"),
        ({"use_rslora": "yes"}, "use_rslora=yes must be true or false"),
        ({"target_modules": ["nothing"]}, r"target_modules=\[nothing\] matches no layer of BertForSequenceClass"),
        ({"target_modules": "nothing.*"}, r"target_modules=nothing\.\* matches no layer"),
        ({"target_modules": None}, "target_modules names no layers"),
        ({"target_modules": 3}, "target_modules=3 must be a list of names"),
        ({"target_modules": "(query"}, "target_modules: .query is not a regular expression"),
        ({"target_modules": ["query"]}, r"value.lora_A.weight belongs to nothing that the settings adapt"),
        ({"target_modules": [*QV, "key"]}, r"key.lora_A.weight is missing: the settings say that this layer is adapt"),
        ({"target_modules": [*QV, "encoder"]}, "bert.encoder is a BertEncoder; adapted can be Linear"),
        ({"modules_to_save": None, "task_type": None}, "classifier.bias is of a part that the settings say is not sav"),
        ({"modules_to_save": ["classifier", "pooler"]}, "pooler.dense.bias is missing: the settings say"),
        ({"modules_to_save": "("}, "is not a regular expression"),
        ({"target_modules": SLOW}, r"the pattern .* takes too long on bert"),
        ({"rank_pattern": {SLOW: 2}}, r"the pattern .* takes too long on bert"),
        ({"target_modules": "((a{1000}){1000}){1000}"}, r"target_modules: .* counts repetitions"),
        ({"modules_to_save": ["a{9}" * 9]}, "counts repetitions as no name of a layer asks for"),
        ({"bias": "all"}, "LayerNorm.bias is missing"),
        ({"bias": "some"}, "bias=some must be one of none, all, lora_only"),
        ({"layers_to_transform": ["one"]}, r"layers_to_transform=\[one\] must be numbers of blocks"),
        ({"peft_type": "ADALORA"}, "peft_type=ADALORA is not supported"),
        ({"peft_type": None}, "peft_type=null is not supported"),
        ({"use_dora": True}, "use_dora=true is not supported"),
        ({"lora_bias": True}, "lora_bias=true is not supported"),
        ({"use_qalora": True}, "use_qalora=true is not supported"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication=.* is not supported"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices=.* is not supported"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens=.* is not supported"),
        ({"target_parameters": ["query.weight"]}, "target_parameters=.* is not supported"),
        ({"megatron_config": {"a": 1}}, "megatron_config=.* is not supported"),
        ({"loftq_config": {"loftq_bits": 4}}, "loftq_config=.* is not supported"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying=true is not supported"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa is not supported: such a scheme changes the base"),
        ({"a_key_of_tomorrow": 1}, "a_key_of_tomorrow=1 is not supported"),
        ({"a_key\x1b[31m\n": "x" * 1000}, "is not supported"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_settings_that_are_refused(changes: dict[str, Any], said: str, folder: Path) -> None:
    reconfigure(folder, **changes)
    refused(folder, said)


def test_an_unknown_setting_that_asks_for_nothing_is_fine(folder: Path) -> None:
    reconfigure(folder, tomorrow=None, later=False, then=[], some_day={}, peft_version="99.0")
    load_peft_folder(TINY["bert"](), folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "[" * 100_000, '"a"', "\ufeff{}", "{}" + " " * 5 * 2**20], ids=lambda text: text[:5]
)
def test_settings_that_are_no_json_object(text: str, folder: Path) -> None:
    (folder / "adapter_config.json").write_text(text)
    refused(folder, r"adapter_config\.json: ")


def test_settings_that_are_no_text_or_not_there(folder: Path) -> None:
    (folder / "adapter_config.json").write_bytes(b"\xff\xfe\x00")
    refused(folder, "not a JSON file")
    (folder / "adapter_config.json").unlink()
    refused(folder, "cannot be read: No such file")
    refused(folder / "nowhere", "cannot be read")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole[: len(whole) // 2], "not a whole safetensors file"),
        (lambda whole: whole[:4], "not a whole safetensors file"),
        (lambda _: b"", "not a whole safetensors file"),
        (lambda whole: struct.pack("<Q", 2**62) + whole[8:], "not a whole safetensors file"),
        (lambda whole: struct.pack("<Q", 2**27) + whole[8:], "not a whole safetensors file"),
        (lambda whole: whole + b"more", "not a whole safetensors file"),
        (lambda whole: whole.replace(b"[2,16]", b"[9,16]", 1), "not a whole safetensors file"),
        (lambda whole: whole.replace(b"F32", b"I32"), "is of type I32; it must be one of F16, BF16, F32, F64"),
    ],
    ids=["half", "4 bytes", "empty", "endless header", "huge header", "appendix", "shape", "type"],
)
def test_damaged_weights_are_refused(damage: Callable[[bytes], bytes], said: str, folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    refused(folder, said)


def test_an_absurd_shape_is_refused_before_it_takes_memory(folder: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}).encode()
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    refused(folder, "not a whole safetensors file")


def test_a_pickle_is_never_opened(folder: Path) -> None:
    trace = folder / "ran"
    Bomb.target = str(trace)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(pickle.dumps(Bomb()))
    refused(folder, "not a whole safetensors file")
    torch.save({"x": Bomb()}, weights)
    refused(folder, "not a whole safetensors file")
    weights.rename(folder / "adapter_model.bin")
    refused(folder, r"adapter_model\.bin is a pickle, .* safe_serialization=True")
    (folder / "adapter_model.bin").unlink()
    refused(folder, "there is no such file")
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert trace.exists(), "the control: opened, it does run"


A = f"base_model.model.{BLOCK}.query.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {**t, A: t[A] * float("nan")}, "lora_A.weight holds values that are not finite"),
        (lambda t: {**t, A: t[A] / 0}, "lora_A.weight holds values that are not finite"),
        (lambda t: {**t, A: (t[A].double() * 1e300)}, None),
        (lambda t: {key: value for key, value in t.items() if key != A}, "query.lora_A.weight is missing"),
        (lambda t: {key: v for key, v in t.items() if "classifier.bias" not in key}, "classifier.bias is missing"),
        (lambda t: {**t, A: t[A].T}, r"has shape \[16, 2\]; this model takes \[2, 16\]"),
        (lambda t: {**t, A: t[A][None]}, r"has shape \[1, 2, 16\]"),
        (lambda t: {**t, "base_model.model.classifier.weight": torch.zeros(3, 16)}, r"takes \[2, 16\] there"),
        (lambda t: {**t, "../../etc/passwd": torch.zeros(1)}, r"tensor \.\./\.\./etc/passwd belongs to nothing"),
        (lambda t: {**t, "line\nbreak\x1b[2J": torch.zeros(1)}, "belongs to nothing"),
        (lambda t: {**t, A.replace("lora_A", "lora_magnitude_vector"): torch.zeros(1)}, "belongs to nothing"),
        (lambda t: {**t, A.replace("lora_A.weight", "bias"): torch.ones(16)}, "a part that the settings say is not"),
        (lambda t: {**t, "base_model.model.classifier.modules_to_save.bias": torch.ones(2)}, "2 times with different"),
    ],
    ids=[
        *("nan", "inf", "f64 within range", "missing factor", "missing head", "transposed", "three-dimensional"),
        *("other labels", "traversal", "control characters", "dora", "extra bias", "two heads"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change: Any, said: str | None, folder: Path) -> None:
    rewrite(folder, change)
    if said is None:
        load_peft_folder(TINY["bert"](), folder)
    else:
        refused(folder, said)


def test_an_adapter_of_another_architecture_is_refused(folder: Path) -> None:
    refused(folder, r"target_modules=\[.*\] matches no layer of GPT2ForSequence", TINY["gpt2"]())
    refused(folder, "belongs to nothing that the settings adapt|is missing", TINY["roberta"]())


def test_a_new_head_that_would_stay_random_is_refused(tmp_path: Path) -> None:
    model = TINY["bert"]()
    trained_by_peft(copy.deepcopy(model), tmp_path, target_modules=QV)
    new = new_of(model, ("classifier", "bert.pooler"))
    refused(tmp_path, r"no values for bert\.pooler\.dense\.bias, .* would stay random", model, new_parameters=new)


def test_a_name_that_is_taken_or_weights_that_are_merged_are_refused(folder: Path) -> None:
    model = TINY["bert"]()
    load_peft_folder(model, folder)
    refused(folder, "already has an adapter named 'default'", model)
    next(layer for _, layer in lora_layers(model)).merge("default")
    with pytest.raises(RuntimeError, match="adapter 'default' is merged; call unmerge"):
        load_peft_folder(model, folder, adapter="second")


@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_biases_are_not_loaded_under_adapters_that_are_there(bias: str, tmp_path: Path) -> None:
    """PEFT refuses them, too: all adapters share the base's biases, and the first would compute something else."""
    model = TINY["bert"]()
    settings = {"target_modules": QV, "bias": bias, "task_type": None}
    peer = trained_by_peft(copy.deepcopy(model), tmp_path, **settings)
    with pytest.raises(ValueError, match="supports only 1 adapter with bias"):
        peer.load_adapter(str(tmp_path), "two")
    inject_adapter(model, LoraSpec(rank=2), adapter="one")
    said = r"brings \S+\.bias, .* would change the adapters that are there \(one\) as well; load it onto"
    refused(tmp_path, said, model, adapter="two")


def test_a_saved_module_that_is_tied_here_is_refused(tmp_path: Path) -> None:
    model = TINY["t5"]()
    trained_by_peft(copy.deepcopy(model), tmp_path, target_modules=["q"], modules_to_save=["shared"], task_type=None)
    refused(tmp_path, r"transformer\.shared\.weight is saved .* tied to transformer\.\w+\.embed_tokens\.weight", model)


@pytest.mark.parametrize("targets", [QV, ["word_embeddings"]])
def test_frozen_embeddings_that_came_along_must_be_the_base_models_own(targets: list[str], tmp_path: Path) -> None:
    base = TINY["bert"]()
    ours, resized = copy.deepcopy(base), copy.deepcopy(base)
    peer = trained_by_peft(base, tmp_path, target_modules=targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT's, on what it reads of the base's config
        peer.save_pretrained(str(tmp_path), save_embedding_layers=True)
    key = f"base_model.model.bert.embeddings.word_embeddings.{'weight' if targets == QV else 'base_layer.weight'}"
    rewrite(tmp_path, lambda tensors: {key: ours.bert.embeddings.word_embeddings.weight.detach(), **tensors})
    load_peft_folder(ours, tmp_path)
    assert_equal(logits(ours), logits(peer))
    rewrite(tmp_path, lambda tensors: {**tensors, key: tensors[key] + 1e-6})
    said = "word_embeddings.* is of a part that the settings say is not saved, and has other values than this base"
    refused(tmp_path, said, resized)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema_version": 2}, "schema_version=2; this version reads 1"),
        ({"base_digests": ["a"]}, "must be text"),
        ({"base_digests": {"a": 1}}, "must be text"),
        ({"labels": "yes"}, r"labels=yes must be a list of names"),
        ({"base_digests": {"../x": "00000000"}}, r"1 of its 1 tensors differ .* \.\./x"),
        ({"parameters": ["nobody.knows"]}, "tensor base_model.model.nobody.knows is missing"),
    ],
    ids=str,
)
def test_damaged_facts_are_refused(changes: dict[str, Any], said: str, folder: Path) -> None:
    facts = json.loads(AdapterFacts().to_json()) | changes
    (folder / "lightning_lora.json").write_text(json.dumps(facts))
    refused(folder, said)
