"""W&B as a copy of the log. If it fails, wherever that is, there is one line of warning and training goes on."""

import logging
import os
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_lora.settings import first_line
from lightning_lora.spelling import check_known

LOG = logging.getLogger(__name__)
WandbMode = Literal["online", "offline", "disabled", "shared"]
MODES = ("auto", "offline", "online")
STEP = "trainer/global_step"


class GuardedWandbLogger(Logger):
    """One W&B run per logger; the process may hold several, one after the other or side by side.

    It speaks to ``wandb`` itself: Lightning's logger joins a run that is still open, never finishes one, and lets every
    error of W&B's end the training.
    """

    def __init__(
        self,
        save_dir: Path,
        *,
        mode: str = "auto",
        project: str = "lightning-lora",
        group: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        resume: bool = False,
    ) -> None:
        """Starts no run until there is something to log.

        Args:
            save_dir: W&B makes its folder ``wandb/`` in here.
            mode: "offline", "online", or "auto": what WANDB_MODE says, else online for a user who is logged in, else
                offline.
            project: W&B project.
            group: Name that holds the runs of a sweep together.
            name: Name of the run; None lets W&B make one up.
            tags: Labels of the run.
            resume: Whether to go on with the latest W&B run in ``save_dir``, if there is one, under its id.

        Raises:
            ValueError: an unknown mode.
        """
        super().__init__()
        check_known("logger.wandb", mode, MODES)
        self._save_dir, self._mode, self._project = save_dir, mode, project
        self._group, self._run_name, self._tags = group, name, tuple(tags)
        self._id = _latest_id(save_dir) if resume else None
        self._run: Any = None
        self._failed = False

    @property
    def name(self) -> str:
        return self._project

    @property
    def version(self) -> str | None:
        """The run's id; None before the first row, or where W&B failed."""
        return None if self._run is None else str(self._run.id)

    @property
    def save_dir(self) -> str:
        return str(self._save_dir)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, int | float], step: int | None = None) -> None:
        """Copy one row to the run."""
        row = {**metrics, STEP: step} if step is not None else dict(metrics)
        self._attempt(lambda run: run.log(row))

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Copy the hyper-parameters to the run's config."""
        values = vars(params) if isinstance(params, Namespace) else dict(params)
        self._attempt(lambda run: run.config.update(values, allow_val_change=True))

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        """Finish the run with the status of the job; nothing can be logged afterwards."""
        if self._run is not None:
            self._attempt(lambda run: run.finish(exit_code=exit_code))
        self._failed = True

    def _attempt(self, action: Callable[[Any], object]) -> None:
        if self._failed:
            return
        try:
            if self._run is None:
                self._run = self._start()
            action(self._run)
        except Exception as error:  # whatever W&B raises, it must not end a training run
            self._failed = True
            LOG.warning("W&B failed and is off for this run; metrics.jsonl goes on. %s", first_line(error))

    def _start(self) -> Any:
        import wandb  # not above: also an installation that cannot be imported must not end a training run

        self._save_dir.mkdir(parents=True, exist_ok=True)  # or W&B warns, and writes to the system's temporary folder
        run = wandb.init(
            project=self._project,
            group=self._group,
            name=self._run_name,
            tags=self._tags,
            dir=str(self._save_dir),
            mode=resolve_mode(self._mode),
            id=self._id,
            resume="allow" if self._id else None,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_code=True),
        )
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP)
        return run


def _latest_id(save_dir: Path) -> str | None:
    """The id of the run that was started last; W&B names its folders ``offline-run-<date>_<time>-<id>``."""
    folders = sorted((save_dir / "wandb").glob("*run-*_*-*"), key=lambda folder: folder.name.partition("run-")[2])
    return folders[-1].name.rpartition("-")[2] if folders else None


def resolve_mode(mode: str) -> WandbMode:
    """What "auto" means here and now; other modes are as they are."""
    if mode != "auto":
        return cast(WandbMode, mode)
    if chosen := os.environ.get("WANDB_MODE"):
        return cast(WandbMode, {"dryrun": "offline", "run": "online"}.get(chosen, chosen))
    return "online" if logged_in() else "offline"


def logged_in() -> bool:
    """Whether W&B has credentials. `wandb.login` would ask the server, wait for it, print, and rewrite settings."""
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    import wandb
    from wandb.sdk.lib.wbauth import read_netrc_auth

    return read_netrc_auth(host=wandb.setup().settings.base_url) is not None
