"""A run's adapter merged into a plain folder: exact sums, rounded once, and what that changed."""

import gc
import json
import math
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_predicting import trained
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from lightning_lora.adapters_io import save_model_folder
from lightning_lora.atomic import CannotWriteError
from lightning_lora.backbone import load_backbone
from lightning_lora.cli import main as command
from lightning_lora.config import LoraConfig, ModelConfig
from lightning_lora.data import toy
from lightning_lora.lora.functional import round_once
from lightning_lora.merging import DTYPES, merge_run, rounding_in_ulps
from lightning_lora.model_names import EMBEDDED_FOLDER
from lightning_lora.reporting import read_predictions
from lightning_lora.restoring import restore
from lightning_lora.tasks import TASKS

OWN_TRUNCATION = {"direction": "Right", "max_length": 32, "strategy": "LongestFirst", "stride": 0}
OWN_PADDING = {"strategy": {"Fixed": 48}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
OWN_PADDING |= {"pad_type_id": 0, "pad_token": "[PAD]"}
ADAPTED = "bert.encoder.layer.2.attention.self.value.weight"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return trained(tmp_path_factory.mktemp("merging"), "toy_sentiment")


def exact_weight(run: Path) -> torch.Tensor:
    """W0 + scale · B A from the two files alone; alpha is twice the rank."""
    base = load_file(EMBEDDED_FOLDER / "model.safetensors")[ADAPTED].double()
    factors = load_file(run / "adapter" / "adapter_model.safetensors")
    layer = f"base_model.model.{ADAPTED.removesuffix('.weight')}"
    return base + 2.0 * factors[f"{layer}.lora_B.weight"].double() @ factors[f"{layer}.lora_A.weight"].double()


@pytest.mark.parametrize("own", [{}, {"truncation": OWN_TRUNCATION, "padding": OWN_PADDING}], ids=["tiny", "its own"])
def test_the_tokenizer_file_is_the_bases(own: dict[str, Any], tmp_path: Path) -> None:
    """As the tokenizers library reads it, which cuts and pads as the file says; all-MiniLM-L6-v2's does both."""
    base = shutil.copytree(EMBEDDED_FOLDER, tmp_path / "base")
    (base / "tokenizer.json").write_text(json.dumps(json.loads((base / "tokenizer.json").read_text()) | own))
    run = trained(tmp_path, "toy_sentiment", model=ModelConfig(name=str(base)))
    merge_run(run, tmp_path / "out")
    expected = Tokenizer.from_file(str(base / "tokenizer.json"))
    for folder in (run / "merged", tmp_path / "out"):
        found = Tokenizer.from_file(str(folder / "tokenizer.json"))
        assert (found.truncation, found.padding) == (expected.truncation, expected.padding)
        assert found.encode("the story was clever " * 30).ids == expected.encode("the story was clever " * 30).ids


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_weights_are_the_exact_sum_rounded_once(dtype: str, finished: Path, tmp_path: Path) -> None:
    report = merge_run(finished, tmp_path / "out", dtype=dtype)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {DTYPES[dtype]}
    exact = exact_weight(finished)
    assert torch.equal(stored[ADAPTED], round_once(exact, DTYPES[dtype]))
    assert not torch.equal(stored[ADAPTED], load_file(EMBEDDED_FOLDER / "model.safetensors")[ADAPTED].to(DTYPES[dtype]))
    assert 0.4 < report.largest_rounding <= 0.5
    assert report.rows == 1000


def test_the_model_is_kept_once_in_fp64(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted whenever a tensor is rounded: all fp64 values that Python holds."""
    model = restore(finished / "adapter").backbone.model
    size = 8 * sum(parameter.numel() for parameter in model.parameters())
    before, most = bytes_in_fp64(), 0

    def counted(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        nonlocal most
        most = max(most, bytes_in_fp64() - before)
        return round_once(exact, dtype)

    monkeypatch.setattr("lightning_lora.merging.round_once", counted)
    merge_run(finished, tmp_path / "out", dtype="bf16")
    assert 0.9 * size < most < 1.1 * size


def bytes_in_fp64() -> int:
    gc.collect()
    found = [value for value in gc.get_objects() if type(value) in (torch.Tensor, torch.nn.Parameter)]  # with memory
    storages = [value.untyped_storage() for value in found if value.dtype == torch.float64]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_a_disk_that_is_full_at_the_model_card_is_said_in_a_line(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file size limit stands in for it, from the moment at which the card is worded."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def card(*_: object) -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        return "a card of more than ten bytes"

    monkeypatch.setattr("lightning_lora.merging.model_card", card)
    try:
        with pytest.raises(CannotWriteError, match=r"out: File too large; raise the limit"):
            merge_run(finished, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == [], "what is not whole is not there"


def test_no_folder_but_the_runs_own_merged_one_is_replaced(finished: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.txt").write_text("mine")
    for out in (kept, finished, finished / "adapter", finished / "result.json"):
        with pytest.raises(ValueError, match="is there already; choose a folder that is not"):
            merge_run(finished, out)
    assert (kept / "thesis.txt").read_text() == "mine"
    assert (finished / "result.json").is_file()
    assert [merge_run(finished, finished / "merged").rows for _ in range(2)] == [1000, 1000]


def test_rounding_twice_would_have_shown() -> None:
    """1 + 2^-8 + 2^-30 lies above the middle of two bf16 numbers; fp32 puts it on the middle, and bf16 then below."""
    exact = torch.tensor([1 + 2**-8 + 2**-30], dtype=torch.float64)
    assert rounding_in_ulps(exact, round_once(exact, torch.bfloat16)) < 0.5
    assert rounding_in_ulps(exact, exact.float().to(torch.bfloat16)) > 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_unit_is_numpys_spacing(dtype: type[np.floating]) -> None:
    exact = torch.cat([torch.randn(2000, dtype=torch.float64) * 10.0**power for power in (-7, -3, 0, 3)])
    rounded = exact.numpy().astype(dtype)
    below = np.abs(exact.numpy()).astype(dtype)
    below = np.where(below > np.abs(exact.numpy()), np.nextafter(below, dtype(0)), below)  # the unit at the exact value
    expected = np.abs(rounded.astype(np.float64) - exact.numpy()) / np.spacing(below).astype(np.float64)
    assert rounding_in_ulps(exact, torch.from_numpy(rounded)) == pytest.approx(expected.max(), rel=1e-12)
    assert math.ulp(1.0) == torch.finfo(torch.float64).eps


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("bf16", 0.05)])
def test_plain_transformers_reads_the_folder(dtype: str, tolerance: float, finished: Path, tmp_path: Path) -> None:
    report = merge_run(finished, tmp_path / "out", dtype=dtype)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "negative", 1: "positive"}

    texts = [row["sentence"] for row in toy.generate("toy_sentiment", "validation", 1000, 0)]
    with torch.no_grad():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    expected = torch.from_numpy(read_predictions(finished / "predictions.parquet").logits)
    difference = float((logits - expected).abs().max())
    assert difference < tolerance
    assert report.max_logit_difference == pytest.approx(difference, rel=0.1, abs=1e-6)
    assert report.changed_predictions == int((logits.argmax(1) != expected.argmax(1)).sum())
    card = (tmp_path / "out" / "README.md").read_text()
    for fact in ("toy_sentiment", "qv, rank 8", "fingerprint", dtype, f"{report.rows} dev predictions"):
        assert fact in card


def test_the_command_says_what_it_did(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["merge", str(finished), "--dtype", "bf16"])
    out = capsys.readouterr().out
    assert "units in the last place" in out
    assert "of 1000 predictions changed" in out
    assert load_file(finished / "merged-bf16" / "model.safetensors")[ADAPTED].dtype == torch.bfloat16


def test_what_the_command_makes_of_an_adapter_lies_in_the_runs_folder(finished: Path) -> None:
    for _ in range(2):  # the run's own is replaced
        command.main(["merge", str(finished / "adapter"), "--dtype", "fp16"])
    assert load_file(finished / "merged-fp16" / "model.safetensors")[ADAPTED].dtype == torch.float16
    assert [path.name for path in (finished / "adapter").iterdir() if path.is_dir()] == []


def test_a_baseline_has_nothing_to_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path, "toy_sentiment", lora=LoraConfig(method="head", roles=[]))
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        command.main(["merge", str(folder)])
    assert caught.value.code == 2
    assert "the run kept no adapter model" in capsys.readouterr().err


def test_an_unknown_dtype_is_refused_before_the_run_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype='fp61' is unknown; choose one of fp32, bf16, fp16"):
        merge_run(tmp_path / "no_run", tmp_path / "out", dtype="fp61")


def test_another_base_is_refused(finished: Path, tmp_path: Path) -> None:
    """The run's record now names a base with one weight changed."""

    other = Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    weights["bert.encoder.layer.0.output.dense.bias"][3] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    record = json.loads((run / "result.json").read_text())
    record["base"]["name"] = str(other)
    (run / "result.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"another base model.*bert\.encoder\.layer\.0\.output\.dense\.bias"):
        merge_run(run, tmp_path / "out")
    with pytest.raises(ValueError, match="merged: a model of another base would stand for the run's own there"):
        merge_run(run, run / "merged", force=True)
    assert merge_run(run, tmp_path / "out", force=True).rows == 1000
    card = (tmp_path / "out" / "README.md").read_text()
    forced = restore(run / "adapter", force=True).backbone.fingerprint
    assert f"fingerprint {forced}. It is not the one that it was trained on, {record['base']['fingerprint']}" in card
    merge_run(finished, tmp_path / "own")
    assert "It is not" not in (tmp_path / "own" / "README.md").read_text(), "the control"


def test_a_narrow_model_of_the_run_is_used_by_its_folder(finished: Path) -> None:
    merge_run(finished / "adapter", finished / "merged-bf16", dtype="bf16")
    narrow = restore(finished / "merged-bf16").backbone.model.state_dict()[ADAPTED]
    assert torch.equal(narrow, round_once(exact_weight(finished), torch.bfloat16).float())


@pytest.mark.parametrize("name", ["toy_similarity", "toy_sentiment"])
def test_a_pipeline_tells_what_the_model_tells(name: str, tmp_path: Path) -> None:
    """Of one output a pipeline takes the sigmoid, unless the config says that it is a regression."""
    task = TASKS[name]
    backbone = load_backbone("tiny", task)
    save_model_folder(backbone.model, backbone.tokenizer, tmp_path / "out")
    text = "a good film"
    with torch.no_grad():
        logits = backbone.model.eval()(**backbone.tokenizer(text, return_tensors="pt")).logits[0]
    (told,) = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu")(text)
    expected = logits.softmax(0).max() if task.labels else logits[0]
    assert told["score"] == pytest.approx(float(expected), abs=1e-6)
    assert abs(float(logits[0].sigmoid()) - told["score"]) > 1e-3, "the control"
