"""Runs that begin with what an earlier one left: its folder, its adapter, and what is refused."""

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from safetensors.torch import load_file, save_file
from short_runs import short_configuration

from lightning_lora import running
from lightning_lora.atomic import CannotWriteError
from lightning_lora.build import Run
from lightning_lora.config import DataConfig, LoraConfig, MergeConfig, ModelConfig, TrainerConfig
from lightning_lora.model_names import EMBEDDED_FOLDER
from lightning_lora.reporting import RunRecord, read_record
from lightning_lora.restoring import restore
from lightning_lora.running import run, run_once
from lightning_lora.training import Interrupted, JsonlLogger, NonFiniteError


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def finished(tmp_path: Path) -> tuple[RunRecord, Path]:
    return run(short_configuration(), tmp_path / "run"), tmp_path / "run"


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


class Pause(Callback):
    """Half a second for every batch."""

    def on_train_batch_start(self, *_: object) -> None:
        time.sleep(0.5)


def test_a_run_that_goes_on_has_taken_the_time_of_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six batches the first three take as long as the pauses, and are not repeated."""
    fit = running.fit

    def stopped(assembled: Run) -> None:
        assembled.trainer.fit_loop.max_epochs = 1
        assembled.trainer.callbacks.insert(0, Pause())
        fit(assembled)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "fit", stopped)
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run(short_configuration(epochs=2), tmp_path / "run")
    monkeypatch.setattr(running, "fit", fit)
    seconds = run(short_configuration(epochs=2), tmp_path / "run", resume=True).seconds
    assert 1.5 <= seconds["fit"] <= seconds["total"] - seconds["start_up"]
    assert seconds["total"] <= time.perf_counter() - began
    record = read_record(tmp_path / "run")
    assert record.examples_per_second == pytest.approx(48 / seconds["fit"])


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
    assert (folder / "metrics.jsonl").read_bytes() == log
    forced = short_configuration(model=ModelConfig(name=str(other)), resume_anyway=True)
    again = run(forced, folder, resume=True)
    assert again.base["fingerprint"] != record.base["fingerprint"]


def test_another_run_in_the_folder_leaves_nothing_of_the_first(finished: tuple[RunRecord, Path]) -> None:
    first, folder = finished
    assert {"adapter", "predictions.parquet"} < {path.name for path in folder.iterdir()}
    with pytest.raises(NonFiniteError):
        run(short_configuration(rank=2, lr=1e30), folder)
    record = read_record(folder)
    assert (record.status, record.config["rank"]) == ("diverged", 2)
    assert not {"adapter", "merged", "predictions.parquet"} & {path.name for path in folder.iterdir()}
    with pytest.raises(ValueError, match="the run has not finished, its status is 'diverged'"):
        restore(folder)
    assert first.job_id != record.job_id


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank": 1000}, "rank=1000 is larger than layer"),
        ({"lora": LoraConfig(cache_frozen_blocks=True)}, "cache_frozen_blocks"),
    ],
    ids=["by the model", "by the last that is wired"],
)
def test_a_run_that_is_refused_costs_no_earlier_work_and_tells_of_none(
    changes: dict[str, object], said: str, finished: tuple[RunRecord, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = finished
    before = contents(folder)
    capsys.readouterr()
    with pytest.raises(ValueError, match=said):
        run(short_configuration(**changes), folder)
    assert contents(folder) == before
    assert "finished" not in capsys.readouterr().out


@pytest.mark.parametrize("cause", ["a full disk", "Ctrl-C"])
def test_a_run_that_ends_before_its_first_step_does_not_say_that_it_runs(
    cause: str, finished: tuple[RunRecord, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = finished
    log = folder / "metrics.jsonl"
    if cause == "a full disk":
        log.unlink()
        log.symlink_to("/dev/full")
        expected: tuple[type[BaseException], str, str] = (CannotWriteError, "failed", "No space left")
    else:
        monkeypatch.setattr(JsonlLogger, "log_hyperparams", lambda *_: signal.raise_signal(signal.SIGINT))
        expected = (Interrupted, "interrupted", "stopped by SIGINT")
    with pytest.raises(expected[0]):
        run(short_configuration(), folder, resume=True)
    record = read_record(folder)
    assert record.status == expected[1]
    assert expected[2] in str(record.error)


class InStep(Callback):
    """Sends SIGTERM to this process in the midst of a step, or never."""

    def __init__(self, number: int | None) -> None:
        self._number = number

    def on_before_backward(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step + 1 == self._number:
            signal.raise_signal(signal.SIGTERM)


# Every tenth step is due in the log, and the last one.
@pytest.mark.parametrize("number", [9, 10, 12])
def test_a_run_that_is_stopped_in_any_step_goes_on_to_the_log_of_a_whole_one(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, stop_in = running.fit, InStep(None)

    def disturbed(assembled: Run) -> None:
        assembled.trainer.callbacks.append(stop_in)
        fit(assembled)

    monkeypatch.setattr(running, "fit", disturbed)
    settings = short_configuration(epochs=4)
    run(settings, tmp_path / "whole")
    stop_in = InStep(number)
    with pytest.raises(Interrupted):
        run(settings, tmp_path / "stopped")
    stop_in = InStep(None)
    run(settings, tmp_path / "stopped", resume=True)
    whole, stopped = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "stopped"))
    assert stopped == whole


def test_a_trial_of_one_batch_says_how_it_went_and_keeps_nothing(
    finished: tuple[RunRecord, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = finished
    before = contents(folder)
    capsys.readouterr()
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False, fast_dev_run=True)
    record = run(short_configuration(rank=2, trainer=trainer, merge=MergeConfig(save=True)), folder)
    assert record.status == "finished"
    assert contents(folder) == before
    assert "toy_sentiment: finished" in capsys.readouterr().out
    run(short_configuration(trainer=trainer), tmp_path / "trial")
    assert [path.name for path in (tmp_path / "trial").iterdir()] == [".lock"]


def test_a_finished_job_that_is_asked_for_its_merged_model_too_writes_it(tmp_path: Path) -> None:
    """And where there is no adapter to merge it says so; what is there stays."""
    saving = MergeConfig(save=True)
    run(short_configuration(merge=saving), tmp_path / "at_once")
    job = tmp_path / "sweep" / "job"
    run_once(short_configuration(merge=MergeConfig(save=False)), job)
    assert not (job / "merged").exists()

    _, was_there = run_once(short_configuration(merge=saving), job)
    assert was_there
    file = Path("merged", "model.safetensors")
    later, at_once = load_file(job / file), load_file(tmp_path / "at_once" / file)
    assert later.keys() == at_once.keys()
    assert all(torch.equal(later[name], at_once[name]) for name in later)

    elsewhere = tmp_path / "another_sweep" / "job"
    assert run_once(short_configuration(merge=saving), elsewhere)[1]
    assert (elsewhere / file).exists()

    tuned = tmp_path / "sweep" / "tuned"
    first, _ = run_once(short_configuration(merge=MergeConfig(save=False), lora=LoraConfig(method="bitfit")), tuned)
    with pytest.raises(ValueError, match="bitfit leaves no adapter to merge"):
        run_once(short_configuration(merge=saving, lora=LoraConfig(method="bitfit")), tuned)
    assert read_record(tuned) == first
    final = tmp_path / "final" / "tuned"
    assert not run_once(short_configuration(merge=saving, lora=LoraConfig(method="bitfit")), final)[1]
    assert (final / file).exists()
