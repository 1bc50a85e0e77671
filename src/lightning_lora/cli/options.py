"""The groups and options of conf/, as their files describe them."""

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from omegaconf import DictConfig, OmegaConf

OVERLAYS = ("sweeps", "experiments")
"""Groups that a user keeps below the current directory and adds with a plus: ``+sweeps=rank_alpha``."""


@cache
def groups() -> dict[str, dict[str, str]]:
    """Every group of conf/ with its options; each option with the first sentence line of its file's header.

    Those below conf/hydra choose how jobs are started, and are not part of a run.
    """
    found = {}
    for entry in sorted(files("lightning_lora.conf").iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and not entry.name.startswith("_") and entry.name != "hydra":
            found[entry.name] = {
                option.name.removesuffix(".yaml"): _description(option)
                for option in sorted(entry.iterdir(), key=lambda option: option.name)
                if option.name.endswith(".yaml")
            }
    return found


def default_options() -> dict[str, str]:
    """The option that each group has where none is chosen, as conf/train.yaml says."""
    primary = OmegaConf.create((files("lightning_lora.conf") / "train.yaml").read_text(encoding="utf-8"))
    chosen: dict[str, str] = {}
    for entry in OmegaConf.select(primary, "defaults"):
        if isinstance(entry, DictConfig):
            chosen |= {str(group): option for group, option in entry.items() if option in groups().get(str(group), {})}
    return chosen


def _description(option: Traversable) -> str:
    header = (line.lstrip("# ") for line in option.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next((line for line in header if not line.startswith("@")), "")
