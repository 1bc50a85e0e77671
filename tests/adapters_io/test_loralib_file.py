"""Files of the real loralib, Microsoft's own among them: equal deltas and logits, and no pickle that runs."""

import copy
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import loralib
import pytest
import torch
from peft_peer import Bomb, assert_equal, logits, new_of, randomise, unchanged_after
from tiny_models import TINY
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaForSequenceClassification

from lightning_lora.adapters_io import load_loralib_file
from lightning_lora.inject import disabled, enable, inject_adapter
from lightning_lora.lora import LoRALayer, LoraSpec, LowRankDelta, lora_layers
from lightning_lora.targets import ROLE_SETS

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PUBLISHED = SHARED / "loralib" / "roberta_base_lora_mnli.bin"
HEAD = ("classifier",)


def with_loralib(model: nn.Module, kinds: dict[str, Callable[[nn.Module], nn.Module]]) -> nn.Module:
    """Replace the layers whose names end so by the real loralib's, with the same weights."""
    for name, layer in list(model.named_modules()):
        make = next((make for ending, make in kinds.items() if name.endswith(ending)), None)
        if make is not None:
            peer = make(layer).to(layer.weight.device)
            with torch.no_grad():
                peer.weight.copy_(layer.weight)
                if getattr(layer, "bias", None) is not None:
                    peer.bias.copy_(layer.bias)
            parent, _, key = name.rpartition(".")
            setattr(model.get_submodule(parent), key, peer)
    return model.train().eval()  # loralib merges in eval() and takes it back in train()


def plain(r: int, alpha: float) -> Callable[[nn.Module], nn.Module]:
    return lambda layer: loralib.Linear(layer.in_features, layer.out_features, r=r, lora_alpha=alpha)


def embedding(r: int, alpha: float) -> Callable[[nn.Module], nn.Module]:
    return lambda layer: loralib.Embedding(layer.num_embeddings, layer.embedding_dim, r=r, lora_alpha=alpha)


def fused(r: int, alpha: float, parts: list[bool]) -> Callable[[nn.Module], nn.Module]:
    def make(layer: nn.Module) -> nn.Module:
        rows, columns = layer.weight.shape
        options = {"enable_lora": parts, "fan_in_fan_out": True, "merge_weights": False}
        return loralib.MergedLinear(rows, columns, r=r, lora_alpha=alpha, **options)

    return make


def save(model: nn.Module, file: Path, heads: tuple[str, ...] = (), bias: str = "none") -> Path:
    """What loralib's README says: the LoRA state dict and, as its GLUE example does, the head."""
    state = loralib.lora_state_dict(model, bias=bias)
    torch.save({**state, **{name: model.get_parameter(name).detach() for name in new_of(model, heads)}}, file)
    return file


def lora_parameters(model: nn.Module, heads: tuple[str, ...] = ()) -> list[nn.Parameter]:
    return [p for name, p in model.named_parameters() if "lora_" in name or name in new_of(model, heads)]


# Microsoft's own file


def roberta_base() -> RobertaForSequenceClassification:
    """RoBERTa-base in every size but the vocabulary's, with random weights."""
    return RobertaForSequenceClassification(RobertaConfig(vocab_size=99, num_labels=3, pad_token_id=0)).eval()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published adapter; where its folder is not there at all, one in the same format from the real loralib."""
    if SHARED.is_dir():
        assert PUBLISHED.is_file(), f"{PUBLISHED} belongs there: roberta_base_lora_mnli.bin of microsoft/LoRA"
        return PUBLISHED
    model = with_loralib(roberta_base(), {".query": plain(8, 16), ".value": plain(8, 16)})
    randomise(lora_parameters(model, HEAD), std=0.05)  # about what the published values are
    return save(model, tmp_path_factory.mktemp("loralib") / PUBLISHED.name, HEAD)


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


# What is refused


QUERY = "bert.encoder.layer.0.attention.self.query"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file for the tiny BERT that loads as it is."""
    peer = with_loralib(TINY["bert"](), {".query": plain(2, 4)})
    randomise(lora_parameters(peer))
    return save(peer, tmp_path / "adapter.bin", HEAD)


def refused(file: Path, said: str, alpha: Any = 4, **options: Any) -> None:
    model = TINY["bert"]()
    new = options.pop("new_parameters", new_of(model, HEAD))
    unchanged_after(model, said, lambda: load_loralib_file(model, file, alpha=alpha, new_parameters=new, **options))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: {name: v for name, v in t.items() if name != f"{QUERY}.lora_B"},
            "has only one of lora_A and lora_B",
        ),
        (lambda t: {name: v for name, v in t.items() if "lora_" not in name}, "holds no lora_A and lora_B"),
        (lambda t: {name: v for name, v in t.items() if "bias" not in name}, "no values for classifier.bias"),
        (lambda t: {**t, f"{QUERY}.lora_A": t[f"{QUERY}.lora_A"].T}, "16 rows and lora_B 2 columns, so 8 projections"),
        (lambda t: {**t, f"{QUERY}.lora_A": torch.ones(4, 16)}, "so 2 projections are adapted, not 1; say by roles"),
        (lambda t: {**t, f"{QUERY}.lora_A": torch.ones(2, 9)}, r"has shape \[2, 9\]; this model takes \[2, 16\]"),
        (lambda t: {**t, f"{QUERY}.lora_B": torch.ones(16, 0)}, "must be matrices"),
        (lambda t: {**t, f"{QUERY}.lora_B": torch.ones(2)}, "must be matrices"),
        (lambda t: {**t, f"{QUERY}.lora_B": torch.full((16, 2), math.nan)}, "lora_B holds values that are not finite"),
        (lambda t: {**t, "x.lora_A": torch.ones(2, 2), "x.lora_B": torch.ones(2, 2)}, "has no layer named x"),
        (lambda t: {**t, "bert.lora_A": torch.ones(2, 2), "bert.lora_B": torch.ones(2, 2)}, "bert is a BertModel"),
        (lambda t: {**t, f"{QUERY}.weight": torch.ones(16, 16)}, "would replace a weight of the base model"),
        (lambda t: {**t, "../etc/passwd": torch.ones(1)}, "etc/passwd belongs to nothing in this model"),
        (lambda t: {**t, "classifier.weight": torch.ones(3, 16)}, r"takes \[2, 16\] there"),
        (lambda t: list(t.values()), "must hold a mapping from names to tensors"),
        (lambda t: {**t, "epoch": 3}, "must hold a mapping from names to tensors"),
        (lambda t: {**t, "epoch": Bomb()}, "not a file of tensors alone"),
    ],
    ids=range(17),
)
def test_contents_that_do_not_fit_are_refused(change: Callable[[Any], Any], said: str, file: Path) -> None:
    Bomb.target = str(file.parent / "ran")
    torch.save(change(torch.load(file, weights_only=True)), file)
    refused(file, said)
    assert not (file.parent / "ran").exists()


def test_what_is_no_file_of_torch_is_refused_and_never_run(file: Path) -> None:
    whole = file.read_bytes()
    Bomb.target = str(file.parent / "ran")
    for content in (whole[: len(whole) // 2], b"", pickle.dumps(Bomb()), b"\x80"):
        file.write_bytes(content)
        refused(file, "not a file of tensors alone, as torch.save writes it")
    assert not (file.parent / "ran").exists()
    file.unlink()
    refused(file, "there is no such file")


def test_a_damaged_file_gives_its_values_or_one_clear_line(file: Path) -> None:
    """Bytes changed at random, most of them in the pickle, where torch's reader fails in a dozen ways."""
    whole, random = file.read_bytes(), Random(0)
    refusals = []
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(random.choice([1, 2, 5])):
            content[random.randrange(random.choice([1400, len(whole)]))] = random.randrange(256)
        file.write_bytes(content)
        try:
            load_loralib_file(TINY["bert"](), file, alpha=4, new_parameters=("classifier.weight", "classifier.bias"))
        except ValueError as error:
            refusals.append(str(error))
    assert all(line.startswith(f"{file}: ") and "\n" not in line for line in refusals)
    assert 200 < len(refusals) < 400, "the control: some are damaged where it matters, some elsewhere"


@pytest.mark.parametrize(
    "odd",
    [
        torch.ones(16, 16).to_sparse(),
        torch.ones(16, 16, device="meta"),
        torch.ones(16, 16).to(torch.float8_e4m3fn),
        torch.ones(16, 16, dtype=torch.int8),
        torch.ones(1).expand(10**13),
    ],
    ids=["sparse", "meta", "float8", "int8", "of any size"],
)
def test_tensors_whose_values_are_not_all_there_are_refused(odd: Tensor, file: Path) -> None:
    torch.save({**torch.load(file, weights_only=True), "odd": odd}, file)
    refused(file, "tensor odd must be a plain one of type F16, BF16, F32, F64, all of it in the file")


def test_compressed_records_are_refused(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    refused(file, "its records are compressed")


@pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf])
def test_an_alpha_that_is_none_is_refused(alpha: float, file: Path) -> None:
    refused(file, "alpha=.* must be a positive finite number", alpha=alpha)


def test_roles_must_be_those_of_the_file_and_the_head_must_be_named(file: Path) -> None:
    refused(
        file,
        "the layers with roles query, value are not the file's: .*value is not in the file",
        roles=ROLE_SETS["qv"],
    )
    refused(file, "classifier.weight would replace a weight of the base model", new_parameters=())


def test_parts_that_are_interleaved_are_refused(tmp_path: Path) -> None:
    model = TINY["gpt_neox"]()
    layers = [name for name, _ in model.named_modules() if name.endswith("query_key_value")]
    content: dict[str, Tensor] = {}
    for name in layers:
        content |= {f"{name}.lora_A": torch.ones(4, 16), f"{name}.lora_B": torch.ones(32, 2)}
    torch.save(content, tmp_path / "adapter.bin")
    with pytest.raises(ValueError, match="interleaves its parts head by head"):
        load_loralib_file(model, tmp_path / "adapter.bin", alpha=4, roles=ROLE_SETS["qv"])
