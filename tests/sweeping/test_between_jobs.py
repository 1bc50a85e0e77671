"""What jobs that run one after the other in one process leave to each other: nothing."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from train_command import ENVIRONMENT, WORDS

from lightning_lora.sweeping.between_jobs import BetweenJobs
from lightning_lora.sweeping.composing import job_folder

# Python's own collector is off, so what is given back is what the callback gives back.
SWEEP = """
import gc, sys, weakref
from lightning_lora.cli import train
from lightning_lora.sweeping.between_jobs import BetweenJobs

born, counts, give_back = weakref.WeakSet(), [], BetweenJobs.on_job_end

def counting(self, config, job_return):
    from lightning_lora.training import LoRAClassifier
    gc.disable()
    before = sum(isinstance(thing, LoRAClassifier) for thing in gc.get_objects())
    give_back(self, config, job_return)
    after = sum(isinstance(thing, LoRAClassifier) for thing in gc.get_objects())
    counts.append((before, after))

BetweenJobs.on_job_end = counting
try:
    train.main(sys.argv[1:])
finally:
    print("ALIVE", counts)
"""


class InACircle:
    """Holds on to itself, as model and trainer hold on to one another."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(params=[RunMode.MULTIRUN, RunMode.RUN])
def mode(request: pytest.FixtureRequest) -> Iterator[RunMode]:
    before = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": {"mode": request.param}})
    yield request.param
    HydraConfig.instance().cfg = before


def ended(status: JobStatus) -> JobReturn:
    own = OmegaConf.create({"rank": 8})
    of_hydra = OmegaConf.create({"hydra": {"runtime": {"output_dir": "/sweep/job", "version": "1.3"}}})
    result = JobReturn(overrides=["rank=8"], cfg=own, hydra_cfg=of_hydra)
    result.status = status
    return result


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED])
def test_circles_are_freed_between_the_jobs_of_a_sweep(mode: RunMode, status: JobStatus) -> None:
    left = weakref.ref(InACircle())
    gc.disable()
    try:
        assert left() is not None, "only a collector can free a circle"
        BetweenJobs().on_job_end(DictConfig({}), ended(status))
        assert (left() is None) == (mode is RunMode.MULTIRUN)
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("mode", [RunMode.MULTIRUN], indirect=True)
@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED])
def test_of_a_finished_job_the_folder_is_kept_and_of_a_failed_one_its_settings_for_the_record(
    mode: RunMode, status: JobStatus
) -> None:
    result = ended(status)
    BetweenJobs().on_job_end(DictConfig({}), result)
    gc.unfreeze()
    assert job_folder(result.hydra_cfg) == Path("/sweep/job")
    assert result.overrides == ["rank=8"]
    if status is JobStatus.COMPLETED:
        assert (result.cfg, result.hydra_cfg) == (None, {"hydra": {"runtime": {"output_dir": "/sweep/job"}}})
    else:
        assert result.cfg == {"rank": 8}


def test_no_model_outlives_its_job(tmp_path: Path) -> None:
    """One that fails as well: its error holds on to the frames in which its model is."""
    words = ["-m", "lr=1e-3,1e30,2e-3", "lora.scaling=constant", "hydra.sweep.dir=sweep", *WORDS]
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, *words], cwd=tmp_path, env=ENVIRONMENT, text=True, capture_output=True
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("ALIVE"))
    counts = eval(line.removeprefix("ALIVE"))
    assert [after for _, after in counts] == [0, 0, 0], done.stderr
    assert all(before > 0 for before, _ in counts), "the control: it is alive until then"
    assert "[3/3]" in done.stdout
    assert done.returncode == 1, "one has failed"
