"""Reading the file that Microsoft's loralib leaves: a pickled state dict of ``….lora_A``, ``….lora_B`` and the head.

loralib (github.com/microsoft/LoRA, version 0.1) has A and B as this package has them, also stacked for a fused layer
(``MergedLinear``). Its file holds neither alpha nor which parts of a fused layer are adapted: the caller says it.
"""

import zipfile
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

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
from lightning_lora.adapters_io.safe_files import FLOATS, tensor_name
from lightning_lora.inject import Selected, select
from lightning_lora.lora import LoraSpec
from lightning_lora.settings import first_line, shown
from lightning_lora.targets import Role

_A, _B = ".lora_A", ".lora_B"


def load_loralib_file(
    model: nn.Module,
    file: Path,
    *,
    alpha: float | int,
    roles: Collection[Role] | None = None,
    adapter: str = "default",
    new_parameters: Collection[str] = (),
) -> LoadedAdapter:
    """Inject the adapter of a loralib file, make it the active one, and freeze all but it and what came with it.

    The rank of each layer is the width of its B, and its scale alpha / rank. Biases and new parameters that the file
    holds get their values in place; on a model that has adapters, as `load_peft_folder` says.

    Args:
        model: The base model that the adapter was trained on, changed in place.
        file: What ``torch.save(loralib.lora_state_dict(model), file)`` wrote, with or without the head.
        alpha: loralib's ``lora_alpha``, the same for all layers (16 in the published GLUE adapters of RoBERTa-base).
        roles: Where fused layers are adapted in part: the projections that are, by the architecture's table.
        adapter: Name to give the adapter.
        new_parameters: Names of the newly initialised parameters (`Backbone.new_parameters`); the file must hold them
            all.

    Raises:
        ValueError: the file is damaged, or is not for this model; one line that names the tensor. The model is
            unchanged then.
        RuntimeError: an adapter is merged.
    """
    try:
        tensors = _read(file)
        names = _adapted_layers(tensors)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        own, outputs = with_outputs(model, own_tensors(model), new_parameters, shapes)
        chosen = whole_layers(model, names) if roles is None else _by_roles(model, names, roles)
        factors = {selected.name: _factors(tensors, selected, alpha) for selected in chosen}
        values = {
            name: _value(name, tensor, own, new_parameters)
            for name, tensor in tensors.items()
            if not name.endswith((_A, _B))
        }
        return place(model, chosen, factors, values, adapter=adapter, new_parameters=new_parameters, outputs=outputs)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def loralib_outputs(file: Path) -> int | None:
    """The number of outputs of the head in a loralib file; None where there is no head.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        return outputs_of_head({name: value.shape for name, value in _read(file).items() if ".lora_" not in name})
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of the file, without running what a pickle can hold beside them.

    The records must be stored plainly, as torch writes them: compressed ones could be any size when unpacked.
    """
    if not file.is_file():
        raise ValueError("there is no such file")
    try:
        with zipfile.ZipFile(file) as archive:
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        tensors = torch.load(file, map_location="cpu", weights_only=True) if stored else {}
    # torch trusts the opcodes of a pickle, and fails at a damaged one with any type there is.
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"not a file of tensors alone, as torch.save writes it: {shown(reason)}") from error
    if not stored:
        raise ValueError("its records are compressed, which torch.save never does")
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
    ):
        raise ValueError("must hold a mapping from names to tensors")
    for name, tensor in tensors.items():
        if not _is_plain(tensor):
            raise ValueError(
                f"tensor {tensor_name(name)} must be a plain one of type {', '.join(FLOATS)}, all of it in the file"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor {tensor_name(name)} holds values that are not finite")
    return tensors


def _is_plain(tensor: Tensor) -> bool:
    """Whether the file holds as many numbers as the tensor says: a stride of 0 makes any size of a single one."""
    if tensor.layout != torch.strided or tensor.is_nested or tensor.device.type != "cpu":
        return False
    return tensor.dtype in FLOATS.values() and tensor.nbytes <= tensor.untyped_storage().nbytes()


def _adapted_layers(tensors: dict[str, Tensor]) -> set[str]:
    with_a, with_b = ({name.removesuffix(end) for name in tensors if name.endswith(end)} for end in (_A, _B))
    if odd := sorted(with_a ^ with_b):
        raise ValueError(f"{tensor_name(odd[0])} has only one of lora_A and lora_B")
    if not with_a:
        raise ValueError("holds no lora_A and lora_B; is it a loralib file?")
    return with_a


def _by_roles(model: nn.Module, names: set[str], roles: Collection[Role]) -> list[Selected]:
    chosen = select(model, roles=roles)
    if differing := sorted(names ^ {selected.name for selected in chosen}):
        where = "in the file only" if differing[0] in names else "not in the file"
        raise ValueError(
            f"the layers with roles {', '.join(sorted(roles))} are not the file's: {differing[0]} is {where}"
        )
    interleaved = [selected.name for selected in chosen if selected.layout.groups > 1]
    if interleaved:
        raise ValueError(f"{interleaved[0]} interleaves its parts head by head, for which loralib has no layer")
    return chosen


def _factors(tensors: dict[str, Tensor], selected: Selected, alpha: float | int) -> Factors:
    name = selected.name
    A, B = tensors[name + _A], tensors[name + _B]
    if A.ndim != 2 or B.ndim != 2 or 0 in (*A.shape, *B.shape):
        raise ValueError(f"{name}: lora_A {list(A.shape)} and lora_B {list(B.shape)} must be matrices")
    rank, parts = B.shape[1], len(selected.layout.adapted)
    if A.shape[0] != rank * parts:
        raise ValueError(
            f"{name}: lora_A has {A.shape[0]} rows and lora_B {rank} columns, so {A.shape[0] / rank:g} projections are "
            f"adapted, not {parts}; say by roles which parts of a fused layer are"
        )
    for end, tensor, expected in zip((_A, _B), (A, B), factor_shapes(selected, rank), strict=True):
        fitting(name + end, tuple(tensor.shape), expected)
    return Factors(LoraSpec(rank, alpha), A.float(), B.float())


def _value(name: str, tensor: Tensor, own: dict[str, Tensor], new_parameters: Collection[str]) -> Tensor:
    if name not in own:
        raise ValueError(f"tensor {tensor_name(name)} belongs to nothing in this model")
    fitting(name, tuple(tensor.shape), tuple(own[name].shape))
    if name not in new_parameters and name.rpartition(".")[2] != "bias":
        raise ValueError(
            f"tensor {tensor_name(name)} would replace a weight of the base model; an adapter brings biases and new "
            "parameters only, those that are named in new_parameters"
        )
    return tensor.to(own[name].dtype)
