"""`python train.py`: check the command line, then go on with a run, or let Hydra run one job or a sweep."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lightning_lora.cli import arguments, failure, precheck, resume
from lightning_lora.cli.help import help_text
from lightning_lora.config import RunConfig, to_run_config


class JobFailedError(CompactHydraException):
    """A job of a sweep failed; Hydra runs the others and ends with status 1."""


@failure.answering_for_output()
def main(words: Sequence[str] | None = None) -> None:
    """Train.

    Args:
        words: What stands after the command's name; None reads it from ``sys.argv``.

    Raises:
        SystemExit: status 2 for a mistake of the user's, 143 or 130 where SIGTERM or SIGINT stopped it, 1 for any
            other failure.
    """
    given = list(sys.argv[1:] if words is None else words)
    if arguments.wants_help(given):
        print(help_text())
        return
    with failure.one_line_for_mistakes():
        checked = precheck.check(given)
    # Lightning starts one process for each further device with this very command line; to be warned once is enough.
    if checked.line.runs and os.environ.get("LOCAL_RANK", "0") == "0":
        for warning in checked.warnings:
            print(warning, file=sys.stderr)
    # Hydra reads sys.argv, and Lightning repeats it for the processes of DDP.
    sys.argv[1:] = [*checked.line.words(), *checked.sweep_words]
    if checked.line.runs and checked.configs[0].resume is not None:
        _go_on(checked, Path(checked.configs[0].resume))
    else:
        _start()


def _go_on(checked: precheck.Checked, folder: Path) -> None:
    with failure.one_line_for_mistakes():
        config = resume.config_of(checked, folder)
        if resume.is_finished(folder):
            print(f"{folder}: the run is finished; nothing is left to do")
            return
        _run(config, folder, resumed=True)


def job(config: DictConfig) -> float | None:
    """One job, as a launcher starts it: a run of its own, or one of a sweep.

    Returns:
        The score, which a sweeper that searches goes by.

    Raises:
        JobFailedError: a job of a sweep failed.
    """
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:
        return _job_of_sweep(config, folder)
    with failure.one_line_for_mistakes():
        return _run(to_run_config(config), folder)


def _job_of_sweep(config: DictConfig, folder: Path) -> float | None:
    from lightning_lora import running
    from lightning_lora.sweeping import progress
    from lightning_lora.sweeping.reuse import record_failure
    from lightning_lora.training.exceptions import NonFiniteError

    try:
        settings = to_run_config(config)
        settings.merge.save = bool(settings.merge.save)
        settings.logger.group = settings.logger.group or folder.parent.name
        settings.logger.name = settings.logger.name or folder.name
        record, was_there = running.run_once(settings, folder)
    except Exception as error:
        # Hydra shows the first failure only, and only after the last job.
        if not isinstance(error, NonFiniteError) and not failure.is_users_mistake(error):
            traceback.print_exception(error)
        values: Any = OmegaConf.to_container(config, resolve=True)
        progress.ended(record_failure(folder, values, running.reason_of(error)), folder)
        failed = JobFailedError(f"{folder.name}: {type(error).__name__}: {error}")
    else:
        progress.ended(record, folder, was_there)
        return record.score
    # Hydra keeps it to the end of the sweep. With its cause it would keep the job's model and data, too.
    raise failed


def _run(config: RunConfig, output_dir: Path, resumed: bool = False) -> float | None:
    from lightning_lora import running

    if config.merge.save is None:
        config.merge.save = config.merge.at_end
    return running.run(config, output_dir, resumed).score


_start = hydra.main(version_base="1.3", config_path="pkg://lightning_lora.conf", config_name="train")(job)
