"""What the folders of a sweep and of its jobs are called. Both are functions of what was asked for alone."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_lora.settings import flat
from lightning_lora.sweeping.identity import identity_of
from lightning_lora.targets import adapted_label

LONGEST_SWEEP_NAME = 80
# Identity has fingerprints for these two; a name is made before anything is read.
_SOURCES = (("model", "name"), ("model", "revision"), ("data", "path"))


def job_name(config: Mapping[str, Any]) -> str:
    """The name of a job's folder, the same whenever the same job is asked for: ``rte-qv-r8-s0-1c9f0a7be2``.

    Args:
        config: The resolved configuration as plain values.
    """
    named = [[config[section][key] for section, key in _SOURCES], identity_of(config)]
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:10]
    lora = config["lora"]
    label = adapted_label(lora["method"], lora["roles"], lora["modules"])
    rank = [f"r{config['rank']}"] if lora["method"] == "lora" else []
    parts = [config["data"]["task"], label, *rank, f"s{config['seed']}", digest]
    return "-".join(map(str, parts))


def asked_for(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, by their full names, that determine the results of a search, some of whose jobs may have adapters.

    Args:
        config: The resolved configuration of one of its jobs as plain values.
    """
    return flat(identity_of(config, "lora")) | {f"{section}.{key}": config[section][key] for section, key in _SOURCES}


def sweep_name(overlay: str | None, axes: Sequence[str]) -> str:
    """The name of a sweep's folder: its overlay's, else the settings that it varies, so a wider grid is the same sweep.

    Args:
        overlay: NAME of ``+sweeps=NAME``; None without one.
        axes: Full names of the settings with several values.
    """
    name = (overlay or "+".join(sorted(axes)) or "one_job").replace("/", "-")
    if len(name) <= LONGEST_SWEEP_NAME:
        return name
    return f"{name[:LONGEST_SWEEP_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
