"""A finished run, used: the model that comes back from its folder says what the run's own predictions say."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from lightning_lora.backbone import load_backbone
from lightning_lora.cli import main as command
from lightning_lora.config import (
    DataConfig,
    LoggerConfig,
    LoraConfig,
    MergeConfig,
    RunConfig,
    TrainerConfig,
)
from lightning_lora.data import toy
from lightning_lora.data.files import DataError
from lightning_lora.predicting import evaluate, logits_of, predict_rows
from lightning_lora.reporting import read_predictions, read_record
from lightning_lora.restoring import restore, restore_adapter
from lightning_lora.running import run
from lightning_lora.tasks import TASKS

TASK = TASKS["toy_entailment"]
ROWS = toy.generate("toy_entailment", "validation", toy.VALIDATION_ROWS, 0)


def trained(folder: Path, task: str, **changes: object) -> Path:
    """A short run with every part of the folder."""
    config = RunConfig(
        epochs=1,
        lr=1e-2,
        data=DataConfig(task=task, train_rows=128, max_length=64, cache_dir=str(folder / "cache")),
        trainer=TrainerConfig(accelerator="cpu", progress_bar=False),
        logger=LoggerConfig(wandb="disabled"),
        **changes,  # type: ignore[arg-type]
    )
    run(config, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def entailment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    torch.manual_seed(0)
    return trained(tmp_path_factory.mktemp("entailment"), "toy_entailment")


@pytest.mark.parametrize("part", ["", "adapter", "merged"])
def test_the_restored_model_gives_the_recorded_logits(part: str, entailment: Path) -> None:
    expected = torch.from_numpy(read_predictions(entailment / "predictions.parquet").logits)
    back = restore(entailment / part)
    texts = tuple(_column(column) for column in TASK.text_columns)
    found = logits_of(back.backbone, texts, max_length=back.max_length)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_of_no_texts_there_are_no_logits(entailment: Path) -> None:
    nothing = tuple(pa.array([], pa.large_string()) for _ in TASK.text_columns)
    assert logits_of(restore(entailment).backbone, nothing, max_length=8).shape == (0, TASK.num_outputs)


@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_a_run_may_be_called_like_a_part_of_one(
    name: str, entailment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    shutil.copytree(entailment, folder)
    record = read_record(entailment)
    assert [restore(given).record for given in (folder, folder / "adapter", folder / "merged")] == [record] * 3
    assert restore_adapter(folder).trained is not None
    monkeypatch.chdir(folder / name)
    assert restore(Path()).record == record


def test_the_base_model_alone_does_not(entailment: Path) -> None:
    """The control, without the adapter and with a new head."""
    expected = torch.from_numpy(read_predictions(entailment / "predictions.parquet").logits[:50])
    backbone = load_backbone("tiny", TASK)
    texts = tuple(_column(column)[:50] for column in TASK.text_columns)
    assert not torch.allclose(logits_of(backbone, texts, max_length=64), expected, atol=1e-2)


def test_rows_keep_their_order_and_columns_whatever_their_length(entailment: Path) -> None:
    back = restore(entailment)
    rows = [{"id": f"r{i}", **{column: row[column] for column in TASK.text_columns}} for i, row in enumerate(ROWS[:70])]
    told = list(predict_rows(back, iter(rows), batch_size=2))
    assert [row["id"] for row in told] == [row["id"] for row in rows]
    expected = read_predictions(entailment / "predictions.parquet").logits[:70].argmax(1)
    assert [TASK.labels.index(row["prediction"]) for row in told] == expected.tolist()
    for row in told:
        probabilities = {label: row[f"probability_{label}"] for label in TASK.labels}
        assert sum(probabilities.values()) == pytest.approx(1)
        assert max(probabilities, key=probabilities.__getitem__) == row["prediction"]


def test_no_row_is_padded_where_the_model_runs_without(entailment: Path) -> None:
    """BERT, whose positions are absolute, has other logits behind padding."""
    back = restore(entailment)
    back.backbone.tokenizer.padding_side = "left"
    texts = tuple(_column(column) for column in TASK.text_columns)
    expected = torch.from_numpy(read_predictions(entailment / "predictions.parquet").logits)
    torch.testing.assert_close(logits_of(back.backbone, texts, max_length=64), expected, atol=1e-5, rtol=1e-5)


def test_no_more_rows_are_read_than_are_needed(entailment: Path) -> None:
    back = restore(entailment)
    read = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal read
        while True:
            read += 1
            yield {column: ROWS[0][column] for column in TASK.text_columns}

    next(predict_rows(back, endless(), batch_size=2))
    assert read == 2 * 32


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"premise": "a", "hypotesis": "b"}, "row 1: no column 'hypothesis'; did you mean 'hypotesis'"),
        ({"premise": "a", "hypothesis": None}, "row 1, column 'hypothesis': None is no text"),
        ({"premise": "a", "hypothesis": "b", "prediction": 1}, "'prediction' is one that prediction adds"),
    ],
)
def test_a_row_that_cannot_be_predicted(row: dict[str, object], said: str, entailment: Path) -> None:
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        list(predict_rows(restore(entailment), [row]))


def test_a_row_of_which_the_tokenizer_makes_nothing_has_no_prediction(entailment: Path) -> None:
    """As GPT-2's, which adds no special tokens, makes of an empty text."""
    back = restore(entailment)
    back.backbone.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B:1")
    rows = [{"premise": "", "hypothesis": "b"}] * 33 + [{"premise": "", "hypothesis": ""}]
    said = "row 34: this model's tokenizer makes no token of '' and ''; remove the row or give it a text"
    with pytest.raises(DataError, match=f"^{said}$"):
        list(predict_rows(back, rows, batch_size=1))


def test_predict_from_file_to_file(entailment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "rows.jsonl", tmp_path / "told.csv"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:10]))
    command.main(["predict", str(entailment), str(source), "--out", str(target)])
    lines = target.read_text().splitlines()
    assert lines[0].split(",")[-4:] == ["prediction", *(f"probability_{label}" for label in TASK.labels)]
    assert len(lines) == 11
    assert "10 rows predicted" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["rows.jsonl", "./here/../rows.jsonl"])
def test_predictions_do_not_replace_the_rows_they_are_of(
    out: str, entailment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps(row) + "\n" for row in ROWS[:2])
    (tmp_path / "here").mkdir()
    (tmp_path / "rows.jsonl").write_text(rows)
    with pytest.raises(SystemExit) as caught:
        command.main(["predict", str(entailment), str(tmp_path / "rows.jsonl"), "--out", out])
    assert caught.value.code == 2
    assert f"--out {out} is the input itself" in capsys.readouterr().err
    assert (tmp_path / "rows.jsonl").read_text() == rows
    (tmp_path / "told.jsonl").write_text("of an earlier model")
    command.main(["predict", str(entailment), "rows.jsonl", "--out", "told.jsonl"])
    assert len((tmp_path / "told.jsonl").read_text().splitlines()) == 2


def test_predict_ends_quietly_when_its_reader_has_enough(entailment: Path) -> None:
    program = f"from lightning_lora.cli.main import main; main(['predict', {str(entailment)!r}, '-'])"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write("".join(json.dumps(row) + "\n" for row in ROWS[:500]).encode())
        process.stdin.close()
        assert json.loads(process.stdout.readline())["prediction"] in TASK.labels
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 141)


def test_evaluate_gives_the_recorded_scores(entailment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["evaluate", str(entailment)])
    record = read_record(entailment)
    out = capsys.readouterr().out
    assert f"{record.score:.4f}" in out
    assert str(record.data["rows"]["validation"]) in out


def test_evaluate_on_a_labelled_file_of_any_name(
    entailment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labelled with the model's own predictions, the score is 1."""
    predictions = read_predictions(entailment / "predictions.parquet").logits.argmax(1)
    rows = [{**row, "label": int(label)} for row, label in zip(ROWS[:40], predictions, strict=False)]
    (tmp_path / "fresh.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command.main(["evaluate", str(entailment / "merged"), "--data", str(tmp_path / "fresh.jsonl")])
    assert {"fresh", "40", "1.0000"} <= set(capsys.readouterr().out.split())


def test_regression_predicts_numbers(tmp_path: Path) -> None:
    folder = trained(tmp_path, "toy_similarity", lora=LoraConfig(method="head", roles=[]))
    back = restore(folder)
    rows = toy.generate("toy_similarity", "validation", toy.VALIDATION_ROWS, 0)[:5]
    told = [row["prediction"] for row in predict_rows(back, rows)]
    expected = read_predictions(folder / "predictions.parquet").logits[:5, 0].tolist()
    assert told == pytest.approx(expected, abs=1e-5)


def test_list_shows_a_line_for_each_run(entailment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()  # what the run itself printed, where it was made for this test
    command.main(["list", str(entailment.parent)])
    (heading, line) = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["run", "task", "method"]
    assert line.split()[:3] == ["run", "toy_entailment", "qv"]
    assert "finished" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", "nowhere", "rows.csv"], "nowhere: there is no such run's folder"),
        (["predict", "RUN", "rows.csv"], "rows.csv: no such file"),
        (["predict", "RUN", "rows.txt"], ".txt is not one of the endings"),
        (["predict", "RUN", "EMPTY"], "is a folder; give a file with one of the endings .parquet, "),
        (["predict", "RUN", "-", "--out", "."], "error: . is a folder; give a file with one of the endings"),
        (["predict", "RUN"], "the following arguments are required: input; see lightning-lora predict --help"),
        (["predict", "RUN", "x.csv", "--batch-size", "0"], "'0' must be a whole number from 1"),
        (["evaluate", "RUN", "--data", "nowhere"], "--data nowhere: no such file"),
        (["list", "nowhere"], "there is no such folder"),
        (["list", "EMPTY"], "no run in it or below it"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    words: list[str], said: str, entailment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"RUN": str(entailment), "EMPTY": str(tmp_path)}
    with pytest.raises(SystemExit) as caught:
        command.main([names.get(word, word) for word in words])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_run_that_kept_no_model_says_what_to_do(entailment: Path, tmp_path: Path) -> None:
    method, merge = LoraConfig(method="head"), MergeConfig(save=False)
    head = trained(tmp_path, "toy_sentiment", lora=method, merge=merge)
    with pytest.raises(ValueError, match=r"kept no merged model; train it again with merge\.save=true$"):
        restore(head)
    with pytest.raises(ValueError, match=r"kept no adapter model; head trains none$"):
        restore(head / "adapter")
    adapted = tmp_path / "my run"
    shutil.copytree(entailment, adapted, ignore=shutil.ignore_patterns("merged"))
    with pytest.raises(ValueError, match=rf"kept no merged model; write it with lightning-lora merge '{adapted}'$"):
        restore(adapted / "merged")
    with pytest.raises(ValueError, match=rf"kept no merged-bf16 model; .* merge '{adapted}' --dtype bf16$"):
        restore(adapted / "merged-bf16")
    assert restore(adapted).folder == adapted  # the control


@pytest.mark.parametrize("use", [evaluate, lambda trained, **size: list(predict_rows(trained, ROWS, **size))])
def test_batches_of_no_row_are_refused(use: Callable[..., object], entailment: Path) -> None:
    """No prediction at all, without a word, was the answer."""
    with pytest.raises(ValueError, match="batch_size=0 must be 1 or more"):
        use(restore(entailment), batch_size=0)


def _column(name: str) -> pa.Array:
    return pa.array([row[name] for row in ROWS], pa.large_string())
