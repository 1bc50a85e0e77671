"""From a finished run's folder to its model, ready to be used."""

from dataclasses import dataclass
from pathlib import Path

import torch

from lightning_lora.adapters_io import load_peft_folder
from lightning_lora.backbone import Backbone, load_backbone
from lightning_lora.config import run_config_of
from lightning_lora.reporting import RunRecord, read_record
from lightning_lora.tasks import Task


@dataclass(frozen=True)
class Trained:
    """What a finished run left, ready to be used.

    Attributes:
        record: The run's record.
        task: Its task.
        backbone: The adapted model with the adapter active, or the merged model; on the GPU where there is one.
        max_length: Tokens at which the run cut a text.
    """

    record: RunRecord
    task: Task
    backbone: Backbone
    max_length: int


def restore(folder: Path, *, force: bool = False) -> Trained:
    """Load the model of a run.

    Args:
        folder: The run's folder, which stands for its adapter where it has one; or ``adapter`` or ``merged`` in it.
        force: Load the adapter also on a base model that is not the one it was trained on.

    Raises:
        ValueError: there is no finished run, it kept no model, or the base model is another one.
    """
    chosen = folder.name if folder.name in ("adapter", "merged") else ""
    run_folder = folder.parent if chosen else folder
    if not run_folder.is_dir():
        raise ValueError(f"{run_folder}: there is no such run's folder")
    record = read_record(run_folder)
    config = run_config_of(record.config)
    task = config.data.find_task()
    chosen = chosen or ("adapter" if (run_folder / "adapter").is_dir() else "merged")
    if not (run_folder / chosen).is_dir():
        raise ValueError(f"{run_folder}: the run kept no {chosen} model (its status is {record.status!r})")
    if chosen == "merged":
        backbone = load_backbone(str(run_folder / "merged"), task)
    else:
        backbone = load_backbone(record.base["name"], task, record.base["revision"])
        load_peft_folder(backbone.model, run_folder / "adapter", new=backbone.new_parameters, force=force)
    backbone.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return Trained(record, task, backbone, config.data.max_length)
