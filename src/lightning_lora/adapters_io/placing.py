"""Putting an adapter that was read from a file onto a model: all is checked first, then nothing can fail."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_lora.adapters_io.safe_files import tensor_name
from lightning_lora.inject import (
    InjectionReport,
    Selected,
    adapter_names,
    attach_adapter,
    check_stands_once,
    check_unmerged,
    head_names,
    last_names,
    select,
)
from lightning_lora.lora import LoraSpec, adapter_keys, lora_class_for, lora_layers


@dataclass(frozen=True)
class Factors:
    """The low-rank term of one layer: its settings and A (parts · rank, in) and B (adapted features, rank)."""

    spec: LoraSpec
    A: Tensor
    B: Tensor


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter that was put onto a model.

    Attributes:
        report: What was adapted and what trains.
        parameters: Names of the model's own parameters that came with the adapter (head, biases): what to hand to
            `save_peft_folder` as ``new_parameters``.
    """

    report: InjectionReport
    parameters: tuple[str, ...]


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's state dict without adapters: parameters and buffers under the base model's names.

    Raises:
        RuntimeError: an adapter is merged, so that the weights are not the base model's.
    """
    check_unmerged(model, before="loading another one")
    adapters = adapter_keys(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in adapters}


def with_outputs(
    model: nn.Module, tensors: dict[str, Tensor], new_parameters: Collection[str], shapes: Mapping[str, Sequence[int]]
) -> tuple[dict[str, Tensor], int | None]:
    """The tensors that an adapter takes, its head's last layer for as many outputs as that has in the adapter's file.

    Args:
        model: The model; only where it has adapters does the one to come get a head of its own.
        tensors: What `own_tensors` gave.
        new_parameters: Names of the newly initialised parameters.
        shapes: Shapes of what is in the file beside A and B, by the names of ``tensors``.

    Returns:
        The tensors, and the number of outputs; None where the head is the one in the model.
    """
    last = last_names(model, new_parameters) if adapter_names(model) else []
    outputs = next((shapes[name][0] for name in last if len(shapes.get(name, ())) == 2), None)
    if outputs is None:
        return tensors, None
    resized = {name: tensors[name].new_empty(outputs, *tensors[name].shape[1:]) for name in last}
    return {**tensors, **resized}, outputs


def whole_layers(model: nn.Module, names: Collection[str]) -> list[Selected]:
    """The layers of these full names, each to be adapted as one whole matrix.

    Raises:
        ValueError: there is no such layer, its kind cannot be adapted, or it stands in the model at several places.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    for name in sorted(names):
        if name not in modules:
            raise ValueError(f"{type(model).__name__} has no layer named {tensor_name(name)}")
        module = modules[name]
        if lora_class_for(module) is None:
            raise ValueError(f"{name} is a {type(module).__name__}; adapted can be Linear, Conv1D and Embedding")
        check_stands_once(model, name, module)
    return [selected for selected in select(model, modules=sorted(names)) if selected.name in names]


def factor_shapes(selected: Selected, rank: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shapes of A and B that a chosen layer takes at a rank, of each part where it is fused."""
    in_features, out_features = selected.features
    layout = selected.layout
    return (len(layout.adapted) * rank, in_features), (layout.adapted_features(out_features), rank)


def place(
    model: nn.Module,
    chosen: list[Selected],
    factors: Mapping[str, Factors],
    values: Mapping[str, Tensor],
    *,
    adapter: str,
    new_parameters: Collection[str],
    outputs: int | None = None,
) -> LoadedAdapter:
    """Inject an adapter and give it, and the parameters that came with it, their values.

    Args:
        model: The model, changed in place.
        chosen: The layers, as `select` gave them.
        factors: Their terms by name, in the shapes of `factor_shapes`.
        values: Values of the model's own parameters and buffers, in their shapes and types.
        adapter: Name of the adapter.
        new_parameters: Names of the newly initialised parameters; each must be among ``values``.
        outputs: Outputs of a further adapter's own head, see `inject.inject_adapter`.

    Raises:
        ValueError: a new parameter would keep its random values, the adapter exists, or a value is for a parameter that
            it would share with adapters that are there. The model is unchanged then.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    if random := sorted(set(new_parameters) - set(values)):
        raise ValueError(
            f"the adapter holds no values for {random[0]}, which the base checkpoint lacks as well: it would stay "
            "random. Train it and save it with the adapter (PEFT: modules_to_save)"
        )
    brought = [name for name in values if name in parameters]
    heads = _whole_modules(model, brought) | set(new_parameters)
    shared = [name for name in brought if name not in heads]
    if shared and (there := adapter_names(model)):
        raise ValueError(
            f"the adapter brings {shared[0]}, which all adapters share: it would change the adapters that are there "
            f"({', '.join(there)}) as well; load it onto a model without adapters"
        )
    report = attach_adapter(
        model,
        chosen,
        {name: term.spec for name, term in factors.items()},
        adapter=adapter,
        new_parameters=heads,
        also_train=set(brought) - heads,
        outputs=outputs,
    )
    with torch.no_grad():
        layers = dict(lora_layers(model))
        for name, term in factors.items():
            delta = layers[name].delta(adapter)
            delta.A.copy_(term.A)
            delta.B.copy_(term.B)
        tensors, own = model.state_dict(), head_names(model, adapter, heads)
        for name, value in values.items():
            tensors[own.get(name, name)].copy_(value)
    return LoadedAdapter(report, tuple(brought))


def outputs_of_head(shapes: Mapping[str, Sequence[int]]) -> int | None:
    """The number of outputs of a classifier's head: the rows of its last matrix, which no other takes as columns.

    Of several such, as where an embedding was saved too, the fewest; where all rows are columns, the head's last matrix
    is as wide as the others.

    Args:
        shapes: Shapes of what is in a file beside A and B, by name.
    """
    matrices = [shape for shape in shapes.values() if len(shape) == 2]
    rows, columns = {shape[0] for shape in matrices}, {shape[1] for shape in matrices}
    return min(rows - columns or rows, default=None)


def fitting(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ValueError where a tensor's shape is not the one that the model has room for."""
    if shape != expected:
        raise ValueError(f"tensor {tensor_name(name)} has shape {list(shape)}; this model takes {list(expected)} there")


def _whole_modules(model: nn.Module, brought: list[str]) -> set[str]:
    """The parameters among ``brought`` whose module came whole: a head, not a bias beside a frozen weight."""
    names = set(brought)
    whole: set[str] = set()
    for name in brought:
        module = name.rpartition(".")[0]
        own = {f"{module}.{key}".lstrip(".") for key, _ in model.get_submodule(module).named_parameters(recurse=False)}
        if own <= names:
            whole.add(name)
    return whole
