"""Many adapters on one base: delete one, train some, swap what is merged, swap an adapter's values in place.

`attach.enable`, `attach.disable` and `attach.adapter_names` switch and list them.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from lightning_lora.inject.attach import check_adapter, merge, unmerge
from lightning_lora.inject.freezing import train_only
from lightning_lora.inject.heads import head_names
from lightning_lora.inject.replacement import replace_module
from lightning_lora.lora import adapter_parameters, routed_modules, routing_of


def merged_adapter(model: nn.Module) -> str | None:
    """Name of the adapter that is merged, or None."""
    return next((found for _, module in routed_modules(model) if (found := module.merged_adapter) is not None), None)


def check_unmerged(model: nn.Module, *, before: str, adapter: str | None = None) -> None:
    """Raise RuntimeError where an adapter is merged: any, or (given its name) that one.

    Args:
        model: The model.
        before: What cannot be done then, as the message has it: "deleting it".
        adapter: Name of the adapter.
    """
    found = merged_adapter(model)
    if found is not None and adapter in (None, found):
        raise RuntimeError(f"adapter {found!r} is merged; call unmerge() before {before}")


def delete_adapter(model: nn.Module, adapter: str) -> None:
    """Remove an adapter, its factors and its own head. A layer without adapters becomes the original module again.

    Where it was the active one, the model is its base model until `enable` is called. The head that stands in the
    model, which the first adapter uses, stays: it is a part of the model.

    Raises:
        ValueError: the model has no such adapter.
        RuntimeError: the adapter is merged.
    """
    check_adapter(model, adapter)
    check_unmerged(model, before="deleting it", adapter=adapter)
    routing = routing_of(model)
    assert routing is not None, "check_adapter() has found the adapter"
    if routing.adapter == adapter:
        routing.adapter = None
    for _, module in list(routed_modules(model)):
        if module.carries(adapter):
            del module.adapters[adapter]
        if not module.adapters:
            replace_module(model, module, module.release())


def swap_merged(model: nn.Module, adapter: str) -> None:
    """Merge ``adapter`` in place of the one that is merged: ``W0 + ΔW_a`` becomes ``W0 + ΔW_b``, from W0 itself.

    W0 is the frozen Parameter that was set aside, so no swap leaves a trace in the next, nor in `unmerge`.

    Raises:
        ValueError: the model has no such adapter, or a merged weight would not be finite. What was merged still is.
        RuntimeError: nothing is merged.
    """
    before = merged_adapter(model)
    unmerge(model)
    try:
        merge(model, adapter)
    except ValueError:
        merge(model, before)
        raise


def train_adapters(model: nn.Module, adapters: Collection[str], new_parameters: Collection[str] = ()) -> None:
    """Make the factors and heads of these adapters trainable, all at once, and freeze everything else.

    Args:
        model: A model with injected adapters.
        adapters: Names of the adapters.
        new_parameters: Names of the newly initialised parameters, as in the base model.

    Raises:
        ValueError: the model has no such adapter.
    """
    names: set[str] = set()
    for adapter in adapters:
        check_adapter(model, adapter)
        names.update(name for name, _ in adapter_parameters(model, adapter))
        names.update(head_names(model, adapter, new_parameters).values())
    train_only(model, names)


def adapter_state(model: nn.Module, adapter: str, new_parameters: Collection[str] = ()) -> dict[str, Tensor]:
    """All values of an adapter under names in which the adapter's own name does not occur.

    Args:
        model: A model with injected adapters.
        adapter: Name of the adapter.
        new_parameters: Names of the newly initialised parameters, as in the base model.

    Returns:
        ``<layer>.A`` and ``<layer>.B`` of each adapted layer, and each name of ``new_parameters``; the tensors
        themselves, so that writing to them writes to the model.

    Raises:
        ValueError: the model has no such adapter.
    """
    check_adapter(model, adapter)
    factors = dict(adapter_parameters(model, adapter))
    state = {name.replace(f"adapters.{adapter}.", ""): value.detach() for name, value in factors.items()}
    return state | {
        name: model.get_parameter(own).detach() for name, own in head_names(model, adapter, new_parameters).items()
    }


def swap_values(model: nn.Module, adapter: str, values: Mapping[str, Tensor]) -> None:
    """Write other values into an adapter in place. Shapes, and so compiled code, stay; the adapter's scale stays too.

    Args:
        model: A model with injected adapters.
        adapter: Name of the adapter.
        values: As `adapter_state` returns them, of an adapter with the same layers, ranks and scale.

    Raises:
        ValueError: the model has no such adapter, or layers or shapes differ. Nothing is written then.
        RuntimeError: the adapter is merged, so its values would not be those of the weights.
    """
    heads = {name for name in values if not name.endswith((".A", ".B"))}
    own = adapter_state(model, adapter, heads)
    check_unmerged(model, before="changing its values", adapter=adapter)
    if different := sorted(set(own).symmetric_difference(values)):
        where = "the model" if different[0] in own else "the new values"
        raise ValueError(f"{different[0]!r} is in {where} only; {len(different)} names differ")
    for name, value in values.items():
        if value.shape != own[name].shape:
            raise ValueError(f"{name!r} is {tuple(own[name].shape)} here and {tuple(value.shape)} in the new values")
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
