"""`python train.py`: check the command line, then go on with a run, or let Hydra run one job or a sweep."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from lightning_lora.cli import arguments, failure, precheck, resume
from lightning_lora.cli.help import help_text
from lightning_lora.config import RunConfig, to_run_config
from lightning_lora.settings import ConfigError


class JobFailed(CompactHydraException):
    """A job of a sweep failed; Hydra runs the others and ends with status 1."""


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
    try:
        checked = precheck.check(given)
    except ConfigError as error:
        failure.refuse(error)
    # Lightning starts one process for each further device with this very command line; one warning is enough.
    if checked.line.runs and checked.warning and os.environ.get("LOCAL_RANK", "0") == "0":
        print(checked.warning, file=sys.stderr)
    # Hydra reads sys.argv, and Lightning repeats it for the processes of DDP.
    sys.argv[1:] = checked.line.words()
    if checked.line.runs and checked.configs[0].resume is not None:
        _go_on(checked, Path(checked.configs[0].resume).expanduser())
    else:
        _job()


def _go_on(checked: precheck.Checked, folder: Path) -> None:
    try:
        config = resume.config_of(checked, folder)
        if resume.is_finished(folder):
            print(f"{folder}: the run is finished; nothing is left to do")
            return
        _run(config, folder, sweep=False, resumed=True)
    except Exception as error:
        if failure.is_users_mistake(error):
            failure.refuse(error)
        raise


@hydra.main(version_base="1.3", config_path="pkg://lightning_lora.conf", config_name="train")
def _job(config: DictConfig) -> float | None:
    """The score, which a search maximises."""
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    folder = Path(HydraConfig.get().runtime.output_dir)
    resumed = sweep and (folder / "result.json").is_file() and not resume.is_finished(folder)
    try:
        return _run(to_run_config(config), folder, sweep, resumed)
    except Exception as error:
        mistake = failure.is_users_mistake(error)
        if sweep:
            _report(error, mistake)
            raise JobFailed(f"job {HydraConfig.get().job.num} failed: {type(error).__name__}: {error}") from error
        if mistake:
            failure.refuse(error)
        raise


def _run(config: RunConfig, output_dir: Path, sweep: bool, resumed: bool = False) -> float | None:
    # Torch and what stands on it take seconds to import: no other command, and no mistake, waits for them.
    from lightning_lora import running

    if config.merge.save is None:
        config.merge.save = config.merge.at_end and not sweep
    return running.run(config, output_dir, resumed).score


def _report(error: Exception, mistake: bool) -> None:
    """Print a job's failure when it happens: Hydra shows the first one only, and only after the last job."""
    if mistake:
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)


if __name__ == "__main__":
    main()
