"""The launcher for one machine, with real processes."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import launched_jobs
import pytest
from hydra import initialize_config_module
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from launched_jobs import DEAF, EXITS, EXITS_EARLY, FINE, HANGS, KILLED, KILLED_EARLY, KILLED_ONCE, RAISES, THERE
from processes import descendants_of, until
from train_command import ENVIRONMENT, ROOT, WORDS

from lightning_lora.reporting import read_record, records_below, write_record
from lightning_lora.settings import ConfigError
from lightning_lora.sweeping import local, resolver
from lightning_lora.sweeping.local import LocalLauncher

Launch = Callable[..., dict[int, JobReturn]]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Launch a job for each seed, and give what became of them by seed."""

    def run(*seeds: int, **settings) -> dict[int, JobReturn]:
        resolver.register()
        launcher = LocalLauncher(**settings)
        with initialize_config_module("lightning_lora.conf", version_base="1.3", job_name="train"):
            loader = GlobalHydra.instance().config_loader()
            words = [f"hydra.sweep.dir={tmp_path}", "hydra.hydra_logging.root.level=ERROR"]
            config = loader.load_configuration("train", words, run_mode=RunMode.MULTIRUN)
            context = HydraContext(config_loader=loader, callbacks=Callbacks(config))
            launcher.setup(hydra_context=context, task_function=launched_jobs.job, config=config)
            results = launcher.launch([[f"seed={seed}"] for seed in seeds], initial_job_idx=0)
        return dict(zip(seeds, results, strict=True))

    return run


def folder_of(result: JobReturn) -> Path:
    return Path(result.hydra_cfg.hydra.runtime.output_dir)


def test_however_jobs_end_the_others_go_on(launch: Launch) -> None:
    results = launch(RAISES, KILLED, EXITS, HANGS, FINE, n_parallel=5, time_limit_minutes=0.05)
    assert {seed for seed, result in results.items() if result.status == JobStatus.COMPLETED} == {FINE}
    assert results[FINE].return_value == 0.5
    records = {seed: read_record(folder_of(result)) for seed, result in results.items()}
    assert {seed: record.status for seed, record in records.items()} == {
        FINE: "finished",
        RAISES: "failed",
        KILLED: "failed",
        EXITS: "failed",
        HANGS: "failed",
    }
    assert "SIGKILL" in (records[KILLED].error or "")
    assert "status 3" in (records[EXITS].error or "")
    assert "time_limit_minutes=0.05" in (records[HANGS].error or "")
    logs = {seed: (folder_of(result) / "job.log").read_text() for seed, result in results.items()}
    assert all(f"seed {seed} speaking" in log for seed, log in logs.items())


def test_killed_before_it_has_opened_its_record_a_job_tells_of_this_start(launch: Launch) -> None:
    folders = {seed: folder_of(result) for seed, result in launch(KILLED_EARLY, EXITS_EARLY, n_parallel=2).items()}
    for folder in folders.values():
        write_record(replace(read_record(folder), error="no such column"), folder)
    launch(*folders, n_parallel=2)
    told = {seed: read_record(folder).error for seed, folder in folders.items()}
    assert told[KILLED_EARLY] == "killed by SIGKILL, perhaps for want of memory"
    assert told[EXITS_EARLY] == "no such column", "a job that ends by itself records why"


def test_a_job_that_has_no_memory_says_so_in_its_record_and_its_log_and_the_others_go_on(tmp_path: Path) -> None:
    """Two GiB beside what is there when torch is imported: plenty for batches of eight."""
    program = (
        "import resource, sys; import lightning_lora.running; from lightning_lora.cli.main import main\n"
        "there = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (there + 2 * 2**30,) * 2); main(sys.argv[1:])\n"
    )
    sweep = ["-m", "hydra/launcher=local", "hydra.launcher.n_parallel=2", "hydra.sweep.dir=sweep"]
    words = ["train", *sweep, *WORDS, "data.train_rows=5000", "batch_size=8,5000", "trainer.max_steps=2"]
    command = [sys.executable, "-c", program, *words]
    ended = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    found = {record.config["batch_size"]: (record, folder) for folder, record in records_below(tmp_path).items()}
    assert {size: record.status for size, (record, _) in found.items()} == {8: "finished", 5000: "failed"}
    assert "can't allocate memory" in str(found[5000][0].error)
    logs = {size: (folder / "job.log").read_text().partition("Traceback")[2] for size, (_, folder) in found.items()}
    assert logs[8] == ""
    assert "can't allocate memory" in logs[5000]


def test_a_job_that_was_killed_is_started_again_as_often_as_asked(launch: Launch) -> None:
    results = launch(KILLED_ONCE, KILLED, n_parallel=2, retries=1)
    assert results[KILLED_ONCE].status == JobStatus.COMPLETED
    assert results[KILLED].status == JobStatus.FAILED
    logs = {seed: (folder_of(result) / "job.log").read_text() for seed, result in results.items()}
    assert logs[KILLED_ONCE].count("speaking") == logs[KILLED].count("speaking") == 2


def gpus_seen_by(result: JobReturn) -> str:
    return (folder_of(result) / "job.log").read_text().split("GPU ")[1].split()[0]


def test_each_job_that_runs_has_a_gpu_to_itself(launch: Launch) -> None:
    results = launch(10, 11, 12, gpus=[4, 7])
    seen = [gpus_seen_by(result) for result in results.values()]
    assert set(seen[:2]) == {"4", "7"}
    assert seen[2] in {"4", "7"}


@pytest.mark.parametrize("there", ["4,7", "GPU-5ebe9fa4,MIG-a5b1"])
def test_more_jobs_than_gpus_are_spread_over_them(there: str, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", there)
    results = launch(10, 11, 12, 13, n_parallel=4)
    one, other = there.split(",")
    assert sorted(gpus_seen_by(result) for result in results.values()) == [one, one, other, other]


@pytest.mark.parametrize("none", ["", "-1", "NoDevFiles"])
def test_where_gpus_are_hidden_there_is_none(none: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
    assert LocalLauncher().gpus == []
    assert LocalLauncher().n_parallel == 1


def test_a_job_that_was_there_is_said_to_be(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    results = launch(FINE, THERE)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    fine, there = (lines[folder_of(results[seed]).name] for seed in (FINE, THERE))
    assert (fine.endswith("77 s"), "was there" in fine) == (True, False)
    assert (there.endswith("77 s"), "was there" in there) == (False, True)


def logged(folder: Path, words: str) -> str:
    """Wait until a job of this sweep has printed these words; give all that it has printed."""
    logs = until(lambda: [text for log in folder.rglob("job.log") if words in (text := log.read_text())], words)
    return logs[0]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_jobs_and_stops_the_sweep(
    number: int, status: int, launch: Launch, tmp_path: Path
) -> None:
    def stop() -> None:
        logged(tmp_path, "speaking")
        os.kill(os.getpid(), number)

    threading.Thread(target=stop).start()
    with pytest.raises(SystemExit) as stopped:
        launch(HANGS, FINE, n_parallel=1)
    assert stopped.value.code == status
    # The job that ran is gone, and the other one never started.
    assert [read_record(path).config["seed"] for path in tmp_path.rglob("result.json")] == [HANGS]


@pytest.mark.parametrize(("signals", "grace"), [(2, 60.0), (1, 0.01)], ids=["asked twice", "out of grace"])
def test_a_job_that_does_not_stop_is_killed(
    signals: int, grace: float, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE", grace)

    def stop() -> None:
        logged(tmp_path, "deaf")
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    threading.Thread(target=stop).start()
    with pytest.raises(SystemExit) as stopped:
        launch(DEAF)
    assert stopped.value.code == 130
    process = int(logged(tmp_path, "deaf").split("process ")[1].split()[0])
    for child in multiprocessing.active_children():
        child.join(10)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["at the start", "in the midst"])
def test_ctrl_c_in_the_terminal_while_jobs_import_is_no_traceback(seconds: float, tmp_path: Path) -> None:
    """The terminal sends it to every process of its group, the one that forks the jobs included."""
    words = ["-m", "hydra/launcher=local", "hydra.sweep.dir=sweep", "seed=0,1", *WORDS]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE, start_new_session=True
    )
    while not any(b"forkserver" in command for command in commands_of_group(process.pid)):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (
        130,
        "sweep: stopped. The same command goes on with what is left of its 2 jobs.\n",
    )


def test_a_sigterm_to_every_process_lets_the_jobs_save(tmp_path: Path) -> None:
    """As who stops a machine or a service sends it: to the sweep, its jobs, and the process that forks them."""
    words = ["-m", "hydra/launcher=local", "hydra.launcher.n_parallel=2", "hydra.sweep.dir=sweep", "seed=0,1"]
    command = [sys.executable, str(ROOT / "train.py"), *words, *WORDS, "epochs=500"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE, start_new_session=True
    )
    while len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    for one in [process.pid, *descendants_of(process.pid)]:
        os.kill(one, signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143
    assert errors.endswith("sweep: stopped. The same command goes on with what is left of its 2 jobs.\n")
    records = [read_record(file.parent) for file in tmp_path.glob("sweep/*/result.json")]
    assert [(record.status, record.error) for record in records] == [("interrupted", "stopped by SIGTERM")] * 2
    assert not any("Error" in log.read_text() for log in tmp_path.glob("sweep/*/job.log"))


def commands_of_group(group: int) -> list[bytes]:
    """The command lines of the processes that a terminal's Ctrl-C would reach."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError, FileNotFoundError):
            if os.getpgid(int(process.name)) == group:
                found.append((process / "cmdline").read_bytes())
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"n_parallel": 0},
        {"retries": -1},
        {"time_limit_minutes": -1.0},
        {"time_limit_minutes": math.nan},
        {"gpus": []},
        {"gpus": [-1]},
        {"gpus": [0, 0]},
    ],
    ids=str,
)
def test_settings_that_are_not_allowed_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.launcher\..* must be"):
        LocalLauncher(**settings)


def test_more_jobs_than_gpus_that_are_named_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 1"):
        LocalLauncher(n_parallel=2, gpus=[0])
