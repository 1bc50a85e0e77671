"""Reading the folder of a LoRA adapter that PEFT, or `save_peft_folder`, wrote: onto a model of this package.

Everything is checked before the model is touched: the settings say which tensors there must be, the model says in which
shapes, and the file must hold these and no others. No code and no pickle is read.
"""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_lora.adapters_io.facts import AdapterFacts, read_facts
from lightning_lora.adapters_io.peft_config import PeftConfig, read_peft_config
from lightning_lora.adapters_io.peft_folder import CONFIG_FILE, PREFIX, WEIGHTS_FILE, factor_keys
from lightning_lora.adapters_io.placing import (
    Factors,
    LoadedAdapter,
    factor_shapes,
    fitting,
    outputs_of_head,
    own_tensors,
    place,
    whole_layers,
    with_outputs,
)
from lightning_lora.adapters_io.safe_files import TensorFile, open_tensors, tensor_name
from lightning_lora.atomic import atomic_folder
from lightning_lora.inject import Selected
from lightning_lora.lora import LoraSpec
from lightning_lora.settings import shown


def load_peft_folder(
    model: nn.Module,
    folder: Path,
    *,
    adapter: str = "default",
    new_parameters: Collection[str] = (),
    force: bool = False,
) -> LoadedAdapter:
    """Inject the adapter of a PEFT folder, make it the active one, and freeze all but it and what came with it.

    Biases and modules that were saved whole (the head) get the folder's values in place: they are the model's own, and
    `disabled` does not bring the former ones back. On a model that has adapters, the head becomes one of the new
    adapter's own, with as many outputs as the folder's; switching the adapter switches it. Biases have no such place,
    so an adapter with biases is refused there. A fused layer is adapted as the one matrix that it is to PEFT.

    Args:
        model: The base model that the adapter was trained on, changed in place.
        folder: Holds adapter_config.json and adapter_model.safetensors.
        adapter: Name to give the adapter.
        new_parameters: Names of the newly initialised parameters (`Backbone.new_parameters`); the folder must hold
            them all.
        force: Load onto a base whose tensors are not those that the folder records.

    Raises:
        ValueError: the folder is damaged, was made for another base, or asks for more than LoRA layers can express;
            one line that names file, key or tensor. The model is unchanged then.
        RuntimeError: an adapter is merged.
    """
    config = read_peft_config(folder)
    facts = read_facts(folder) or AdapterFacts()
    try:
        tensors = own_tensors(model)
        if not force:
            _check_base(facts, tensors)
        chosen = _chosen(model, config)
        required = _brought(model, config, chosen, tensors) | set(facts.parameters)
        _refuse_tied(model, required | set(new_parameters))
        with open_tensors(_weights_file(folder)) as file:
            factors = {selected.name: _factors(file, selected, config.spec(selected.name)) for selected in chosen}
            keys = _own_keys(file, chosen, config, tensors)
            shapes = {name: file.entries[found[0]].shape for name, found in keys.items()}
            tensors, outputs = with_outputs(model, tensors, new_parameters, shapes)
            allowed = required | set(new_parameters)
            _check_keys(file, keys, required, allowed, tensors)
            values = {name: _value(file, keys[name], name, tensors[name]) for name in keys if name in allowed}
        return place(model, chosen, factors, values, adapter=adapter, new_parameters=new_parameters, outputs=outputs)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def peft_outputs(folder: Path) -> int | None:
    """The number of outputs of the head in a PEFT folder; None where there is no head.

    Raises:
        ValueError: the folder's weights cannot be read.
    """
    try:
        with open_tensors(_weights_file(folder)) as file:
            own = {key: entry.shape for key, entry in file.entries.items() if ".lora_" not in key}
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return outputs_of_head({key: shape for key, shape in own.items() if ".base_layer." not in key})


def copy_peft_folder(source: Path, target: Path) -> int:
    """Copy PEFT's own two files, and no others, having read and checked them.

    Returns:
        The number of adapted layers.

    Raises:
        ValueError: as `load_peft_folder`, as far as it shows without a model.
    """
    read_peft_config(source)
    try:
        with open_tensors(_weights_file(source)) as file:
            for key, entry in file.entries.items():
                file.read(key, entry.dtype)
            layers = sum(".lora_A." in key or key.endswith(".lora_embedding_A") for key in file.entries)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    with atomic_folder(target) as temporary:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copyfile(source / name, temporary / name)
    return layers


def _check_base(facts: AdapterFacts, tensors: Mapping[str, Tensor]) -> None:
    if differing := facts.differing(tensors):
        raise ValueError(
            f"the adapter was trained on another base model ({facts.base_fingerprint[:12] or 'no fingerprint'}): "
            f"{len(differing)} of its {len(facts.base_digests or {})} tensors differ from this model's, the first is "
            f"{tensor_name(differing[0])}; use the base that it was trained on, or take this one all the same: with "
            "--force of lightning-lora import-peft or merge, in Python with force=True"
        )


def _weights_file(folder: Path) -> Path:
    if not (folder / WEIGHTS_FILE).is_file() and (folder / "adapter_model.bin").exists():
        raise ValueError(
            "adapter_model.bin is a pickle, which can run code when it is read, so it is not read; save the adapter as "
            "safetensors (PEFT: save_pretrained(folder, safe_serialization=True))"
        )
    return folder / WEIGHTS_FILE


def _chosen(model: nn.Module, config: PeftConfig) -> list[Selected]:
    """The layers that PEFT would adapt, each as one whole matrix."""
    targeted = config.targeted(model)
    if not targeted:
        wanted = config.targets if isinstance(config.targets, str) else list(config.targets)
        raise ValueError(f"target_modules={shown(wanted)} matches no layer of {type(model).__name__}")
    return whole_layers(model, targeted)


def _brought(model: nn.Module, config: PeftConfig, chosen: list[Selected], tensors: Mapping[str, Tensor]) -> set[str]:
    """The model's own tensors that the settings say come with the adapter: modules saved whole, and biases."""
    saved = tuple(f"{name}." for name, _ in model.named_modules() if name and config.is_saved(name))
    brought = {name for name in tensors if name.startswith(saved)} if saved else set()
    if config.bias == "all":
        brought |= {name for name in tensors if name.rpartition(".")[2] == "bias"}
    elif config.bias == "lora_only":
        brought |= {f"{selected.name}.bias" for selected in chosen} & set(tensors)
    return brought


def _refuse_tied(model: nn.Module, brought: Collection[str]) -> None:
    """Raise ValueError where a parameter that gets a value is tied to one that does not; PEFT would untie the two."""
    names_of: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), set()).add(name)
    for names in names_of.values():
        apart = names.difference(brought)
        if apart and apart != names:
            raise ValueError(
                f"{min(names - apart)} is saved with the adapter, but in this model it is tied to {min(apart)}, "
                "which would change with it"
            )


def _factors(file: TensorFile, selected: Selected, spec: LoraSpec) -> Factors:
    keys = factor_keys(selected.module, selected.name)
    for key, expected in zip(keys, factor_shapes(selected, spec.rank), strict=True):
        if key not in file.entries:
            raise ValueError(f"tensor {tensor_name(key)} is missing: the settings say that this layer is adapted")
        fitting(key, file.entries[key].shape, expected)
    # Half-precision factors are widened, as PEFT does: they may train on.
    wide = torch.float64 if torch.float64 in {file.entries[key].dtype for key in keys} else torch.float32
    A, B = (file.read(key, wide) for key in keys)
    return Factors(replace(spec, dtype=wide), A, B)


def _own_keys(
    file: TensorFile, chosen: list[Selected], config: PeftConfig, tensors: Mapping[str, Tensor]
) -> dict[str, list[str]]:
    """Keys of the file that are no factors, by the name of the model's own tensor that each is for.

    With biases, PEFT saves a head's bias up to three times: by its name, as modules_to_save, and as the frozen
    original, which is in force only where the adapter is disabled.
    """
    factors = {key for selected in chosen for key in factor_keys(selected.module, selected.name)}
    keys: dict[str, list[str]] = {}
    for key in file.entries:
        if key in factors or (config.bias == "all" and ".original_module." in key):
            continue
        keys.setdefault(_own_name(key, tensors), []).append(key)
    return keys


def _own_name(key: str, tensors: Mapping[str, Tensor]) -> str:
    module, saved, rest = key.removeprefix(PREFIX).replace(".base_layer.", ".").partition(".modules_to_save.")
    if not saved:
        return module
    # Inside a head of several layers, PEFT leaves the adapter's name: head.modules_to_save.NAME.dense.bias
    without_adapter = f"{module}.{rest.partition('.')[2]}"
    return without_adapter if without_adapter in tensors else f"{module}.{rest}"


def _check_keys(
    file: TensorFile,
    keys: dict[str, list[str]],
    required: Collection[str],
    allowed: Collection[str],
    tensors: Mapping[str, Tensor],
) -> None:
    """Raise ValueError for a tensor that is missing, or that this model has no use for.

    PEFT saves frozen embeddings that it takes for resized, or is told to save: harmless where they are this model's.
    """
    if missing := sorted(set(required) - set(keys)):
        raise ValueError(f"tensor {tensor_name(PREFIX + missing[0])} is missing: the settings say that it was saved")
    for name, found in keys.items():
        if name not in tensors:
            raise ValueError(f"tensor {tensor_name(found[0])} belongs to nothing that the settings adapt in this model")
        fitting(found[0], file.entries[found[0]].shape, tuple(tensors[name].shape))
        if name not in allowed and not _is_own(file, found, tensors[name]):
            raise ValueError(
                f"tensor {tensor_name(found[0])} is of a part that the settings say is not saved, and has other values "
                "than this base model"
            )


def _is_own(file: TensorFile, keys: list[str], own: Tensor) -> bool:
    return all(torch.equal(file.read(key, own.dtype), own.cpu()) for key in keys)


def _value(file: TensorFile, keys: list[str], name: str, own: Tensor) -> Tensor:
    first, *others = (file.read(key, own.dtype) for key in keys)
    if not all(torch.equal(first, other) for other in others):
        raise ValueError(f"{tensor_name(name)} is in the file {len(keys)} times with different values")
    return first
