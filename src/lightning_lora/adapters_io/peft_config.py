"""PEFT's adapter_config.json (LoraConfig of peft 0.21): what of it plain LoRA layers can express, and nothing else.

A key that asks for anything more is refused by its name, an unknown key as well unless its value asks for nothing: a
setting that is passed over would load another function than the one that was trained.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import regex
from torch import nn

from lightning_lora.adapters_io.peft_folder import CONFIG_FILE
from lightning_lora.adapters_io.safe_files import read_json_object
from lightning_lora.lora import LARGEST_SCALE, LoraSpec, routed_modules
from lightning_lora.settings import shown
from lightning_lora.spelling import did_you_mean

LARGEST_RANK = 2**16
LARGEST_ALPHA = float(LARGEST_SCALE * LARGEST_RANK)
SECONDS_FOR_A_NAME = 0.1
MOST_COUNTS, LARGEST_COUNT = 4, 99
"""Numbers in the braces of a pattern, which repeat what stands before them."""
BIASES = ("none", "all", "lora_only")

# Read below, or of no weight for what the adapter computes: where it came from, how it was initialised and trained.
# PEFT goes by the layer's class, as this package does, and overrules fan_in_fan_out where the two disagree.
_READ = {
    *("peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "bias"),
    "init_lora_weights",
}
_OF_NO_WEIGHT = {
    *("base_model_name_or_path", "revision", "peft_version", "auto_mapping", "inference_mode", "fan_in_fan_out"),
    *("megatron_core", "qalora_group_size", "runtime_config", "eva_config"),
}
# Other schemes (pissa, olora, corda, loftq, ...) change the base weights, or the layer itself.
_INITIALISATIONS_OF_A_AND_B = (True, False, None, "gaussian", "orthogonal", "eva", "mica")


@dataclass(frozen=True)
class PeftConfig:
    """The settings of a PEFT LoRA adapter.

    Attributes:
        rank: Rank where no pattern says otherwise.
        alpha: Alpha where no pattern says otherwise.
        dropout: Dropout of the adapter's input.
        rooted: Whether the scale is alpha / sqrt(rank) (rsLoRA) instead of alpha / rank.
        ranks: Ranks by regular expression for the end of a layer's name; the first that matches counts.
        alphas: The same for alpha.
        targets: Names of layers, full or last parts, or one regular expression for the full name, or "all-linear".
        exclude: Names or a regular expression of layers that are left out.
        blocks: Numbers of the blocks to adapt; None for all. A layer that ``targets`` names in full is in any.
        block_lists: Names of the lists of blocks that the numbers count in; empty for any.
        saved_modules: Ends of the names of modules that are saved whole.
        bias: Which biases were trained: "none", "all" or "lora_only".
        task_type: PEFT's name for the kind of task.
        base: Hub id or folder of the base model; None where it is not told.
        revision: The base's revision on the hub.
    """

    rank: int
    alpha: float
    dropout: float
    rooted: bool
    ranks: dict[str, int]
    alphas: dict[str, float]
    targets: str | tuple[str, ...]
    exclude: str | tuple[str, ...]
    blocks: frozenset[int] | None
    block_lists: tuple[str, ...]
    saved_modules: tuple[str, ...]
    bias: str
    task_type: str | None
    base: str | None
    revision: str | None

    def spec(self, layer: str) -> LoraSpec:
        """The settings of one layer, by its full name."""
        rank = _first_match(self.ranks, layer, self.rank)
        alpha = _first_match(self.alphas, layer, self.alpha)
        scaling = "alpha_over_sqrt_rank" if self.rooted else "alpha_over_rank"
        return LoraSpec(rank, alpha, self.dropout, scaling)

    def is_saved(self, module: str) -> bool:
        """Whether a module is saved whole. PEFT compares the ends of names, not at a dot."""
        return any(module.endswith(name) for name in self.saved_modules)

    def targeted(self, model: nn.Module) -> set[str]:
        """Full names of the layers that PEFT would adapt in ``model``.

        Raises:
            ValueError: a pattern is not a regular expression, or takes too long.
        """
        adapters = tuple(f"{name}.adapters" for name, _ in routed_modules(model))
        names = [name for name, _ in model.named_modules() if name and not name.startswith(adapters)]
        inside = [rf"(?:^|.*\.){name}(?:$|\..*)" for name in self.saved_modules]
        names = [name for name in names if not any(_match(pattern, name) for pattern in inside)]
        names = [name for name in names if not _named(name, self.exclude)]
        if self.targets == "all-linear":
            return self._all_linear(model, names)
        return {name for name in names if _named(name, self.targets) and self._in_blocks(name)}

    def _all_linear(self, model: nn.Module, names: Collection[str]) -> set[str]:
        """Every Linear and Conv1D but the output layer, or the head of a classifier where it is a single layer."""
        output = getattr(model, "get_output_embeddings", lambda: None)()
        if output is None and self.task_type == "SEQ_CLS":
            output = getattr(model, "classifier", getattr(model, "score", None))
        layers = {name: model.get_submodule(name) for name in names}
        return {
            name
            for name, layer in layers.items()
            if layer is not output and (isinstance(layer, nn.Linear) or "Conv1D" in type(layer).__name__)
        }

    def _in_blocks(self, name: str) -> bool:
        if self.blocks is None or isinstance(self.targets, str) or name in self.targets:
            return True
        patterns = [rf"(?:^|.*?\.){block_list}\.(\d+)\." for block_list in self.block_lists]
        found = (_match(pattern, name) for pattern in patterns or [r".*?\.[^.]*\.(\d+)\."])
        number = next((int(match[1]) for match in found if match), None)
        return number in self.blocks


def read_peft_config(folder: Path) -> PeftConfig:
    """Read and check ``adapter_config.json`` of a folder.

    Raises:
        ValueError: the file cannot be read, a value is out of its range, or a key asks for what plain LoRA layers
            cannot express.
    """
    path = folder / CONFIG_FILE
    raw = read_json_object(path)
    try:
        return _checked(raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _checked(raw: dict[str, Any]) -> PeftConfig:
    if raw.get("peft_type") != "LORA":
        raise ValueError(f"peft_type={shown(raw.get('peft_type'))} is not supported; it must be LORA")
    _refuse_the_inexpressible(raw)
    bias = raw.get("bias", "none")
    if bias not in BIASES:
        raise ValueError(f"bias={shown(bias)} must be one of {', '.join(BIASES)}")
    blocks = raw.get("layers_to_transform")
    told = {
        key: value if isinstance(value := raw.get(key), str) else None
        for key in ("task_type", "base_model_name_or_path", "revision")
    }
    if isinstance(raw.get("target_modules"), str) and blocks is not None:
        raise ValueError("layers_to_transform needs target_modules to be a list of names")
    return PeftConfig(
        rank=_rank(raw.get("r", 8)),
        alpha=_alpha(raw.get("lora_alpha", 8)),
        dropout=_dropout(raw.get("lora_dropout", 0.0)),
        rooted=_flag(raw, "use_rslora"),
        ranks={key: _rank(value) for key, value in _pattern(raw, "rank_pattern").items()},
        alphas={key: _alpha(value) for key, value in _pattern(raw, "alpha_pattern").items()},
        targets=_targets(raw),
        exclude=_names(raw, "exclude_modules"),
        blocks=_blocks(blocks),
        block_lists=_listed(raw, "layers_pattern"),
        saved_modules=_listed(raw, "modules_to_save"),
        bias=bias,
        task_type=told["task_type"],
        base=told["base_model_name_or_path"],
        revision=told["revision"],
    )


def _refuse_the_inexpressible(raw: dict[str, Any]) -> None:
    if raw.get("init_lora_weights") not in _INITIALISATIONS_OF_A_AND_B:
        raise ValueError(
            f"init_lora_weights={shown(raw['init_lora_weights'])} is not supported: such a scheme changes the base "
            "weights or the layer; convert the adapter to plain LoRA when saving it (PEFT: "
            "path_initial_model_for_weight_conversion)"
        )
    for key, value in raw.items():
        if key not in _READ | _OF_NO_WEIGHT and not _asks_for_nothing(value):
            raise ValueError(
                f"{shown(key)}={shown(value)} is not supported: a plain LoRA layer cannot express it, and leaving it "
                f"out would load another function{did_you_mean(key, _READ)}"
            )


def _asks_for_nothing(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def _flag(raw: dict[str, Any], key: str) -> bool:
    value = raw.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{key}={shown(value)} must be true or false")
    return value


def _rank(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_RANK:
        raise ValueError(f"rank {shown(value)} must be a whole number from 1 to {LARGEST_RANK}")
    return value


def _alpha(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= LARGEST_ALPHA:
        raise ValueError(f"alpha {shown(value)} must be a number above 0, at most {LARGEST_ALPHA:g}")
    return float(value)


def _dropout(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"lora_dropout={shown(value)} must lie in [0, 1)")
    return float(value)


def _pattern(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key) or {}
    if not isinstance(value, dict):
        raise ValueError(f"{key}={shown(value)} must be a mapping from layer names to numbers")
    for pattern in value:
        _check_pattern(key, pattern)
    return value


def _targets(raw: dict[str, Any]) -> str | tuple[str, ...]:
    targets = _names(raw, "target_modules")
    if not targets:
        raise ValueError("target_modules names no layers")
    if isinstance(targets, str) and targets.lower() == "all-linear":
        return "all-linear"
    return targets


def _names(raw: dict[str, Any], key: str) -> str | tuple[str, ...]:
    """Names as a list, or one regular expression as text; empty where there are none."""
    value = raw.get(key) or ()
    if isinstance(value, str):
        _check_pattern(key, value)
        return value
    return _listed(raw, key)


def _listed(raw: dict[str, Any], key: str) -> tuple[str, ...]:
    value = raw.get(key) or ()
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise ValueError(f"{key}={shown(value)} must be a list of names")
    return tuple(value)


def _blocks(value: Any) -> frozenset[int] | None:
    numbers = [value] if isinstance(value, int) else value
    if not numbers:
        return None
    if not isinstance(numbers, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
        raise ValueError(f"layers_to_transform={shown(value)} must be numbers of blocks")
    return frozenset(numbers)


def _check_pattern(key: str, pattern: str) -> None:
    try:
        _compiled(pattern)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


@cache
def _compiled(pattern: str) -> "regex.Pattern[str]":
    counts = [int(count) for pair in regex.findall(r"\{(\d+)(?:,(\d+))?", pattern) for count in pair if count]
    if len(counts) > MOST_COUNTS or any(count > LARGEST_COUNT for count in counts):
        raise ValueError(f"{shown(pattern)} counts repetitions as no name of a layer asks for")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{shown(pattern)} is not a regular expression: {error}") from error


def _match(pattern: str, name: str) -> "regex.Match[str] | None":
    """Match at the start, as `re.match`; a pattern may be a stranger's, and some take longer than a lifetime."""
    try:
        return _compiled(pattern).match(name, timeout=SECONDS_FOR_A_NAME)
    except TimeoutError as error:
        raise ValueError(f"the pattern {shown(pattern)} takes too long on {shown(name)}") from error


def _named(name: str, wanted: str | tuple[str, ...]) -> bool:
    """PEFT's rule: a regular expression for the full name, or names that it is or ends in at a dot."""
    if isinstance(wanted, str):
        return bool(wanted) and _match(rf"(?:{wanted})\Z", name) is not None
    return any(name == ending or name.endswith(f".{ending}") for ending in wanted)


def _first_match(patterns: dict[str, Any], layer: str, otherwise: Any) -> Any:
    return next((value for key, value in patterns.items() if _match(rf"(.*\.)?({key})$", layer)), otherwise)
