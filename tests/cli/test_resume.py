"""`resume=RUN` on the real command line: stopped by a signal, a run goes on to the result it would have had."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from train_command import ENVIRONMENT, EQUAL, ROOT, WORDS, start, to_the_end

from lightning_lora.cli import precheck, resume
from lightning_lora.cli.train import main
from lightning_lora.config import RunConfig
from lightning_lora.reporting import RunRecord, read_record, write_record
from lightning_lora.settings import ConfigError


def stopped_in_training(
    number: int, folder: Path, *words: str, cwd: Path, whole_group: bool = False
) -> tuple[int, str, str]:
    """Send a signal as soon as the run has taken its first steps, to the process or to its group."""
    process = start(*words, cwd=cwd, new_session=whole_group)
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.killpg(process.pid, number) if whole_group else process.send_signal(number)
    output, errors = process.communicate()
    return process.returncode, output, errors


def results(folder: Path) -> dict[str, object]:
    record = read_record(folder)
    files = [folder / "predictions.parquet", folder / "metrics.jsonl", *sorted((folder / "adapter").iterdir())]
    return {name: getattr(record, name) for name in EQUAL} | {file.name: file.read_bytes() for file in files}


def rows(folder: Path) -> list[str]:
    """The log without its head, which holds the settings."""
    return (folder / "metrics.jsonl").read_text().splitlines()[1:]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, object]:
    status, _, errors = to_the_end(*WORDS, "hydra.run.dir=whole", cwd=place)
    assert status == 0, errors
    return results(place / "whole")


def test_a_run_that_sigterm_stopped_goes_on_to_the_same_result(place: Path, whole: dict[str, object]) -> None:
    folder = place / "a run"
    words = [*WORDS, "hydra.run.dir='a run'"]
    status, output, errors = stopped_in_training(signal.SIGTERM, folder, *words, cwd=place)
    assert (status, errors) == (143, "")
    assert output.splitlines()[-1] == f"go on with: python train.py resume='{folder}'"
    record = read_record(folder)
    assert (record.status, record.error, record.score) == ("interrupted", "stopped by SIGTERM", None)
    assert not (folder / "adapter").exists()

    status, _, errors = to_the_end("resume=a run", "data.num_workers=2", "trainer.progress_bar=true", cwd=place)
    assert (status, errors) == (0, "")
    assert results(folder) == whole
    assert read_record(folder).config["data"]["num_workers"] == 2

    status, output, errors = to_the_end("resume=a run", cwd=place)
    assert (status, output, errors) == (0, "a run: the run is finished; nothing is left to do\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_of_a_run_spares_its_workers(
    number: signal.Signals, place: Path, whole: dict[str, object]
) -> None:
    """As `timeout` and a terminal send it. A worker that died of it would end the run in the midst of a step."""
    folder = place / number.name
    words = [*WORDS, f"hydra.run.dir={number.name}", "data.num_workers=2"]
    status, _, errors = stopped_in_training(number, folder, *words, cwd=place, whole_group=True)
    assert (status, errors) == (128 + number, "")
    assert read_record(folder).status == "interrupted"
    status, _, errors = to_the_end(f"resume={number.name}", cwd=place)
    assert (status, errors) == (0, "")
    same = {**whole, "metrics.jsonl": rows(place / "whole")}  # a log says at its head how many workers there were
    assert {**results(folder), "metrics.jsonl": rows(folder)} == same


def test_ctrl_c_ends_a_sweep_and_its_job_goes_on_alone(place: Path, whole: dict[str, object]) -> None:
    sweep = place / "sweep"
    words = ["-m", "seed=0,1", *WORDS, "logger.wandb=offline"]
    words += ["hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}"]
    status, _, errors = stopped_in_training(signal.SIGINT, sweep / "0", *words, cwd=place)
    assert (status, errors) == (130, "sweep: stopped. The same command goes on with what is left of its 2 jobs.\n")
    assert read_record(sweep / "0").status == "interrupted"
    assert not (sweep / "1").exists(), "the sweep has ended"
    status, _, errors = to_the_end("resume=sweep/0", cwd=place)
    assert (status, errors) == (0, "")
    # What a log says of itself at its head names the sweep.
    assert {**results(sweep / "0"), "metrics.jsonl": rows(sweep / "0")} == {
        **whole,
        "metrics.jsonl": rows(place / "whole"),
    }
    in_wandb = [folder.name.rpartition("-")[2] for folder in (sweep / "0" / "wandb").glob("offline-run-*")]
    assert len(in_wandb) == 2, "one for each start"
    assert len(set(in_wandb)) == 1, "under the same id"


def test_a_second_process_on_a_runs_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = start(*WORDS, f"hydra.run.dir={folder}", cwd=tmp_path)
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)  # so that it is at work for as long as the second takes
    try:
        status, _, errors = to_the_end(f"resume={folder}", cwd=tmp_path)
    finally:
        first.send_signal(signal.SIGCONT)
    assert (status, errors.splitlines()[-1]) == (
        2,
        f"error: {folder}: another process is at work on this run; stop it first, or wait",
    )
    first.communicate()
    assert first.returncode == 0
    assert read_record(folder).status == "finished"


TWICE = """
import os, signal, sys
from pathlib import Path
from lightning import Callback
from tiny_task import TinyData, tiny_module, tiny_trainer
from lightning_lora.training import StopOnSignal
from lightning_lora.training.callbacks import stop_on_signal

number, stop_on_signal._SAME_REQUEST = int(sys.argv[1]), float(sys.argv[2])

class Ask(Callback):
    def on_before_backward(self, *_):
        os.kill(os.getpid(), number)
        print("goes on", flush=True)
        os.kill(os.getpid(), number)
        print("went on", flush=True)

with StopOnSignal() as stop:
    tiny_trainer(Path.cwd(), callbacks=[stop, Ask()]).fit(tiny_module(), datamodule=TinyData())
"""


@pytest.mark.parametrize(
    ("number", "window", "status", "said"),
    [
        (signal.SIGINT, 3600, -signal.SIGINT, ["goes on"]),
        (signal.SIGTERM, 0, -signal.SIGTERM, ["goes on"]),
        (signal.SIGTERM, 3600, 128 + signal.SIGTERM, ["goes on", "went on"]),
    ],
    ids=["Ctrl-C", "SIGTERM", "the same SIGTERM"],
)
def test_a_second_request_ends_it_at_once(
    number: int, window: float, status: int, said: list[str], tmp_path: Path
) -> None:
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT / 'tests'}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", TWICE, str(int(number)), str(window)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (status, said), done.stderr


def run_folder(folder: Path, config: dict[str, object], status: str = "running") -> Path:
    folder.mkdir()
    write_record(RunRecord(job_id="0", status=status, config=config, task="t", metric="m"), folder)
    return folder


def config_of(folder: Path, *words: str) -> RunConfig:
    return resume.config_of(precheck.check([f"resume={folder}", *words]), folder)


def test_a_run_goes_on_by_its_own_settings(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", {"rank": 4, "lora": {"layers": [0, 1]}, "logger": {"project": "mine"}})
    config = config_of(folder, "logger=disabled", "data.num_workers=3", "merge.save=false", "resume_anyway=true")
    assert (config.rank, config.lora.layers, config.seed) == (4, (0, 1), 0)
    assert (config.logger.wandb, config.logger.project) == ("disabled", "mine")
    assert (config.data.num_workers, config.merge.save, config.resume, config.resume_anyway) == (3, False, None, True)


@pytest.mark.parametrize(
    "words", [["logger='disabled'"], ['logger="disabled"'], ["logger.wandb='disabled'"], ["logger.wandb=disabled"]]
)
def test_a_value_in_quotes_is_the_value(words: list[str], tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", {"logger": {"wandb": "offline", "project": "mine"}})
    config = config_of(folder, *words)
    assert (config.logger.wandb, config.logger.project) == ("disabled", "mine")


def test_a_section_changes_what_it_names_alone(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", {"merge": {"at_end": False}})
    merge = config_of(folder, "merge={save: false}").merge
    assert (merge.at_end, merge.save) == (False, False)


def test_a_run_that_has_no_record_yet_has_the_settings_that_hydra_wrote(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("rank: 16\nlora: {roles: [key]}\n")
    config = config_of(tmp_path)
    assert (config.rank, config.lora.roles) == (16, ["key"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rank=4"], "'rank=4' is not allowed with resume"),
        (["lora=q"], "'lora=q' is not allowed with resume"),
        (["trainer=cpu"], "'trainer=cpu' is not allowed with resume"),
        (["trainer.max_steps=5"], "'trainer.max_steps=5' is not allowed"),
        (["hydra.run.dir=x"], "'hydra.run.dir=x' is not allowed"),
        (["-m", "logger=disabled,offline"], "resume takes one run and no -m"),
        (["-m"], "resume takes one run and no -m"),
    ],
)
def test_other_settings_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(run_folder(tmp_path / "run", {}), *words)


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, message in ((tmp_path / "none", "not a run's folder"), (tmp_path / "odd", "cannot be read: ")):
        if folder.name == "odd":
            run_folder(folder, {"rnk": 4})
        with pytest.raises(SystemExit) as exit_:
            main([f"resume={folder}"])
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "result.json").write_text(json.dumps({"half": 1})[:-2])
    with pytest.raises(ConfigError, match=r"cannot be read: .* is not a run's record"):
        config_of(tmp_path / "none")
