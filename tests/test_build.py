"""Whole runs through `running.run` on the embedded encoder: the folder, the record, the same again, and failures."""

import csv
import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from lightning_lora import running
from lightning_lora.adapters_io import load_peft_folder, read_facts
from lightning_lora.backbone import EMBEDDED_FOLDER, load_backbone
from lightning_lora.build import Run, assemble, inspect
from lightning_lora.config import (
    DataConfig,
    LoggerConfig,
    LoraConfig,
    MergeConfig,
    ModelConfig,
    RunConfig,
    TrainerConfig,
)
from lightning_lora.data import TextDataModule
from lightning_lora.reporting import RunRecord, read_predictions, read_record
from lightning_lora.running import run
from lightning_lora.tasks import TASKS, score
from lightning_lora.training import Interrupted, NonFiniteError

TASK = TASKS["toy_sentiment"]


def configuration(**changes: object) -> RunConfig:
    """Six steps of eight rows, without W&B."""
    settings: dict[str, object] = {
        "epochs": 2,
        "batch_size": 8,
        "lr": 5e-3,
        "data": DataConfig(task="toy_sentiment", train_rows=24),
        "trainer": TrainerConfig(accelerator="cpu", progress_bar=False),
        "logger": LoggerConfig(wandb="disabled"),
        **changes,
    }
    return RunConfig(**settings)  # type: ignore[arg-type]


def short_configuration(**changes: object) -> RunConfig:
    """Three steps and sixteen dev rows, for what needs no score."""
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False, limit_val_batches=2)
    merge = MergeConfig(at_end=False, save=False)
    return configuration(**{"epochs": 1, "trainer": trainer, "merge": merge, **changes})


@pytest.fixture(autouse=True)
def _token_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_LORA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def finished(tmp_path: Path) -> tuple[RunRecord, Path]:
    return run(configuration(), tmp_path / "run"), tmp_path / "run"


def dev_batch() -> dict[str, torch.Tensor]:
    data = TextDataModule(TASK, load_backbone("tiny", TASK).tokenizer, batch_size=50)
    data.setup()
    batch = next(iter(data.val_dataloader()[0]))
    return {name: value for name, value in batch.items() if name not in ("labels", "idx")}


def test_a_budget_given_in_the_configuration_is_spent_exactly() -> None:
    """The embedded encoder: 4 blocks of width 128, the feed-forward four times as wide."""
    reports = [
        inspect(configuration(rank=20, lora=LoraConfig(roles=roles, same_parameters_as="all")))
        for roles in (["query", "value"], ["query", "key", "value", "output"], ["up", "down"])
    ]
    assert [{module.rank for module in report.modules} for report in reports] == [{90}, {45}, {36}]
    assert {report.totals.adapter for report in reports} == {20 * 18 * 128 * 4}
    with pytest.raises(ValueError, match="nearest rank"):
        inspect(configuration(rank=8, lora=LoraConfig(roles=["up", "down"], same_parameters_as="qv")))


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
    expected = torch.from_numpy(read_predictions(folder / "predictions.parquet").logits[:50])
    batch = dev_batch()
    merged = AutoModelForSequenceClassification.from_pretrained(folder / "merged").eval()
    base, ours = load_backbone("tiny", TASK).model, load_backbone("tiny", TASK)
    base_logits = base.eval()(**batch).logits
    load_peft_folder(ours.model.eval(), folder / "adapter", new=ours.new_parameters)
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
        load_peft_folder(other.model, folder / "adapter", new=other.new_parameters)


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
    assert not (tmp_path / "run" / "merged").exists()


def test_a_diverged_run_keeps_its_record_and_merges_nothing(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="lr="):
        run(configuration(lr=1e30), tmp_path / "run")
    record = read_record(tmp_path / "run")
    assert record.status == "diverged"
    assert "lr=" in (record.error or "")
    assert not (tmp_path / "run" / "merged").exists()
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_run_says_that_it_runs_and_goes_on_from_nothing_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of a process that was killed before its first checkpoint."""
    folder = tmp_path / "run"
    seen: list[str] = []
    fit = running.fit

    def watched(assembled: Run) -> None:
        seen.append(read_record(folder).status)
        fit(assembled)

    monkeypatch.setattr(running, "fit", watched)
    record = run(short_configuration(), folder, resume=True)
    assert (seen, record.status) == (["running"], "finished")
    assert record.score is not None


def test_a_run_starts_from_an_earlier_runs_adapter_with_a_head_of_its_own(
    finished: tuple[RunRecord, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, source = finished
    seen: dict[str, dict[str, torch.Tensor]] = {}
    fit = running.fit

    def watched(assembled: Run) -> None:
        trained = {name: p for name, p in assembled.backbone.model.named_parameters() if p.requires_grad}
        seen[key] = {name: p.detach().clone() for name, p in trained.items()}
        fit(assembled)

    monkeypatch.setattr(running, "fit", watched)
    task = DataConfig(task="toy_entailment", train_rows=24)
    key = "cold"
    cold = run(short_configuration(data=task), tmp_path / "cold")
    key = "warm"
    warm = run(short_configuration(data=task, warm_start=str(source)), tmp_path / "warm")

    kept = load_file(source / "adapter" / "adapter_model.safetensors")
    for name, value in seen["warm"].items():
        if ".adapters." in name:
            layer, _, factor = name.partition(".adapters.default.")
            assert torch.equal(value, kept[f"base_model.model.{layer}.lora_{factor}.weight"])
            assert not torch.equal(value, seen["cold"][name]), "the control: without it they start elsewhere"
        else:
            assert torch.equal(value, seen["cold"][name]), "the head is new, and the same as without"
            assert not torch.equal(value, kept[f"base_model.model.{name}"])
    start = warm.base["warm_start"]
    assert (start["run"], start["task"]) == (str(source), earlier.task)
    assert cold.base["warm_start"] is None
    assert warm.job_id != cold.job_id

    shutil.copytree(source / "adapter", tmp_path / "elsewhere")
    key = "moved"
    moved = run(short_configuration(data=task, warm_start=str(tmp_path / "elsewhere")), tmp_path / "moved")
    assert moved.job_id == warm.job_id, "what counts is what is in it, not where it lies"
    assert moved.metrics == warm.metrics
    other = run(short_configuration(seed=3), tmp_path / "other")
    again = run(short_configuration(data=task, warm_start=str(tmp_path / "other")), tmp_path / "again")
    assert again.base["warm_start"]["task"] == other.task
    assert again.job_id != warm.job_id


def test_a_run_that_goes_on_does_not_look_where_it_started_from(
    finished: tuple[RunRecord, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source = finished
    settings = {"epochs": 2, "warm_start": str(source)}
    whole = run(short_configuration(**settings), tmp_path / "whole")
    fit = running.fit

    def stopped(assembled: Run) -> None:
        assembled.trainer.fit_loop.max_epochs = 1
        fit(assembled)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(short_configuration(**settings), tmp_path / "stopped")
    monkeypatch.setattr(running, "fit", fit)
    shutil.rmtree(source)
    resumed = run(short_configuration(**settings), tmp_path / "stopped", resume=True)
    assert (resumed.job_id, resumed.metrics, resumed.base) == (whole.job_id, whole.metrics, whole.base)
    with pytest.raises(ValueError, match=r"warm_start=.*there is no adapter"):
        run(short_configuration(**settings), tmp_path / "anew")


def test_a_run_does_not_go_on_with_another_base(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record = run(short_configuration(), folder)
    other = tmp_path / "other"
    shutil.copytree(EMBEDDED_FOLDER, other)
    weights = load_file(other / "model.safetensors")
    name = next(name for name in sorted(weights) if "output.dense.weight" in name)
    weights[name][0, 0] += 1e-6
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    log = (folder / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=rf"another base model, \S*{name} is the first"):
        run(short_configuration(model=ModelConfig(name=str(other))), folder, resume=True)
    assert (folder / "metrics.jsonl").read_bytes().startswith(log), "nothing was cut off"
    forced = short_configuration(model=ModelConfig(name=str(other)), resume_anyway=True)
    again = run(forced, folder, resume=True)
    assert again.base["fingerprint"] != record.base["fingerprint"]


def test_a_rank_larger_than_the_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rank=129 is larger than layer"):
        run(configuration(rank=129), tmp_path / "run")


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


def test_inspecting_counts_what_a_run_counts(finished: tuple[RunRecord, Path]) -> None:
    record, _ = finished
    report = inspect(replace(configuration()))
    assert report.totals.as_dict() == record.parameters
    assert len(report.modules) == 8
    assert EMBEDDED_FOLDER.is_dir()


def test_a_job_managers_signal_is_handed_on_when_all_is_written(tmp_path: Path) -> None:
    """As submitit answers it: by requeueing, which ends the process."""
    seen: list[str] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: seen.append(read_record(tmp_path).status))
    last = tmp_path / "checkpoints" / "last.ckpt"

    def preempt() -> None:
        while not last.exists():
            time.sleep(0.001)
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


def test_in_slurm_lightning_does_not_requeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit does; and Lightning's own signal would save in the midst of a step."""
    variables = {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "7"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    control = Trainer(accelerator="cpu", logger=False)
    ours = assemble(short_configuration(), tmp_path).trainer
    requeues = [trainer._accelerator_connector.cluster_environment.auto_requeue for trainer in (control, ours)]
    assert requeues == [True, False]
