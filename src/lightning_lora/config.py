"""The typed schema of a run: every key with its default, its meaning and what it may be.

The schema checks itself when Hydra's config becomes objects (`to_run_config`), so a value from the command line, from
a group file and from an overlay is checked alike. Names that rooms needing torch own stand here as tuples, because a
command line must be refused before torch is loaded; tests/test_config.py compares them with those rooms.
"""
# ruff: noqa: RUF009 - the calls in the dataclasses are all dataclasses.field, with a Setting as its metadata

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from lightning_lora import settings
from lightning_lora.data_config import DataConfig
from lightning_lora.settings import ConfigError
from lightning_lora.spelling import did_you_mean
from lightning_lora.targets import ROLE_SETS, Role

WITH_FROZEN_BASE = ("lora", "head")
METHODS = (*WITH_FROZEN_BASE, "bitfit", "full")
SCALINGS = ("alpha_over_rank", "alpha_over_sqrt_rank", "constant")
INITIALISATIONS = ("kaiming", "gaussian")
LARGEST_SCALE = 2**20
SCHEDULES = ("linear", "cosine", "constant")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
FROZEN_BASE_PRECISIONS = ("auto", "bf16-frozen")
PRECISIONS = (*FROZEN_BASE_PRECISIONS, "32-true", "16-mixed", "bf16-mixed", "64-true")
PROFILERS = ("simple", "advanced", "pytorch")
WANDB_MODES = ("auto", "offline", "online", "disabled")


@dataclass(kw_only=True)
class LoraConfig:
    """Which layers get an adapter, of what kind; or a baseline without one."""

    method: str = settings.one_of("lora", METHODS, "what is trained besides the new head")
    roles: list[str] = settings.some_of(["query", "value"], [role.value for role in Role], "projections to adapt")
    modules: list[str] | None = settings.texts(
        None,
        "layers instead of roles: full names or last parts; `lightning-lora inspect 'lora.modules=[x]'` lists them",
    )
    layers: Any = settings.blocks("blocks to adapt; null is all")
    exclude: list[str] = settings.texts([], "layers to leave out: full names or their last parts, as for lora.modules")
    same_parameters_as: str | None = settings.one_of(
        None, tuple(ROLE_SETS), "spend what these projections would at this rank, by other ranks"
    )
    scaling: str = settings.one_of(
        "alpha_over_rank", SCALINGS, "rule for the scale of the adapter's output; constant is alpha itself"
    )
    initialisation: str = settings.one_of("kaiming", INITIALISATIONS, "how the factors start, ΔW at 0")
    dropout: float = settings.fraction(0.0, "dropout on the adapter's input")
    cache_frozen_blocks: bool = settings.flag(
        False, "compute blocks below the first adapted one once, without dropout, and keep their outputs on disk"
    )

    def __post_init__(self) -> None:
        settings.check(self, "lora.")
        if self.layers is not None:
            self.layers = settings.parse_blocks(self.layers)
        given = [
            name
            for name in ("modules", "layers", "exclude", "same_parameters_as", "dropout", "cache_frozen_blocks")
            if getattr(self, name)
        ]
        if self.method != "lora" and given:
            raise ConfigError(f"lora.{given[0]} has no effect with lora.method={self.method}; leave it out")
        if self.method == "lora" and not self.roles and not self.modules:
            raise ConfigError("lora.roles=[] leaves nothing to adapt: name roles, or layers with lora.modules=[...]")


@dataclass(kw_only=True)
class ModelConfig:
    """The pretrained model."""

    name: str = settings.text("tiny", "hub id, local folder, or tiny (comes with this package)")
    revision: str | None = settings.text(None, "branch, tag or commit on the hub")

    def __post_init__(self) -> None:
        settings.check(self, "model.")
        self.name = os.path.expanduser(self.name)


@dataclass(kw_only=True)
class OptimConfig:
    """AdamW and its schedule."""

    weight_decay: float = settings.not_negative(0.01, "decay of weights; biases and norms are left out")
    betas: list[float] = settings.fractions([0.9, 0.999], "decay rates of AdamW's moments", 2)
    eps: float = settings.positive(1e-8, "AdamW's epsilon")
    warmup_ratio: float = settings.fraction(0.06, "share of the steps with rising learning rate")
    schedule: str = settings.one_of("linear", SCHEDULES, "what the learning rate does after the warm-up")
    lora_plus_ratio: float = settings.positive(1.0, "learning rate of B over that of A (LoRA+)")
    head_lr: float | None = settings.positive(None, "learning rate of the head", "the same as lr")
    clip_norm: float = settings.not_negative(1.0, "largest gradient norm; 0 for no clipping")

    def __post_init__(self) -> None:
        settings.check(self, "optim.")


@dataclass(kw_only=True)
class TrainerConfig:
    """What is handed to Lightning's Trainer."""

    accelerator: str = settings.one_of("auto", ACCELERATORS, "kind of device")
    devices: Any = settings.devices(1, "how many devices, or which")
    num_nodes: int = settings.whole(1, 1, "machines")
    strategy: str = settings.one_of("auto", STRATEGIES, "how several devices share the work")
    precision: str = settings.one_of("auto", PRECISIONS, "number format; auto: frozen base in bf16 where native")
    max_steps: int = settings.whole(-1, 1, "optimizer steps after which to stop; -1 is no limit", also=-1)
    accumulate_grad_batches: int = settings.whole(
        1, 1, "batches per optimizer step; the last of an epoch, of fewer, weighs less"
    )
    limit_train_batches: Any = settings.batches(
        1.0, "training batches per epoch, a number or a share: 1.0 is all, 1 is one"
    )
    limit_val_batches: Any = settings.batches(1.0, "dev batches per pass, a number or a share: 1.0 is all, 1 is one")
    overfit_batches: Any = settings.batches(
        0.0, "train on these few batches, and measure on as many of the dev split", or_none=True
    )
    fast_dev_run: bool = settings.flag(False, "one batch of everything; no model and no record kept")
    profiler: str | None = settings.one_of(None, PROFILERS, "measure where the time goes")
    early_stopping_patience: int | None = settings.whole(None, 1, "epochs without a better score before stopping")
    checkpoint_every: int | None = settings.whole(None, 1, "steps between checkpoints; null is one an epoch")
    deterministic: bool = settings.flag(False, "only deterministic kernels on a GPU")
    cuda_graphs: bool = settings.flag(False, "replay training steps on a GPU: faster, new")
    progress_bar: bool = settings.flag(True, "show progress")

    def __post_init__(self) -> None:
        settings.check(self, "trainer.")
        for key in ("limit_train_batches", "limit_val_batches"):
            limit = getattr(self, key)
            is_all = limit == 1.0 and isinstance(limit, float)  # 1 is one batch
            if self.overfit_batches and not is_all:
                raise ConfigError(
                    f"trainer.{key}={settings.shown(limit)} has no effect with trainer.overfit_batches="
                    f"{settings.shown(self.overfit_batches)}, which limits both splits; leave one of them out"
                )


@dataclass(kw_only=True)
class LoggerConfig:
    """Weights & Biases, and what is logged; the run's own record is written whatever stands here."""

    wandb: str = settings.one_of(
        "auto", WANDB_MODES, "auto is what WANDB_MODE says, else online where you are logged in, else offline"
    )
    project: str = settings.text(
        "lightning-lora",
        "W&B project",
        "a name of at most 128 characters without / \\ # ? % :",
        lambda value: len(value) <= 128 and not set(value) & set("/\\#?%:"),
    )
    group: str | None = settings.text(None, "W&B group", "at most 128 characters", lambda value: len(value) <= 128)
    name: str | None = settings.text(None, "W&B run name", "at most 128 characters", lambda value: len(value) <= 128)
    tags: list[str] = settings.texts([], "W&B tags")
    spectrum: bool = settings.flag(True, "log how many directions each adapter uses, with every dev score")

    def __post_init__(self) -> None:
        settings.check(self, "logger.")


@dataclass(kw_only=True)
class MergeConfig:
    """Folding the trained adapter into the weights at the end."""

    at_end: bool = settings.flag(
        True, "check the merged model against the adapted one when training ends; needed for merge.save"
    )
    save: bool | None = settings.flag(None, "write merged/; null is yes for a single run, no in a sweep")

    def __post_init__(self) -> None:
        settings.check(self, "merge.")
        if self.save and not self.at_end:
            raise ConfigError("merge.save=true has no effect with merge.at_end=false; leave one of them out")


@dataclass(kw_only=True)
class RunConfig:
    """Everything that one training run needs to know."""

    rank: int = settings.whole(8, 1, "rows of A, columns of B")
    alpha: float | None = settings.positive(None, "numerator of the scale", "2 · rank", LARGEST_SCALE)
    lr: float = settings.positive(1e-3, "highest learning rate")
    seed: int = settings.whole(0, 0, "seed of everything random", high=2**32 - 1)
    epochs: int = settings.whole(3, 1, "passes over the training rows")
    batch_size: int = settings.whole(32, 1, "rows per batch and device")
    warm_start: str | None = settings.text(
        None, "folder of a run, or of an imported adapter, that this one's adapter starts from, with a new head"
    )
    resume: str | None = settings.text(None, "folder of a run to go on with, by its own settings")
    resume_anyway: bool = settings.flag(False, "go on even where base model or data have changed")
    lora: LoraConfig = field(default_factory=LoraConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    merge: MergeConfig = field(default_factory=MergeConfig)

    def __post_init__(self) -> None:
        settings.check(self)
        self.warm_start = self.warm_start and os.path.expanduser(self.warm_start)
        self.resume = self.resume and os.path.expanduser(self.resume)
        if self.warm_start is not None and self.lora.method != "lora":
            raise ConfigError(f"warm_start has no effect with lora.method={self.lora.method}; leave it out")
        if self.trainer.precision == "bf16-frozen" and (method := self.lora.method) not in WITH_FROZEN_BASE:
            raise ConfigError(f"trainer.precision=bf16-frozen needs a frozen base, which lora.method={method} has not")
        if self.lora.cache_frozen_blocks and self.trainer.precision == "64-true":
            raise ConfigError("lora.cache_frozen_blocks=true keeps fp32; leave out trainer.precision=64-true")
        if self.lora.cache_frozen_blocks and self.trainer.cuda_graphs:
            raise ConfigError("trainer.cuda_graphs=true has no effect with lora.cache_frozen_blocks=true")
        of_ragged = {
            "lora.cache_frozen_blocks": self.lora.cache_frozen_blocks,
            "trainer.cuda_graphs": self.trainer.cuda_graphs,
        }
        for key, is_on in of_ragged.items():
            if is_on and not self.data.ragged:
                raise ConfigError(f"{key}=true needs batches without padding; leave out data.ragged=false")


# The folder in which the package's sweeps/ lies, in a clone and where it is installed; conf/train.yaml names it.
OmegaConf.register_new_resolver(
    "folder_of_shipped_sweeps", lambda: str(Path(str(files("lightning_lora.sweeps"))).parent), replace=True
)
# In a group of its own, so that it is no option of any group that a user chooses from.
ConfigStore.instance().store(group="schema", name="run", node=RunConfig, package="_global_")


def to_run_config(config: DictConfig) -> RunConfig:
    """Turn a composed config into checked objects.

    Args:
        config: What Hydra composed from conf/, with or without its own ``hydra`` part.

    Raises:
        ConfigError: a key is unknown (OmegaConf would drop it without a word) or a value is not allowed.
    """
    known = RunConfig.__dataclass_fields__
    plain = copy.deepcopy(config)
    with read_write(plain), open_dict(plain):
        plain.pop("hydra", None)
    for key in map(str, plain):
        if key not in known:
            raise ConfigError(f"unknown key '{settings.shown(key)}'{did_you_mean(key, known)}")
    run = OmegaConf.to_object(plain)
    assert isinstance(run, RunConfig), "the schema stands first in conf/train.yaml"
    return run


def run_config_of(values: Mapping[str, Any]) -> RunConfig:
    """The checked configuration that a run's folder holds as plain values.

    Raises:
        ConfigError: a value is not allowed, or of another version's schema.
    """
    try:
        run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), dict(values)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"the run's settings are not of this version: {settings.first_line(error)}") from error
    assert isinstance(run, RunConfig), "merged into the schema"
    return run


def with_settings(config: RunConfig, changed: Mapping[str, Any]) -> RunConfig:
    """A checked configuration with some settings, by their full names, changed.

    Raises:
        ConfigError: a value is not allowed, or does not go with the others.
    """
    sections: dict[str, dict[str, Any]] = {}
    for key, value in changed.items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section, {})[name] = value
    top = sections.pop("", {})
    return replace(config, **top, **{name: replace(getattr(config, name), **inner) for name, inner in sections.items()})


@cache
def schema_settings() -> dict[str, settings.Setting]:
    """Every key of the schema by its full name, the top-level ones first."""
    found = {}
    for entry in fields(RunConfig):
        if "setting" in entry.metadata:
            found[entry.name] = entry.metadata["setting"]
            continue
        assert callable(entry.default_factory), "what is not a setting is a section"
        for inner in fields(entry.default_factory()):
            found[f"{entry.name}.{inner.name}"] = inner.metadata["setting"]
    return found
