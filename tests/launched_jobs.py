"""Jobs for the tests of launchers: each ends as its seed says. In a module, so that another process can import it."""

import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lightning_lora.config import to_run_config
from lightning_lora.reporting import RunRecord, write_record
from lightning_lora.sweeping import progress, resolver

resolver.register()
FINE, RAISES, KILLED, HANGS, EXITS, KILLED_ONCE, DEAF, THERE, KILLED_EARLY, EXITS_EARLY = range(10)


def job(config: DictConfig) -> float:
    """Write a record, having done what the seed says."""
    settings = to_run_config(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    record = RunRecord(job_id="x", status="running", config=asdict(settings), task="toy_sentiment", metric="accuracy")
    if settings.seed == KILLED_EARLY:
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.seed == EXITS_EARLY:
        sys.exit(3)
    first = not (folder / "result.json").exists()
    write_record(record, folder)
    print(f"seed {settings.seed} speaking, GPU {os.environ.get('CUDA_VISIBLE_DEVICES')}")
    if settings.seed == RAISES:
        raise RuntimeError("a fault in the program")
    if settings.seed == KILLED or (settings.seed == KILLED_ONCE and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.seed == DEAF:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(f"process {os.getpid()} is deaf")
    if settings.seed in (HANGS, DEAF):
        time.sleep(600)
    if settings.seed == EXITS:
        sys.exit(3)
    ended = RunRecord(**{**asdict(record), "status": "finished", "score": 0.5, "seconds": {"total": 77.0}})
    write_record(ended, folder)
    progress.ended(ended, folder, was_there=settings.seed == THERE)
    return 0.5
