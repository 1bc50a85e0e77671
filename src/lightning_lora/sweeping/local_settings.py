"""What the launcher for one machine is asked for, in a form that can be checked before anything is started."""
# ruff: noqa: RUF009 - the calls in the dataclass are all dataclasses.field, with a Setting as its metadata

from dataclasses import dataclass

from lightning_lora import settings
from lightning_lora.settings import ConfigError


@dataclass(kw_only=True)
class LocalSettings:
    """The keys of ``hydra.launcher`` with ``hydra/launcher=local``.

    Attributes:
        n_parallel: None is one for each GPU, or one where there is none.
        gpus: One for each job that runs; None is all that are there.
        retries: A job that is started again goes on from its last checkpoint.
        time_limit_minutes: A job that is out of time is asked to save and stop, and counts as failed.
    """

    n_parallel: int | None = settings.whole(None, 1, "jobs at a time")
    gpus: list[int] | None = settings.numbers(None, "GPUs to use, by their numbers")
    retries: int = settings.whole(0, 0, "how often a job whose process was killed is started again")
    time_limit_minutes: float | None = settings.positive(None, "minutes for each start of a job", "no limit")
    _target_: str = "hydra_plugins.lightning_lora.LocalLauncher"

    def __post_init__(self) -> None:
        settings.check(self, "hydra.launcher.")
        named = None if self.gpus is None else len(self.gpus)
        if named is not None and (self.n_parallel or 1) > named:
            key = "hydra.launcher.n_parallel"
            raise ConfigError(f"{key}={self.n_parallel} is not allowed: {key} must be at most {named}, the GPUs named")
