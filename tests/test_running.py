"""Whole runs through `running.run` on the embedded encoder: the folder, the record, the same again, and failures."""

import csv
import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from processes import until
from safetensors.torch import load_file
from short_runs import configuration, short_configuration
from transformers import AutoModelForSequenceClassification

from lightning_lora import running
from lightning_lora.adapters_io import load_peft_folder, read_facts
from lightning_lora.backbone import load_backbone
from lightning_lora.config import (
    DataConfig,
    LoraConfig,
    MergeConfig,
    RunConfig,
    TrainerConfig,
)
from lightning_lora.data import TextDataModule
from lightning_lora.reporting import RunRecord, read_predictions, read_record
from lightning_lora.running import run
from lightning_lora.tasks import TASKS, score
from lightning_lora.training import Interrupted, NonFiniteError
from lightning_lora.training.peak_memory import peak_bytes

TASK = TASKS["toy_sentiment"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Path]:
    """A run and its folder, which no test changes."""
    folder = tmp_path_factory.mktemp("finished")
    return run(configuration(), folder), folder


def dev_batch() -> tuple[dict[str, torch.Tensor], list[int]]:
    """The model's inputs for some dev rows, and which these are."""
    data = TextDataModule(TASK, load_backbone("tiny", TASK).tokenizer, batch_size=50)
    data.setup()
    batch = next(iter(data.val_dataloader()[0]))
    return {name: value for name, value in batch.items() if name not in ("labels", "idx")}, batch["idx"].tolist()


def test_the_folder_holds_what_is_promised(finished: tuple[RunRecord, Path]) -> None:
    record, folder = finished
    assert read_record(folder) == record
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {"result.json", "predictions.parquet", "adapter", "merged", "checkpoints", "metrics.jsonl"}
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (record.status, record.task, record.metric) == ("finished", "toy_sentiment", "accuracy")
    assert record.parameters["adapter"] == 2 * 4 * 8 * (128 + 128), "q and v of 4 layers, 128 wide, at rank 8"
    assert record.parameters["total"] == sum(
        record.parameters[kind] for kind in ("adapter", "head", "other_trainable", "frozen")
    )
    assert set(record.seconds) == {"start_up", "fit", "total"}


def test_the_score_is_that_of_the_predictions_on_disk(finished: tuple[RunRecord, Path]) -> None:
    record, folder = finished
    table = read_predictions(folder / "predictions.parquet")
    assert len(table.idx) == record.data["rows"]["validation"]
    recomputed = score(TASK, torch.from_numpy(table.logits), torch.from_numpy(table.labels))
    assert record.score == pytest.approx(recomputed["accuracy"])


def test_adapter_and_merged_model_give_the_predicted_logits_in_other_tools(finished: tuple[RunRecord, Path]) -> None:
    _, folder = finished
    batch, rows = dev_batch()
    expected = torch.from_numpy(read_predictions(folder / "predictions.parquet").logits[rows])
    merged = AutoModelForSequenceClassification.from_pretrained(folder / "merged").eval()
    base, ours = load_backbone("tiny", TASK).model, load_backbone("tiny", TASK)
    base_logits = base.eval()(**batch).logits
    load_peft_folder(ours.model.eval(), folder / "adapter", new_parameters=ours.new_parameters)
    adapted = PeftModel.from_pretrained(base, folder / "adapter").eval()  # type: ignore[arg-type]
    torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(adapted(**batch).logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.model(**batch).logits, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(base_logits, expected, atol=1e-2), "the control: an untrained head and base differ"


def test_the_adapter_knows_its_base_and_task(finished: tuple[RunRecord, Path]) -> None:
    record, folder = finished
    facts = read_facts(folder / "adapter")
    assert facts is not None
    assert (facts.task, facts.labels, facts.base_fingerprint) == (TASK.name, TASK.labels, record.base["fingerprint"])
    other = load_backbone("tiny", TASK)
    with torch.no_grad():
        next(other.model.parameters()).mul_(1 + 1e-6)
    with pytest.raises(ValueError, match=r"another base model .* 1 of its \d+ tensors differ"):
        load_peft_folder(other.model, folder / "adapter", new_parameters=other.new_parameters)


def test_the_merge_check_found_nothing_changed(finished: tuple[RunRecord, Path]) -> None:
    record, _ = finished
    assert record.merge_check is not None
    assert record.merge_check["changed_predictions"] == 0
    assert record.merge_check["rows"] == record.data["rows"]["validation"]
    assert 0 < record.merge_check["max_logit_difference"] < 1e-5


def test_the_same_again_is_the_same_to_the_bit_and_another_seed_is_not(
    finished: tuple[RunRecord, Path], tmp_path: Path
) -> None:
    first, folder = finished
    again = run(configuration(), tmp_path / "again")
    other = run(configuration(seed=1), tmp_path / "other")
    assert again.job_id == first.job_id != other.job_id
    assert (again.score, again.metrics) == (first.score, first.metrics)
    tables = [read_predictions(path / "predictions.parquet").logits for path in (folder, tmp_path / "again")]
    np.testing.assert_array_equal(*tables)
    weights = [load_file(path / "adapter" / "adapter_model.safetensors") for path in (folder, tmp_path / "again")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not np.array_equal(tables[0], read_predictions(tmp_path / "other" / "predictions.parquet").logits)


def test_its_peak_of_memory_is_not_that_of_what_the_process_did_before(tmp_path: Path) -> None:
    ballast = 2**31
    torch.ones(ballast, dtype=torch.uint8)
    before = peak_bytes(torch.device("cpu"))
    record = run(short_configuration(), tmp_path)
    assert record.peak_memory_bytes is not None
    assert record.peak_memory_bytes < before - ballast / 2


@pytest.mark.parametrize("method", ["head", "bitfit", "full"])
def test_baselines_run_without_an_adapter(method: str, tmp_path: Path) -> None:
    config = configuration(lora=LoraConfig(method=method, roles=[]))
    record = run(config, tmp_path / "run")
    assert record.status == "finished"
    assert record.merge_check is None
    assert not (tmp_path / "run" / "adapter").exists()
    assert (tmp_path / "run" / "merged" / "model.safetensors").exists()
    assert record.parameters["adapter"] == 0
    assert (record.parameters["other_trainable"] > 0) == (method != "head")


def test_max_steps_inside_an_epoch_still_ends_with_a_dev_pass(tmp_path: Path) -> None:
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False, max_steps=2)
    record = run(configuration(trainer=trainer, merge=MergeConfig(save=False)), tmp_path / "run")
    assert record.score is not None
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2, "of three in each of two epochs"
    assert not (tmp_path / "run" / "merged").exists()


def test_a_diverged_run_keeps_its_record_and_merges_nothing(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="lr="):
        run(configuration(lr=1e30), tmp_path / "run")
    record = read_record(tmp_path / "run")
    assert record.status == "diverged"
    assert "lr=" in (record.error or "")
    assert not (tmp_path / "run" / "merged").exists()
    assert not (tmp_path / "run" / "adapter").exists()


def test_the_users_own_task(tmp_path: Path) -> None:
    for split, rows in {"train": 24, "validation": 10}.items():
        with (tmp_path / f"{split}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["review", "verdict"])
            writer.writerows([f"the film number {i} was {'good' if i % 2 else 'bad'}", i % 2] for i in range(rows))
    data = DataConfig(
        task="custom",
        path=str(tmp_path),
        text_columns=["review"],
        label_column="verdict",
        labels=["bad", "good"],
        metrics=["accuracy", "f1"],
    )
    record = run(configuration(data=data), tmp_path / "run")
    assert set(record.metrics["validation"]) == {"accuracy", "f1", "loss"}
    config = json.loads((tmp_path / "run" / "merged" / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}


def test_a_job_managers_signal_is_handed_on_when_all_is_written(tmp_path: Path) -> None:
    """As submitit answers it: by requeueing, which ends the process."""
    seen: list[str] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: seen.append(read_record(tmp_path).status))
    last = tmp_path / "checkpoints" / "last.ckpt"

    def preempt() -> None:
        until(last.exists, "a checkpoint", pause=0.001)
        os.kill(os.getpid(), signal.SIGUSR2)

    slurm = threading.Thread(target=preempt)
    slurm.start()
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False, checkpoint_every=1)
    with pytest.raises(Interrupted, match="stopped by SIGUSR2"):
        run(configuration(epochs=20, trainer=trainer), tmp_path)
    slurm.join()
    signal.signal(signal.SIGUSR2, before)
    assert seen == ["interrupted"]
    assert read_record(tmp_path).error == "stopped by SIGUSR2"


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("started_by", "variables", "sees_what_the_first_left"),
    [
        ("Lightning", {}, True),
        ("torchrun", {"TORCHELASTIC_RUN_ID": "7"}, False),
        ("Slurm", {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "job"}, False),
    ],
)
def test_a_process_that_starts_with_the_first_discards_the_checkpoint_that_that_one_discards(
    started_by: str,
    variables: dict[str, str],
    sees_what_the_first_left: bool,
    resume: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[bool] = []

    def asked(_config: RunConfig, _folder: Path, goes_on: bool) -> None:
        found.append(goes_on)
        raise NotImplementedError

    monkeypatch.setattr(running, "assemble", asked)
    monkeypatch.setattr(running.rank_zero_only, "rank", 1, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotImplementedError):
        run(short_configuration(), tmp_path, resume=resume)
    assert found == [resume or sees_what_the_first_left], started_by
