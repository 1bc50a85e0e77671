"""An adapter cut to what it uses: its error, its scores, the folder that it becomes, and what the command says."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_backbone import BERT_LIKE, save_base
from test_predicting import trained
from transformers import AutoModelForSequenceClassification

from lightning_lora.adapters_io import load_peft_folder
from lightning_lora.analysis import proposed_ranks, spectra
from lightning_lora.backbone import load_backbone
from lightning_lora.cli import main as command
from lightning_lora.config import LoraConfig, ModelConfig
from lightning_lora.conversion import import_loralib
from lightning_lora.inject import enable
from lightning_lora.predicting import evaluate
from lightning_lora.restoring import AdaptedBase, restore_adapter
from lightning_lora.tasks import TASKS
from lightning_lora.truncating import TRUNCATED, Truncation, truncate

TASK = TASKS["toy_sentiment"]
TINY_GPT2: dict[str, object] = {"vocab_size": 700, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}
TINY_GPT2 |= {"bos_token_id": 3, "eos_token_id": 3}
QUERY = "bert.encoder.layer.2.attention.self.query"
Cut = tuple[AdaptedBase, dict[str, int], Truncation, Path]
IDS = {"input_ids": torch.randint(5, 90, (4, 12), generator=torch.Generator().manual_seed(0))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return trained(tmp_path_factory.mktemp("truncating"), "toy_sentiment")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A loralib file's adapter of a tiny BERT, imported; no run belongs to it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("imported")
    save_base(folder / "base", "BertModel", "bert", BERT_LIKE)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder / "base", num_labels=3)
    state = {name: value for name, value in classifier.state_dict().items() if name.startswith("classifier")}
    for name, layer in classifier.named_modules():
        if name.endswith(("self.query", "self.value")):
            state[f"{name}.lora_A"] = torch.randn(4, layer.in_features)
            state[f"{name}.lora_B"] = torch.randn(layer.out_features, 4) * torch.tensor([1.0, 0.3, 0.1, 0.01])
    torch.save(state, folder / "lora.bin")
    import_loralib(folder / "lora.bin", folder / "ours", model=str(folder / "base"), alpha=8)
    return folder / "ours"


def dense(folder: Path, layer: str, scale: float) -> torch.Tensor:
    factors = load_file(folder / "adapter_model.safetensors")
    A, B = (factors[f"base_model.model.{layer}.lora_{factor}.weight"].double() for factor in "AB")
    return scale * B @ A


@pytest.fixture(scope="module")
def cut(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Cut:
    """The run's adapter at the ranks that keep 70 %, and where it was written."""
    adapted = restore_adapter(finished)
    ranks = proposed_ranks(spectra(adapted.backbone.model), 0.7)
    out = tmp_path_factory.mktemp("cut") / "cut"
    return adapted, ranks, truncate(adapted, ranks, out), out


def test_a_cut_layer_is_its_truncated_dense_svd(finished: Path, cut: Cut) -> None:
    _, ranks, report, folder = cut
    assert {layer.name: layer.rank for layer in report.report.layers} == ranks
    before, after = dense(finished / "adapter", QUERY, 2.0), dense(folder, QUERY, 1.0)
    U, S, Vh = torch.linalg.svd(before)
    rank = ranks[QUERY]
    assert rank < 8
    # The stored factors are rounded to fp32.
    torch.testing.assert_close(after, (U[:, :rank] * S[:rank]) @ Vh[:rank], rtol=1e-5, atol=1e-6 * float(S[0]))
    (layer,) = (layer for layer in report.report.layers if layer.name == QUERY)
    assert layer.error == pytest.approx(float((before - after).norm()), rel=1e-6)
    assert layer.error == pytest.approx(float(S[rank:].square().sum()) ** 0.5, rel=1e-5)
    assert report.parameters == (2 * 4 * 8 * 256, 256 * sum(ranks.values()))


def test_both_are_scored_on_what_the_run_was_scored_on(finished: Path, cut: Cut) -> None:
    adapted, _, report, _ = cut
    before, after = report.scores["validation"]
    assert before.metrics["accuracy"] == json.loads((finished / "result.json").read_text())["score"]
    assert after.rows == before.rows == 1000
    assert adapted.trained is not None
    assert evaluate(adapted.trained)["validation"] == after, "the cut adapter is the active one"


def test_plain_peft_and_this_package_open_the_folder_alike(cut: Cut) -> None:
    adapted, ranks, _, folder = cut
    assert len(set(ranks.values())) > 1, "ranks differ by layer"
    model, ours, base = adapted.backbone.model, load_backbone("tiny", TASK), load_backbone("tiny", TASK)
    expected = model(**IDS).logits
    load_peft_folder(ours.model.eval(), folder, new_parameters=ours.new_parameters)
    torch.testing.assert_close(ours.model(**IDS).logits, expected, rtol=1e-5, atol=1e-5)
    peer = PeftModel.from_pretrained(base.model, folder).eval()
    torch.testing.assert_close(peer(**IDS).logits, expected, rtol=1e-5, atol=1e-5)
    enable(model, "default")
    uncut = model(**IDS).logits
    enable(model, TRUNCATED)
    assert (expected - uncut).abs().max() > 1e-3, "the control: the uncut adapter says something else"


def test_the_command_on_a_run(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["spectrum", str(finished / "adapter"), "--truncate", str(tmp_path / "cut")])
    lines = capsys.readouterr().out.splitlines()
    found = {one.module: one for one in spectra(restore_adapter(finished).backbone.model)}
    (row,) = (line.split() for line in lines if line.startswith("layer 2 query "))
    expected = found[QUERY]
    assert row[3:7] == ["8", f"{expected.entropy_rank:.2f}", f"{expected.stable_rank:.2f}", str(expected.energy_rank())]
    assert any(line.startswith("rank 8 uses ") and " directions in layer " in line for line in lines)
    parameters = 256 * sum(proposed_ranks(list(found.values())).values())
    assert any(f"{parameters:,} of 16,384 adapter parameters" in line for line in lines)
    assert any(line.startswith("score     validation, 1000 rows: accuracy 0.") for line in lines)
    command.main(["spectrum", str(tmp_path / "cut"), "--energy", "1"])
    assert f"{parameters:,} of {parameters:,} adapter parameters, 0 % fewer" in capsys.readouterr().out


@pytest.mark.parametrize("roles", [["query", "value"], ["query", "key", "value"]], ids="-".join)
def test_of_a_fused_layer_the_size_is_the_records_and_a_cut_that_makes_it_grow_says_so(
    roles: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    save_base(tmp_path / "base", "GPT2Model", "gpt2", TINY_GPT2)
    load_backbone("tiny", TASK).tokenizer.save_pretrained(tmp_path / "base")
    model = ModelConfig(name=str(tmp_path / "base"))
    folder = trained(tmp_path, "toy_sentiment", model=model, lora=LoraConfig(roles=roles))
    parts, rank, layers, width = len(roles), 8, 2, 16
    before = json.loads((folder / "result.json").read_text())["parameters"]["adapter"]
    assert before == layers * parts * rank * (width + width)
    for energy in ("0.3", "1"):
        command.main(["spectrum", str(folder), "--energy", energy, "--truncate", str(tmp_path / energy)])
        text = capsys.readouterr().out
        file = load_file(tmp_path / energy / "adapter_model.safetensors")
        after = sum(int(value.count_nonzero()) for key, value in file.items() if ".lora_" in key)
        assert f"size      {before:,} adapter parameters before, {after:,} after" in text
        if energy == "1":
            assert after > before
            assert f"{after:,} adapter parameters, more than the {before:,} that it has" in text
            assert f"{after:,} after, so it is no smaller" in text
        else:
            assert f"{after:,} of {before:,} adapter parameters, {100 - 100 * after / before:.0f} % fewer" in text
            assert "no smaller" not in text


def test_an_imported_adapter_has_spectra_and_no_dev_set(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["spectrum", str(imported), "--energy", "0.99", "--truncate", str(tmp_path / "cut")])
    text = capsys.readouterr().out
    assert "layer 0 query" in text
    assert "not taken: the adapter comes without a run" in text
    config = json.loads((tmp_path / "cut" / "adapter_config.json").read_text())
    assert config["r"] in (2, 3)
    assert restore_adapter(tmp_path / "cut").facts is not None


@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_an_imported_adapter_may_be_called_like_a_part_of_a_run(name: str, imported: Path, tmp_path: Path) -> None:
    shutil.copytree(imported, tmp_path / name)
    assert restore_adapter(tmp_path / name).trained is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["NOWHERE"], "there is no such run's folder"),
        (["RUN/merged"], "a merged model has no adapter any more"),
        (["RUN", "--energy", "0"], "'0' must be a number above 0, up to 1"),
        (["RUN", "--energy", "much"], "'much' must be a number above 0, up to 1"),
        (["RUN", "--truncate", "RUN"], "is there already"),
        (["STRANGER"], "lightning-lora import-peft finds out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_in_one_line(
    words: list[str], message: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = shutil.copytree(finished / "adapter", tmp_path / "stranger")
    (stranger / "lightning_lora.json").unlink()
    places = {"NOWHERE": str(tmp_path / "nowhere"), "RUN": str(finished), "STRANGER": str(stranger)}
    with pytest.raises(SystemExit) as exit_info:
        command.main(["spectrum", *(places.get(word, word.replace("RUN", str(finished))) for word in words)])
    printed = capsys.readouterr()
    assert exit_info.value.code == 2
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_run_that_kept_no_adapter_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path, "toy_sentiment", lora=LoraConfig(method="head", roles=[]))
    with pytest.raises(SystemExit):
        command.main(["spectrum", str(folder)])
    assert "the run kept no adapter model" in capsys.readouterr().err
    assert "spectra" not in (folder / "metrics.jsonl").read_text(), "a baseline has none to log"
