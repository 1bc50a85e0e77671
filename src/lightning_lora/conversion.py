"""Adapters from other tools' files to this package's folder and back: each is put onto its base model and checked.

What comes out of an import is the folder that a run leaves as ``adapter/``: PEFT's format, with what is known of the
base model and the labels beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_lora.adapters_io import (
    AdapterFacts,
    LoadedAdapter,
    adapter_folder_of,
    copy_peft_folder,
    load_loralib_file,
    load_peft_folder,
    loralib_outputs,
    peft_outputs,
    read_facts,
    save_peft_folder,
)
from lightning_lora.adapters_io.peft_config import read_peft_config
from lightning_lora.atomic import refuse_existing
from lightning_lora.backbone import Backbone, load_backbone
from lightning_lora.targets import ROLE_SETS
from lightning_lora.tasks import imported_task, numbered_labels


@dataclass(frozen=True)
class Imported:
    """What an import has put onto a base model and written.

    Attributes:
        adapter: What was adapted, and what came with it.
        backbone: The base model, with the adapter on it.
        labels: Names of the outputs; empty for regression.
    """

    adapter: LoadedAdapter
    backbone: Backbone
    labels: tuple[str, ...]


def import_peft(
    folder: Path,
    out: Path,
    *,
    model: str,
    revision: str | None = None,
    labels: Sequence[str] | None = None,
    force: bool = False,
) -> Imported:
    """Put the adapter of a PEFT folder onto its base model and write it as this package's folder.

    Args:
        folder: What PEFT's ``save_pretrained`` wrote.
        out: The folder to make.
        model: The base model: a folder, a hub id or "tiny".
        revision: Its revision on the hub.
        labels: Names of the outputs in their order, none for regression. None takes those that the folder records, or
            else as many as its head has outputs.
        force: Import onto a base whose tensors are not those that the folder records.

    Raises:
        ValueError: as `load_backbone` and `load_peft_folder`; or ``out`` is there already.
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    refuse_existing(out)
    read_peft_config(folder)  # what cannot be expressed is refused before a model is loaded
    facts = read_facts(folder)
    if labels is None:
        labels = facts.labels if facts and facts.task else _counted(peft_outputs(folder))

    def load(backbone: Backbone) -> LoadedAdapter:
        return load_peft_folder(backbone.model, folder, new_parameters=backbone.new_parameters, force=force)

    return _imported(load, out, model, revision, labels, facts.task if facts else "")


def import_loralib(
    file: Path,
    out: Path,
    *,
    model: str,
    alpha: float | int,
    revision: str | None = None,
    labels: Sequence[str] | None = None,
    roles: str | None = None,
) -> Imported:
    """Put the adapter of a loralib file onto its base model and write it as this package's folder.

    Args:
        file: What ``torch.save(loralib.lora_state_dict(model), file)`` wrote.
        out: The folder to make.
        model: The base model: a folder, a hub id or "tiny".
        alpha: loralib's ``lora_alpha``, which the file does not hold.
        revision: Its revision on the hub.
        labels: Names of the outputs in their order, none for regression. None takes as many as the head has outputs.
        roles: Where fused layers are adapted in part: a name in `ROLE_SETS`.

    Raises:
        ValueError: as `load_backbone` and `load_loralib_file`; or ``out`` is there already.
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    refuse_existing(out)
    if labels is None:
        labels = _counted(loralib_outputs(file))
    chosen = None if roles is None else ROLE_SETS[roles]

    def load(backbone: Backbone) -> LoadedAdapter:
        return load_loralib_file(
            backbone.model, file, alpha=alpha, roles=chosen, new_parameters=backbone.new_parameters
        )

    return _imported(load, out, model, revision, labels, "")


def export_peft(run: Path, out: Path) -> int:
    """Write the adapter of a run as a folder of PEFT's own two files.

    Args:
        run: A run's folder, or its ``adapter/``.
        out: The folder to make.

    Returns:
        The number of adapted layers.

    Raises:
        ValueError: the run has no adapter, its files are damaged, or ``out`` is there already.
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    refuse_existing(out)
    folder = adapter_folder_of(run)
    if folder is None:
        raise ValueError(f"{run}: holds no adapter, and is none; baselines and runs that failed leave none")
    return copy_peft_folder(folder, out)


def _imported(
    load: Callable[[Backbone], LoadedAdapter],
    out: Path,
    model: str,
    revision: str | None,
    labels: Sequence[str],
    task_name: str,
) -> Imported:
    task = imported_task(labels, task_name)
    backbone = load_backbone(model, task, revision)
    adapter = load(backbone)
    save_peft_folder(
        backbone.model,
        out,
        base_name=backbone.source,
        revision=revision,
        new_parameters=adapter.parameters,
        facts=AdapterFacts(task.name, task.labels, backbone.fingerprint, backbone.digests),
    )
    return Imported(adapter, backbone, task.labels)


def _counted(outputs: int | None) -> tuple[str, ...]:
    """See `numbered_labels`; there must be a head to count the outputs of."""
    if outputs is None:
        raise ValueError("the adapter holds no head, so the number of labels is not known; give it: --labels 2")
    return numbered_labels(outputs)
