"""The groups and options of conf/, as their files describe them."""

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from omegaconf import DictConfig, OmegaConf

OVERLAYS = ("recipe", "sweeps", "experiments")
"""Groups that are added with a plus, for they are no part of the defaults: ``+sweeps=rank_alpha``. Their options may
lie in folders; those of the last two also below the current directory."""
NOT_OPTIONS = frozenset({"sweeps/wandb"})
"""Folders in groups whose files are no options: definitions that W&B's agent reads."""


@cache
def groups() -> dict[str, dict[str, str]]:
    """Every group of conf/ with its options; each option with the first sentence line of its file's header.

    Those below conf/hydra choose how jobs are started, and are not part of a run.
    """
    found = {}
    for entry in sorted(files("lightning_lora.conf").iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and not entry.name.startswith("_") and entry.name not in ("hydra", *OVERLAYS):
            found[entry.name] = described(entry)
    return found


@cache
def shipped_sweeps() -> dict[str, str]:
    """The sweeps that come with the package, each with the first sentence line of its file's header."""
    return described(files("lightning_lora.sweeps"))


def default_options() -> dict[str, str]:
    """The option that each group has where none is chosen, as conf/train.yaml says."""
    primary = OmegaConf.create((files("lightning_lora.conf") / "train.yaml").read_text(encoding="utf-8"))
    chosen: dict[str, str] = {}
    for entry in OmegaConf.select(primary, "defaults"):
        if isinstance(entry, DictConfig):
            chosen |= {str(group): option for group, option in entry.items() if option in groups().get(str(group), {})}
    return chosen


def described(folder: Traversable) -> dict[str, str]:
    """The options that are files of a folder, with their descriptions."""
    options = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name
    )
    return {option.name.removesuffix(".yaml"): _description(option) for option in options}


def _description(option: Traversable) -> str:
    header = (line.lstrip("# ") for line in option.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next((line for line in header if not line.startswith("@")), "")
