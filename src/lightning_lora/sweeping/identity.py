"""Which job is this? A hash of all that determines a run's result, and of nothing else."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lightning_lora.settings import device_count, parse_blocks
from lightning_lora.targets import Role

ARITHMETIC = 1
"""Raised by one with every change after which the same settings give other numbers.

Such are other masks of dropout, another order of rows, other starts, other sums. It stands behind the package's
version, as ``0.1.0+1``, so that finished work of the code before is not taken for work of the code after.
"""

# Where things lie, what is logged and which machine computes do not belong to a job. The model's name and the data's
# path stand for content, which the two fingerprints cover; so does the folder of a warm start, in whose place the
# caller puts the fingerprint of its adapter. A run that is resumed gives what it would have given.
NOT_IDENTITY: dict[str, tuple[str, ...]] = {
    "resume": ("*",),
    "resume_anyway": ("*",),
    "logger": ("*",),
    "merge": ("*",),
    "model": ("name", "revision"),
    "data": ("path", "cache_dir", "num_workers"),
    "trainer": ("accelerator", "strategy", "profiler", "progress_bar", "checkpoint_every", "deterministic"),
}
# A batch is a device's own, so that their number decides the step; graphs decide what dropout draws. One device and no
# graphs, as most jobs have, are not spelt out.
_NOT_SPELT_OUT = {"devices": 1, "num_nodes": 1, "cuda_graphs": False}
_OF_ADAPTERS_ONLY = frozenset({"rank", "alpha", "optim.lora_plus_ratio"})


def job_id(config: Mapping[str, Any], *, base_fingerprint: str, data_fingerprint: str, code_version: str) -> str:
    """Sixteen hexadecimal digits that two runs share exactly where they are the same job.

    Args:
        config: The resolved configuration as plain values; ``warm_start`` the adapter's fingerprint, not its folder,
            and ``trainer.precision`` what is trained in, not "auto".
        base_fingerprint: Of the base model's tensors.
        data_fingerprint: Of the rows trained and scored on.
        code_version: Version of this package, with its `ARITHMETIC`.
    """
    payload = {
        "config": identity_of(config),
        "base": base_fingerprint,
        "data": data_fingerprint,
        "code": code_version,
    }
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]


def of_adapters_only(key: str) -> bool:
    """Whether a setting, by its full name, has no effect on a baseline, which has no adapters."""
    return key in _OF_ADAPTERS_ONLY or (key.startswith("lora.") and key != "lora.method")


def determines_result(key: str, method: str = "lora") -> bool:
    """Whether a setting belongs to a job.

    Args:
        key: Its full name: "rank", "lora.layers", "logger".
        method: What the job trains, a ``lora.method``.
    """
    group, _, inner = key.partition(".")
    left_out = NOT_IDENTITY.get(group, ())
    if left_out == ("*",) or (inner and inner in left_out):
        return False
    return method == "lora" or not of_adapters_only(key)


def identity_of(config: Mapping[str, Any], method: str | None = None) -> dict[str, Any]:
    """The part of a configuration that determines the result.

    Args:
        config: As plain values.
        method: What is trained; None for what the configuration says.
    """
    method = method or config.get("lora", {}).get("method", "lora")
    kept = _determining(config, method)
    if method == "lora" and (lora := kept.get("lora")):  # 0-1 and [0,1] are the same blocks, and so are roles
        roles = [role.value for role in Role if role in lora["roles"]]
        kept["lora"] = lora | {"layers": parse_blocks(lora["layers"]), "roles": roles}
    if isinstance(trainer := kept.get("trainer"), dict):
        counted = trainer | {"devices": device_count(trainer.get("devices", 1))}
        kept["trainer"] = {
            key: value for key, value in counted.items() if key not in _NOT_SPELT_OUT or value != _NOT_SPELT_OUT[key]
        }
    return kept


def _determining(values: Mapping[str, Any], method: str, prefix: str = "") -> dict[str, Any]:
    return {
        key: _determining(value, method, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in values.items()
        if determines_result(prefix + key, method)
    }
