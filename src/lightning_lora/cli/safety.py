"""What a command line or an overlay must not do: carry a secret, name code to run, write outside its folder."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lightning_lora.settings import LONGEST_NAME, ConfigError, shown

SECRET_WORDS = frozenset(
    {"key", "keys", "apikey", "token", "tokens", "secret", "secrets", "password", "passwd", "credential", "credentials"}
)
# Prefixes that the services themselves give to their keys, and behind them what no name in words is like.
_SECRET_VALUE = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_|sk-|ghp_|github_pat_|glpat-|wandb_v1_|AKIA|xox[abp]-)(?=[a-z_-]*[A-Z0-9])[A-Za-z0-9_-]{12,}"
)
_NAME = re.compile(r"([\w.\-/+~@]+)\s*[=:]")
_ENVIRONMENT = re.compile(r"oc\.env:\s*([\w.\-]+)")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

TARGETS = frozenset(
    {
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        "hydra_plugins.lightning_lora.BetweenJobs",
        "hydra_plugins.lightning_lora.GridSweeper",
        "hydra_plugins.lightning_lora.LocalLauncher",
        "hydra_plugins.lightning_lora.OptunaSweeper",
        "hydra_plugins.lightning_lora.SlurmLauncher",
    }
)
"""Every class that a config may have instantiated: how Hydra starts jobs. What a run is made of is built in Python."""
PLUGINS = {"hydra/sweeper": ("grid", "optuna", "basic"), "hydra/launcher": ("basic", "local", "slurm")}
# logging.config.dictConfig imports and calls what stands under these two, and what follows ext://.
_LOGGING_CLASSES = frozenset({"logging.StreamHandler"})
_STREAMS = frozenset({"ext://sys.stdout", "ext://sys.stderr"})


def refuse_secrets(words: Sequence[str]) -> None:
    """Refuse a command line that seems to carry a key, a token, a password; the message does not repeat its value.

    Hydra writes the command line into three files of every run and W&B into five more.

    Raises:
        ConfigError: a name in it is a secret's, or a value has the form of one.
    """
    for word in words:
        names = _NAME.findall(word) + _ENVIRONMENT.findall(word)
        if "=" not in word:
            names.append(word)
        for name in names:
            if SECRET_WORDS & _words_of(name):
                raise ConfigError(
                    f"{shown(name.lstrip('+~'))} looks like a secret, and command lines end in files; "
                    "use the environment instead (WANDB_API_KEY, HF_TOKEN, or log in once)"
                )
        if _SECRET_VALUE.search(word):
            raise ConfigError(
                f"the value of '{shown(word.partition('=')[0])}' looks like a secret; use the environment instead "
                "(WANDB_API_KEY, HF_TOKEN, or log in once)"
            )


def _words_of(name: str) -> set[str]:
    parts = re.split(r"[._\-/+~@]", name)
    return {word.lower() for part in parts for word in (part, *_CAMEL.split(part))}


def refuse_targets(config: DictConfig) -> None:
    """Refuse a config that names code to be called, apart from `TARGETS`.

    Raises:
        ConfigError: a ``_target_`` or a class for logging is not on the list.
    """
    for path, key, value in _leaves(OmegaConf.to_container(config, resolve=False), ""):
        allowed = _allowed(path, key, value)
        if allowed is not None and value not in allowed:
            names = f"only {' or '.join(sorted(allowed))} may stand here" if allowed else "a config must not name code"
            raise ConfigError(f"{path}={shown(value)} is not allowed: {names}")


def refuse_other_plugins(config: DictConfig) -> None:
    """Refuse sweepers and launchers that other packages have installed: they know nothing of going on with a sweep.

    Args:
        config: A composed config with its ``hydra`` part.

    Raises:
        ConfigError: one is chosen.
    """
    for group, known in PLUGINS.items():
        if (chosen := config.hydra.runtime.choices[group]) not in known:
            hint = "; slurm is submitit's, and requeues" if "slurm" in chosen else ""
            raise ConfigError(f"{group}={shown(chosen)} is not supported: give one of {', '.join(known)}{hint}")


def _allowed(path: str, key: str, value: Any) -> frozenset[str] | None:
    """The values that may stand at a place where code could be named; None at any other place."""
    if isinstance(value, str) and value.startswith("ext://"):
        return _STREAMS
    if key == "_target_":
        return TARGETS if path.startswith("hydra.") else frozenset()
    if path.startswith(("hydra.job_logging.", "hydra.hydra_logging.")) and key in ("class", "()"):
        return _LOGGING_CLASSES if key == "class" else frozenset()
    return None


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    items: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        below = f"{path}.{key}" if path else str(key)
        yield below, str(key), value
        yield from _leaves(value, below)


def refuse_long_names(key: str, path: str | None) -> None:
    """Refuse a path that no file system takes.

    Raises:
        ConfigError: a part of it is longer than `LONGEST_NAME` bytes.
    """
    if any(len(part.encode(errors="surrogateescape")) > LONGEST_NAME for part in PurePath(path or "").parts):
        raise ConfigError(f"{key}={shown(path)} is not allowed: a name must be at most {LONGEST_NAME} bytes long")


def refuse_folders(config: DictConfig) -> None:
    """Refuse output folders that climb out of where they start, or that cannot be made.

    Args:
        config: A composed config with its ``hydra`` part, the number of the job filled in.

    Raises:
        ConfigError: a folder has ``..`` in it or a part longer than 255 bytes; the folder of a job is absolute; the
            output would lie in a file, or in a folder that may not be written to.
    """
    for key in ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir"):
        value = OmegaConf.select(config, key)
        parts = PurePath(str(value or "")).parts
        if ".." in parts:
            raise ConfigError(f"{key}={shown(value)} is not allowed: an output folder must not climb up with '..'")
        if key.endswith("subdir") and PurePath(str(value or "")).is_absolute():
            raise ConfigError(f"{key}={shown(value)} is not allowed: it must be a folder below the output folder")
        refuse_long_names(key, value)
    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        value = OmegaConf.select(config, key)
        folder = Path(str(value)).absolute()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir():
            raise ConfigError(f"{key}={shown(value)} is not allowed: {existing} is a file")
        if not os.access(existing, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise ConfigError(f"{key}={shown(value)} is not allowed: {existing} may not be written to")
