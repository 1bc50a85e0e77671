"""Which job is this? A hash of all that determines a run's result, and of nothing else."""

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lightning_lora.settings import parse_blocks

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
# A batch is a device's own, so that their number decides the step. One device, as most jobs have, is not spelt out.
_DEVICES = ("devices", "num_nodes")


def job_id(config: Mapping[str, Any], *, base_fingerprint: str, data_fingerprint: str, code_version: str) -> str:
    """Sixteen hexadecimal digits that two runs share exactly where they are the same job.

    Args:
        config: The resolved configuration as plain values; ``warm_start`` the adapter's fingerprint, not its folder.
        base_fingerprint: Of the base model's tensors.
        data_fingerprint: Of the rows trained and scored on.
        code_version: Version of this package.
    """
    payload = {
        "config": identity_of(config),
        "base": base_fingerprint,
        "data": data_fingerprint,
        "code": code_version,
    }
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]


def determines_result(key: str) -> bool:
    """Whether a key of the configuration, by its full name ("rank", "lora.layers", "logger"), belongs to a job."""
    group, _, inner = key.partition(".")
    left_out = NOT_IDENTITY.get(group, ())
    return left_out != ("*",) and (not inner or inner not in left_out)


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that determines the result."""
    kept = copy.deepcopy(dict(config))
    for group, keys in NOT_IDENTITY.items():
        if keys == ("*",):
            kept.pop(group, None)
        elif isinstance(kept.get(group), dict):
            kept[group] = {key: value for key, value in kept[group].items() if key not in keys}
    if isinstance(lora := kept.get("lora"), dict):  # 0-1 and [0,1] are the same blocks
        kept["lora"] = lora | {"layers": parse_blocks(lora["layers"])}
    if isinstance(trainer := kept.get("trainer"), dict):
        kept["trainer"] = {key: value for key, value in trainer.items() if key not in _DEVICES or value != 1}
    return kept
