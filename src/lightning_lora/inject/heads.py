"""Heads of adapters: which newly initialised modules there are, and a fresh copy of them for each further adapter.

The first adapter of a model uses the head that stands in it. Each adapter injected later with ``new_parameters`` gets
its own, beside the first one; switching the adapter switches the head, because both follow the model's `Routing`.
"""

import copy
from collections.abc import Collection, Sequence

from torch import nn

from lightning_lora.inject.replacement import replace_module
from lightning_lora.lora import RoutedHead, Routing, routed_modules


def new_modules(model: nn.Module, new_parameters: Collection[str]) -> list[str]:
    """The largest modules all of whose parameters are new: the head as one name, not as its layers.

    Adapters' own copies of a head are not looked at.
    """
    wanted = set(new_parameters)
    copies = tuple(f"{name}.adapters." for name, module in routed_modules(model) if isinstance(module, RoutedHead))
    whole: list[str] = []
    for name, module in model.named_modules():
        parameters = [f"{name}.{key}" for key, _ in module.named_parameters(remove_duplicate=False)]
        parameters = [parameter for parameter in parameters if not parameter.startswith(copies)]
        inside = any(name.startswith(f"{found}.") for found in whole)
        if name and parameters and not inside and wanted.issuperset(parameters):
            whole.append(name)
    return whole


def head_names(model: nn.Module, adapter: str, new_parameters: Collection[str]) -> dict[str, str]:
    """Where an adapter's head lies.

    Args:
        model: A model with injected adapters.
        adapter: Name of the adapter.
        new_parameters: Names of the newly initialised parameters, as in the base model.

    Returns:
        For each of ``new_parameters``, the name of this adapter's own parameter: the name itself, or that in its copy.
    """
    found = {name: name for name in new_parameters}
    for path, head in routed_modules(model):
        if isinstance(head, RoutedHead) and (slot := head.slot_of(adapter)) is not None:
            inside = (name for name in new_parameters if name.startswith(f"{path}."))
            found.update({name: f"{path}.adapters.{slot}.{name.removeprefix(f'{path}.')}" for name in inside})
    return found


def modules_to_copy(model: nn.Module, new_parameters: Collection[str], outputs: int | None) -> list[str]:
    """The names of the modules that make up the head, checked: each can be copied, and resized to ``outputs``.

    Raises:
        ValueError: a new parameter belongs to a module that was loaded in part, or the head cannot have that many
            outputs.
    """
    paths = new_modules(model, new_parameters)
    for name in new_parameters:
        if not any(name.startswith(f"{path}.") for path in paths):
            raise ValueError(
                f"{name} is new, but other parameters of its module are not, so adapters cannot each have their own"
            )
    if outputs is not None:
        check_outputs(model, paths, outputs)
    return paths


def check_outputs(model: nn.Module, paths: Sequence[str], outputs: int) -> None:
    """Raise ValueError where the head's last layer is not known to be the one that gives the outputs."""
    if outputs < 1:
        raise ValueError(f"outputs={outputs} must be at least 1")
    if not paths:
        raise ValueError(f"outputs={outputs} has no effect without new parameters, which are what a head is made of")
    last = last_linear(model.get_submodule(paths[-1]))
    labels = getattr(getattr(model, "config", None), "num_labels", None)
    if last is None or (labels is not None and last.out_features not in (labels, outputs)):
        raise ValueError(f"outputs={outputs}: the last layer of {paths[-1]} is no Linear that gives {labels} outputs")


def last_linear(module: nn.Module) -> nn.Linear | None:
    """The last Linear layer of a head as it stands, adapters' copies apart; None where it has none."""
    plain = [found for name, found in module.named_modules() if not f"{name}.".startswith("adapters.")]
    return next((found for found in reversed(plain) if isinstance(found, nn.Linear)), None)


def last_names(model: nn.Module, new_parameters: Collection[str]) -> list[str]:
    """Those of ``new_parameters`` that are of the head's last Linear layer, which gives the outputs."""
    paths = new_modules(model, new_parameters)
    last = last_linear(model.get_submodule(paths[-1])) if paths else None
    own = [] if last is None else [id(parameter) for parameter in last.parameters()]
    return [name for name in new_parameters if id(model.get_parameter(name)) in own]


def outputs_of(model: nn.Module, adapter: str | None) -> int | None:
    """How many logits an adapter's head gives, or (None) the head that stands in place now.

    None where adapters have no heads of their own, so that there is the model's only.
    """
    head = next((m for _, m in reversed(list(routed_modules(model))) if isinstance(m, RoutedHead)), None)
    if head is None:
        return None
    slot = head.slot_of(adapter) if adapter is not None else None
    last = last_linear(head if slot is None else head.adapters[slot])
    return last.out_features if last is not None else None


def give_head(model: nn.Module, adapter: str, paths: Sequence[str], outputs: int | None, routing: Routing) -> None:
    """Give an adapter freshly initialised modules of its own beside those at ``paths``.

    Args:
        model: The model, changed in place.
        adapter: Name of the adapter.
        paths: What `modules_to_copy` returned.
        outputs: Outputs of the last layer; None for as many as the head in the model has.
        routing: The model's routing.
    """
    heads = [_routed(model, path, routing) for path in paths]
    for head in heads:
        own = _copied(head._base[0])
        if outputs is not None and head is heads[-1]:
            own = _resized(own, outputs)
        _initialise(model, own)
        head.adapters[adapter] = own.train(head.training)


def _routed(model: nn.Module, path: str, routing: Routing) -> RoutedHead:
    module = model.get_submodule(path)
    if isinstance(module, RoutedHead):
        return module
    head = RoutedHead.adopt(module, routing)
    replace_module(model, module, head)
    return head


def _copied(module: nn.Module) -> nn.Module:
    """A copy that is called without hooks of its own: those of the head that it belongs to run around it."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return copy.deepcopy(module, {id(registered): type(registered)() for registered in hooks})


def _resized(head: nn.Module, outputs: int) -> nn.Module:
    old = last_linear(head)
    assert old is not None, "modules_to_copy() has checked"
    weight = old.weight
    new = nn.Linear(old.in_features, outputs, old.bias is not None, device=weight.device, dtype=weight.dtype)
    if old is head:
        return new
    replace_module(head, old, new)
    return head


def _initialise(model: nn.Module, head: nn.Module) -> None:
    """As the model initialises it; where the model has no rule (`_init_weights`), as the layers do themselves."""
    for module in head.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    if callable(rule := getattr(model, "_init_weights", None)):
        head.apply(rule)
