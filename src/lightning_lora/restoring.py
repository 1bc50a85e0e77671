"""From a finished run's folder, or an adapter's, to its model, ready to be used."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import torch

from lightning_lora.adapters_io import AdapterFacts, load_peft_folder, read_facts, read_peft_config
from lightning_lora.adapters_io.peft_folder import CONFIG_FILE
from lightning_lora.backbone import Backbone, load_backbone
from lightning_lora.config import run_config_of
from lightning_lora.recorded_paths import model_from
from lightning_lora.reporting import RunRecord, read_record
from lightning_lora.run_folder import ADAPTER, MERGED, RECORD, run_of
from lightning_lora.tasks import Task, imported_task


@dataclass(frozen=True)
class Trained:
    """What a finished run left, ready to be used.

    Attributes:
        folder: The run's.
        record: Its record.
        task: Its task.
        backbone: The adapted model with the adapter active, or the merged model; on the GPU where there is one.
        max_length: Tokens at which the run cut a text.
    """

    folder: Path
    record: RunRecord
    task: Task
    backbone: Backbone
    max_length: int


def restore(folder: Path, *, force: bool = False) -> Trained:
    """Load the model of a run.

    Args:
        folder: The run's folder, which stands for its adapter where it has one; or ``adapter``, ``merged`` or
            ``merged-bf16`` and the like in it.
        force: Load the adapter also on a base model that is not the one it was trained on.

    Raises:
        ValueError: there is no finished run, it kept no model, or the base model is another one.
    """
    run_folder, chosen = run_of(folder)
    if not run_folder.is_dir():
        raise ValueError(f"{run_folder}: there is no such run's folder")
    record = read_record(run_folder)
    if record.status != "finished":
        raise ValueError(f"{run_folder}: the run has not finished, its status is {record.status!r}")
    config = run_config_of(record.config)
    task = config.data.find_task()
    chosen = chosen or (ADAPTER if (run_folder / ADAPTER).is_dir() else MERGED)
    if not (run_folder / chosen).is_dir():
        raise ValueError(
            f"{run_folder}: the run kept no {chosen} model{_remedy(run_folder, chosen, config.lora.method)}"
        )
    if chosen != ADAPTER:
        backbone = load_backbone(str(run_folder / chosen), task)
    else:
        backbone = load_backbone(model_from(run_folder, record.base["name"]), task, record.base["revision"])
        load_peft_folder(backbone.model, run_folder / ADAPTER, new_parameters=backbone.new_parameters, force=force)
    _make_ready(backbone)
    return Trained(run_folder, record, task, backbone, config.data.max_length)


def _remedy(run_folder: Path, missing: str, method: str) -> str:
    if missing == ADAPTER:
        return "" if method == "lora" else f"; {method} trains none"
    if (run_folder / ADAPTER).is_dir():
        dtype = missing.removeprefix(MERGED).removeprefix("-")
        words = ["lightning-lora", "merge", str(run_folder), *(["--dtype", dtype] if dtype else [])]
        return f"; write it with {shlex.join(words)}"
    return "; train it again with merge.save=true"


def _make_ready(backbone: Backbone) -> None:
    backbone.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


@dataclass(frozen=True)
class AdaptedBase:
    """An adapter on its base model.

    Attributes:
        backbone: The adapted model with the adapter, "default", active; on the GPU where there is one.
        facts: What the adapter's folder says of task and base, where it does.
        parameters: Names of the model's own parameters that came with the adapter (head, biases).
        trained: The run that the adapter is of; None of one that was imported, which has no record.
    """

    backbone: Backbone
    facts: AdapterFacts | None
    parameters: tuple[str, ...]
    trained: Trained | None


def restore_adapter(folder: Path) -> AdaptedBase:
    """Load an adapter onto its base model.

    Args:
        folder: A run's folder, the ``adapter`` in it, or a folder that `conversion` made of another tool's adapter.

    Raises:
        ValueError: there is no adapter, it does not say what its base is, or the base is another one.
    """
    run_folder, part = run_of(folder)
    of_a_run = (run_folder / RECORD).is_file() or not (folder / CONFIG_FILE).is_file()
    if of_a_run and part not in ("", ADAPTER):
        raise ValueError(f"{folder}: a merged model has no adapter any more; give the run's folder")
    if of_a_run:
        trained = restore(run_folder / ADAPTER)
        facts = read_facts(run_folder / ADAPTER)
        return AdaptedBase(trained.backbone, facts, trained.backbone.new_parameters, trained)
    config, facts = read_peft_config(folder), read_facts(folder)
    if facts is None or config.base is None:
        raise ValueError(
            f"{folder}: it does not say what its base and labels are; lightning-lora import-peft finds out"
        )
    task = imported_task(facts.labels, facts.task)
    backbone = load_backbone(model_from(folder, config.base), task, config.revision)
    loaded = load_peft_folder(backbone.model, folder, new_parameters=backbone.new_parameters)
    _make_ready(backbone)
    return AdaptedBase(backbone, facts, loaded.parameters, None)
