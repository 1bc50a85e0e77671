"""``${job_name:}`` in a configuration is the name of the job's folder within its sweep."""

import copy
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lightning_lora.sweeping.names import job_name


def register() -> None:
    """Make the resolver known to OmegaConf in this process."""
    OmegaConf.register_new_resolver("job_name", _job_name, replace=True)


def _job_name(*, _root_: DictConfig) -> str:
    root = copy.deepcopy(_root_)
    with read_write(root), open_dict(root):
        root.pop("hydra", None)
    settings: Any = OmegaConf.to_container(root, resolve=True)
    return job_name(settings)
