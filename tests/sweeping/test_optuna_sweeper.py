"""`hydra/sweeper=optuna` on the real command line: real jobs, some of which diverge, and a search that is killed."""

import re
import shlex
import signal
import time
from dataclasses import asdict
from pathlib import Path

import optuna
import pytest
from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from train_command import start, to_the_end

from lightning_lora.cli import precheck
from lightning_lora.config import run_config_of
from lightning_lora.reporting import records_below
from lightning_lora.sweeping.names import asked_for
from lightning_lora.sweeping.search import JOURNAL

WORDS = [
    "data.train_rows=32",
    "trainer.max_steps=2",
    "trainer.limit_val_batches=1",
    "trainer.accelerator=cpu",
    "trainer.progress_bar=false",
    "logger=disabled",
]
SEARCH = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler=random", "hydra.sweep.dir=found"]
AXES = ["lr=1e-3,1e30", "lora.dropout=interval(0,0.1)"]


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def ended_in_a_job_after(ended: int, *words: str, cwd: Path, by: signal.Signals = signal.SIGKILL) -> int:
    """Send a signal to a search in the midst of a job, when so many of its trials have ended; its exit status."""
    process = start(*words, cwd=cwd)
    assert process.stdout is not None
    while ended:
        line = process.stdout.readline()
        assert line, process.communicate()
        ended -= line.startswith("trial ")
    while not any(
        record.status == "running" and (folder / "checkpoints" / "last.ckpt").exists()
        for folder, record in records_below(cwd).items()
    ):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(by)
    process.communicate()
    return process.returncode


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_to_the_trials_asked_for(tmp_path: Path) -> None:
    words = [*SEARCH, "hydra.sweeper.n_trials=5", *AXES, *WORDS]
    assert ended_in_a_job_after(2, *words, cwd=tmp_path) == -signal.SIGKILL
    *finished, cut_off = trials(tmp_path / "found")
    assert len(finished) == 2
    assert cut_off.state == TrialState.RUNNING
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "found").rglob("predictions.parquet")}

    status, output, errors = to_the_end(*words, cwd=tmp_path)
    assert status == 0, errors
    after = trials(tmp_path / "found")
    assert after[:2] == finished
    assert after[2].state == TrialState.FAIL
    assert after[3].params == cut_off.params, "its point is tried again"
    assert len(after) == 5 + 1
    assert all(path.stat().st_mtime_ns == before for path, before in written.items())

    # What the journal says is what the runs' records say, failures included.
    ended = [*after[:2], *after[3:]]
    diverged = [trial for trial in ended if trial.state == TrialState.FAIL]
    assert [trial for trial in ended if trial.params["lr"] == "1e+30"] == diverged != []
    scores = {record.score for record in records_below(tmp_path).values() if record.status == "finished"}
    done = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    assert {trial.value for trial in done} == scores
    best = max(done, key=lambda trial: trial.value or 0.0)
    assert f"5 of 5 trials ended, {len(done)} with a result, {len(diverged)} failed" in output
    command = output.splitlines()[-1].strip()
    assert f"lora.dropout={best.params['lora.dropout']}" in command

    # The command for the best configuration gives the best score.
    status, output, errors = to_the_end(*shlex.split(command)[2:], cwd=tmp_path)
    assert (status, errors) == (0, "")
    (single,) = records_below(tmp_path / "runs").values()
    assert single.score == best.value

    status, output, errors = to_the_end(*words, cwd=tmp_path)
    assert status == 0, errors
    assert "trial " not in output.partition("search in")[0], "nothing is left to do"
    status, _, errors = to_the_end(*words, "hydra.sweeper.seed=1", cwd=tmp_path)
    assert status == 2
    assert errors.splitlines()[-1].startswith("error: found holds a search with other settings (hydra.sweeper.seed=1)")


def test_a_trial_that_was_asked_to_stop_is_told_from_one_that_was_lost(tmp_path: Path) -> None:
    words = [*SEARCH, "hydra.sweeper.n_trials=1", "lr=1e-3,1e-4", *WORDS, "epochs=500"]
    assert ended_in_a_job_after(0, *words, cwd=tmp_path, by=signal.SIGTERM) == 143
    (stopped,) = trials(tmp_path / "found")
    assert (stopped.state, stopped.user_attrs) == (TrialState.RUNNING, {"stopped": True})


OVERLAY = """\
# @package _global_
defaults: [override /hydra/sweeper: optuna, override /data: toy_acceptability]
epochs: 2
batch_size: 8
lora: {layers: [0, 1]}
logger: {tags: ["with, a comma", "4", plain], name: "null"}
data: {train_rows: 16}
hydra: {sweeper: {n_trials: 1, params: {rank: 4, lr: 'interval(1e-4,1e-3)'}}}
"""


def test_a_search_that_an_overlay_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweeps").mkdir()
    overlay = tmp_path / "sweeps" / "mine.yaml"
    overlay.write_text(OVERLAY)
    words = ["-m", "+sweeps=mine", *WORDS[1:]]
    status, output, errors = to_the_end(*words, cwd=tmp_path)
    assert status == 0, errors

    # The command for the best configuration stands on its own: a single run with the same settings.
    command = shlex.split(output.splitlines()[-1])
    assert command[:2] == ["python", "train.py"]
    monkeypatch.chdir(tmp_path)
    checked = precheck.check(command[2:])
    (single,) = checked.configs
    (record,) = records_below(tmp_path).values()
    assert asked_for(asdict(single)) == asked_for(asdict(run_config_of(record.config)))
    assert (single.logger.tags, single.logger.name) == (["with, a comma", "4", "plain"], "null")
    assert not checked.sweep_words
    assert len(precheck.check(["-m", *command[2:], "seed=1,2"]).configs) == 2

    # What an overlay sets, the base model and the data are the search's own.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    status, _, errors = to_the_end(*words, "model.name=other", "data.path=other", cwd=tmp_path)
    assert (status, errors.splitlines()[-1]) == (
        2,
        "error: multirun/mine holds a search with other settings (data.path=other model.name=other); "
        "give hydra.sweep.dir=FOLDER for a new one",
    )
    overlay.write_text(OVERLAY.replace("epochs: 2", "epochs: 3"))
    assert "other settings (epochs=3)" in to_the_end(*words, cwd=tmp_path)[2]
    overlay.write_text(OVERLAY.replace("n_trials: 1", "n_trials: 1, n_jobs: 2"))
    status, output, errors = to_the_end(*words, "logger.project=other", cwd=tmp_path)
    assert (status, errors) == (0, ""), "the same search"
    assert output.startswith("search in multirun/mine: 1 of 1 trials ended"), "nothing is left to do"


def test_a_search_without_any_result_has_failed(tmp_path: Path) -> None:
    sizes = ["hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2"]
    status, output, errors = to_the_end(*SEARCH, *sizes, "lr=1e29,1e30", *WORDS, cwd=tmp_path)
    assert status == 1
    assert "2 of 2 trials ended, 0 with a result, 2 failed" in output
    assert {record.status for record in records_below(tmp_path).values()} == {"diverged"}, errors
    assert len(re.findall("^trial .: failed with ", output, re.MULTILINE)) == 2


def test_a_second_search_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    with FileLock(tmp_path / "found" / ".search.lock"):
        status, output, errors = to_the_end(*SEARCH, *AXES, *WORDS, cwd=tmp_path)
    assert (status, output) == (2, "")
    assert errors.splitlines()[-1] == (
        "error: found: another process is at work on this search; stop it first, or wait"
    )
