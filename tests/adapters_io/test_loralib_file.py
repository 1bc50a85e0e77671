"""Files of the real loralib, Microsoft's own among them: equal deltas and logits."""

import copy
from pathlib import Path

import loralib
import pytest
import torch
from loralib_peer import HEAD, embedding, fused, lora_parameters, plain, save, with_loralib
from peft_peer import assert_equal, logits, new_of, randomise
from shared_folder import shared_or
from tiny_models import TINY
from torch import nn
from transformers import RobertaConfig, RobertaForSequenceClassification

from lightning_lora.adapters_io import load_loralib_file
from lightning_lora.inject import disabled, enable, inject_adapter
from lightning_lora.lora import LoRALayer, LoraSpec, LowRankDelta, lora_layers
from lightning_lora.targets import ROLE_SETS

PUBLISHED = "roberta_base_lora_mnli.bin"


# Microsoft's own file


def roberta_base() -> RobertaForSequenceClassification:
    """RoBERTa-base in every size but the vocabulary's, with random weights."""
    return RobertaForSequenceClassification(RobertaConfig(vocab_size=99, num_labels=3, pad_token_id=0)).eval()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published adapter; where its folder is not there, one in the same format from the real loralib."""

    def write(folder: Path) -> None:
        model = with_loralib(roberta_base(), {".query": plain(8, 16), ".value": plain(8, 16)})
        randomise(lora_parameters(model, HEAD), std=0.05)  # about what the published values are
        save(model, folder / PUBLISHED, HEAD)

    file = shared_or("loralib", write, tmp_path_factory.mktemp("loralib")) / PUBLISHED
    assert file.is_file(), f"{file} belongs there: the file of that name of microsoft/LoRA"
    return file


def test_the_published_adapter_has_the_deltas_and_logits_of_loralibs_own_layers(published: Path) -> None:
    torch.manual_seed(0)
    ours = roberta_base()
    peer = with_loralib(copy.deepcopy(ours), {".query": plain(8, 16), ".value": plain(8, 16)}).train()
    content = torch.load(published, map_location="cpu", weights_only=True)
    missing, unexpected = peer.load_state_dict(content, strict=False)
    assert not unexpected
    assert not [name for name in missing if "lora_" in name or "classifier" in name]
    before = logits(ours)

    loaded = load_loralib_file(ours, published, alpha=16, new_parameters=new_of(ours, HEAD))

    expected = logits(peer.eval())
    assert_equal(logits(ours), expected)
    assert not torch.allclose(before, expected, atol=1e-2), "the control: the base model's logits differ"
    with disabled(ours):
        assert not torch.allclose(logits(ours), expected, atol=1e-2), "the control: it is not the head alone"
    assert {module.name for module in loaded.report.modules} == {
        f"roberta.encoder.layer.{block}.attention.self.{name}" for block in range(12) for name in ("query", "value")
    }
    assert {module.rank for module in loaded.report.modules} == {8}
    assert (loaded.report.totals.adapter, loaded.report.totals.head) == (24 * 8 * 2 * 768, 768 * 769 + 3 * 769)
    for name, layer in lora_layers(ours):
        alone = loralib.Linear(768, 768, r=8, lora_alpha=16, bias=False)
        with torch.no_grad():
            alone.weight.zero_()
            alone.lora_A.copy_(content[f"{name}.lora_A"])
            alone.lora_B.copy_(content[f"{name}.lora_B"])
        alone.eval()  # merges, and returns nothing
        delta = layer.adapters["default"].weight()
        torch.testing.assert_close(delta.float(), alone.weight.detach(), atol=1e-6, rtol=1e-5)
        assert delta.any()


def test_another_alpha_is_another_adapter(published: Path) -> None:
    model = roberta_base()
    load_loralib_file(model, published, alpha=32, new_parameters=new_of(model, HEAD))
    name, layer = next(lora_layers(model))
    content = torch.load(published, map_location="cpu", weights_only=True)
    by_hand = 4 * content[f"{name}.lora_B"].double() @ content[f"{name}.lora_A"].double()
    torch.testing.assert_close(layer.adapters["default"].weight(), by_hand)


# Layers of every kind


@pytest.mark.parametrize(("parts", "roles"), [([True, False, True], "qv"), ([False, True, False], "k")])
def test_parts_of_a_fused_layer_are_those_of_merged_linear(parts: list[bool], roles: str, tmp_path: Path) -> None:
    ours = TINY["gpt2"]()
    peer = with_loralib(copy.deepcopy(ours), {"c_attn": fused(2, 3, parts)})
    randomise(lora_parameters(peer, ("score",)))
    file = save(peer, tmp_path / "adapter.bin", ("score",))
    before = logits(ours)
    load_loralib_file(ours, file, alpha=3, roles=ROLE_SETS[roles], new_parameters=["score.weight"])
    assert_equal(logits(ours), logits(peer))
    assert not torch.allclose(before, logits(peer), atol=1e-2), "the control: the base model's logits differ"
    layer = ours.transformer.h[1].attn.c_attn
    assert isinstance(layer, LoRALayer)
    delta = layer.adapters["default"]
    assert isinstance(delta, LowRankDelta)
    torch.testing.assert_close(delta.weight().float(), peer.transformer.h[1].attn.c_attn.merge_AB().T * 1.5)


def test_embeddings_biases_and_ranks_of_their_own(tmp_path: Path) -> None:
    ours = TINY["bert"]()
    kinds = {"word_embeddings": embedding(3, 6), ".query": plain(2, 6), "intermediate.dense": plain(1, 6)}
    peer = with_loralib(copy.deepcopy(ours), kinds).train()
    biases = [p for name, p in peer.named_parameters() if name.endswith("bias")]
    randomise([*lora_parameters(peer), *biases])
    loaded = load_loralib_file(ours, save(peer, tmp_path / "adapter.bin", bias="all"), alpha=6)
    assert_equal(logits(ours), logits(peer.eval()))
    assert {module.rank for module in loaded.report.modules} == {1, 2, 3}
    assert sum(ours.get_parameter(name).numel() for name in loaded.parameters) == sum(p.numel() for p in biases)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_a_second_adapter_has_a_head_of_its_own_with_the_files_outputs(outputs: int, tmp_path: Path) -> None:
    ours = TINY["bert"]()
    peer = with_loralib(copy.deepcopy(ours), {".query": plain(2, 4)}).train()
    peer.classifier = nn.Linear(16, outputs)
    randomise(lora_parameters(peer, HEAD))
    new = new_of(ours, HEAD)
    inject_adapter(ours, LoraSpec(rank=2), adapter="first", new_parameters=new)
    before = logits(ours)
    load_loralib_file(ours, save(peer, tmp_path / "adapter.bin", HEAD), alpha=4, adapter="second", new_parameters=new)
    assert_equal(logits(ours), logits(peer.eval()))
    enable(ours, "first")
    assert torch.equal(logits(ours), before)
