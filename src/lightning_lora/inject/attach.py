"""The verbs on a whole model: inject, eject, merge, unmerge, enable, disable. The laws:

eject(inject_adapter(m))   restores the very same module objects
unmerge(merge(m))          leaves every weight bit-equal
merge(m); m(x)             ==  m(x) before, up to rounding
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from lightning_lora.inject.budget import matched_ranks, parameter_count
from lightning_lora.inject.freezing import train_only
from lightning_lora.inject.heads import give_head, head_names, modules_to_copy
from lightning_lora.inject.replacement import replace_module
from lightning_lora.inject.report import AdaptedModule, InjectionReport, count_parameters
from lightning_lora.inject.selection import Selected, select
from lightning_lora.lora import (
    LoRALayer,
    LoraSpec,
    Routing,
    adapter_parameters,
    check_adapter_name,
    lora_class_for,
    lora_layers,
    routed_modules,
    routing_of,
)
from lightning_lora.targets import ROLE_SETS, Role


def inject_adapter(
    model: nn.Module,
    spec: LoraSpec | Mapping[str, LoraSpec],
    *,
    roles: Collection[Role] = ROLE_SETS["qv"],
    modules: Sequence[str] | None = None,
    layers: Collection[int] | None = None,
    exclude: Sequence[str] = (),
    same_parameters_as: Collection[Role] | None = None,
    adapter: str = "default",
    new_parameters: Collection[str] = (),
    outputs: int | None = None,
) -> InjectionReport:
    """Add an adapter to a model in place, make it the active one, and freeze everything but it and its head.

    The first adapter's head is the one that stands in the model. A further adapter with ``new_parameters`` gets a
    freshly initialised head of its own (see `heads.head_names`); without them it shares the one in the model.

    Args:
        model: A transformer. Only the adapted layers are replaced; each keeps the frozen Parameter objects it had.
        spec: Rank, alpha, dropout, scaling and initialisation: one for every layer, or a mapping that gives each
            selected layer, by its full name, its own.
        roles: Which projections, see `ROLE_SETS`.
        modules: Layer names given by hand, instead of ``roles``.
        layers: Numbers of the blocks to adapt, from 0; None for all.
        exclude: Names of layers to leave out.
        same_parameters_as: Spend exactly as many adapter parameters as these roles would in the same blocks at the
            spec's rank, spread over the selected layers by ranks that differ by one at most (see
            `budget.ranks_spending`). An alpha of None is twice each layer's own rank, which leaves the scale as it is.
        adapter: Name of the adapter.
        new_parameters: Names of the newly initialised parameters (`Backbone.new_parameters`); they train, and their
            layers are never adapted.
        outputs: Outputs of a further adapter's own head; None for as many as the head in the model has.

    Raises:
        ValueError: the adapter exists already, the selection finds nothing or only a part, the mapping of specs does
            not fit it, a rank is larger than its layer allows, the parameters cannot be matched, or there can be no
            such head. The model is unchanged then.
    """
    chosen = select(model, roles=roles, modules=modules, layers=layers, exclude=exclude, new_parameters=new_parameters)
    if same_parameters_as is None:
        specs = spec if isinstance(spec, Mapping) else {selected.name: spec for selected in chosen}
        _check_specs_fit(specs, chosen)
        for selected in chosen:
            _check_rank(specs[selected.name], selected)
        return attach_adapter(model, chosen, specs, adapter=adapter, new_parameters=new_parameters, outputs=outputs)
    if isinstance(spec, Mapping):
        raise ValueError("same_parameters_as decides the ranks, so it takes one spec and no mapping of specs")
    reference = select(model, roles=same_parameters_as, layers=layers, new_parameters=new_parameters)
    ranks = matched_ranks(chosen, reference, spec.rank)
    specs = {name: replace(spec, rank=rank) for name, rank in ranks.items()}
    report = attach_adapter(model, chosen, specs, adapter=adapter, new_parameters=new_parameters, outputs=outputs)
    assert sum(module.parameters for module in report.modules) == parameter_count(reference, spec.rank)
    return report


def attach_adapter(
    model: nn.Module,
    chosen: Sequence[Selected],
    specs: Mapping[str, LoraSpec],
    *,
    adapter: str = "default",
    new_parameters: Collection[str] = (),
    also_train: Collection[str] = (),
    outputs: int | None = None,
) -> InjectionReport:
    """What `inject_adapter` does once the layers are chosen; here a rank may be larger than it needs to be.

    Args:
        model: The model, changed in place.
        chosen: What `select` gave for this model.
        specs: The settings of each chosen layer, by its name.
        adapter: Name of the adapter.
        new_parameters: Names of the newly initialised parameters.
        also_train: Names of further parameters that train with the adapter, such as biases.
        outputs: Outputs of a further adapter's own head; None for as many as the head in the model has.

    Raises:
        ValueError: the name cannot be one, or a layer already has an adapter of that name. The model is unchanged then.
    """
    check_adapter_name(adapter)
    for selected in chosen:
        if isinstance(selected.module, LoRALayer) and selected.module.carries(adapter):
            raise ValueError(
                f"{selected.name} already has an adapter named {adapter!r}; call delete_adapter() or give another name"
            )
    head = _own_head(model, new_parameters, outputs)
    routing = routing_of(model) or Routing()
    adapted = [_adapt(model, selected, specs[selected.name], adapter, routing) for selected in chosen]
    give_head(model, adapter, head, outputs, routing)
    routing.adapter = adapter
    own = set(head_names(model, adapter, new_parameters).values())
    train_only(model, {name for name, _ in adapter_parameters(model, adapter)} | own | set(also_train))
    return InjectionReport("lora", tuple(adapted), count_parameters(model, own))


def _own_head(model: nn.Module, new_parameters: Collection[str], outputs: int | None) -> list[str]:
    """Names of the modules that the adapter to come gets copies of: none where it is the first."""
    if adapter_names(model):
        return modules_to_copy(model, new_parameters, outputs)
    if outputs is not None:
        raise ValueError(f"outputs={outputs}: the first adapter's head is the one in the model; load the model with it")
    return []


def _check_specs_fit(specs: Mapping[str, LoraSpec], chosen: Sequence[Selected]) -> None:
    names = {selected.name for selected in chosen}
    if without := sorted(names - set(specs)):
        raise ValueError(f"the mapping of specs says nothing of {without[0]}, which is selected")
    if unused := sorted(set(specs) - names):
        raise ValueError(f"the spec for {unused[0]!r} has no effect: no selected layer has that full name")


def _check_rank(spec: LoraSpec, selected: Selected) -> None:
    if spec.rank > selected.largest_rank:
        in_features, out_features = selected.features
        raise ValueError(
            f"rank={spec.rank} is larger than layer {selected.name!r} allows: its weight is "
            f"{out_features // selected.layout.parts} x {in_features}, so rank must lie in 1 to {selected.largest_rank}"
        )


def _adapt(model: nn.Module, selected: Selected, spec: LoraSpec, adapter: str, routing: Routing) -> AdaptedModule:
    layer = selected.module
    if not isinstance(layer, LoRALayer):
        lora_class = lora_class_for(layer)
        assert lora_class is not None, "select() returns adaptable layers only"
        layer = lora_class.adopt(layer, routing)
        replace_module(model, selected.module, layer)
    delta = layer.add_adapter(adapter, spec, selected.layout)
    parameters = delta.A.numel() + delta.B.numel()
    return AdaptedModule(selected.name, selected.roles, *layer.features, spec.rank, parameters)


def eject(model: nn.Module) -> nn.Module:
    """Put the original module objects back in place of the adapted layers, with the weights the layers have now.

    After `merge` that is the merged model, with the base model's own state-dict keys; otherwise it is the base model.
    What was frozen stays frozen. The adapters are gone then, and so is what `merge` had set aside.
    """
    for _, module in list(routed_modules(model)):
        replace_module(model, module, module.release())
    return model


def merge(model: nn.Module, adapter: str | None = None) -> None:
    """Merge an adapter, the active one by default, into the weights of every layer that carries it.

    Its own head, where it has one, takes the place of the model's. Memory: while merged, one more copy of the adapted
    weights is kept (for query and value of BERT-base, 57 MB of 438 MB in fp32), from which `unmerge` restores them
    bit-exactly. Where there is no way back needed, `eject` after merging frees it; where there is no room for it,
    stay unmerged.

    Raises:
        ValueError: the model has no such adapter, or a merged weight would not be finite. Nothing is merged then.
        RuntimeError: something is merged already; or a layer is on the meta device, as one that accelerate offloads
            is: it has no values. Nothing is merged then.
    """
    routing = shared_routing(model)
    name = adapter if adapter is not None else routing.adapter
    if name is None:
        raise ValueError(f"no adapter is active; name the one to merge: {adapter_names(model)}")
    check_adapter(model, name)
    carriers = [(path, module) for path, module in routed_modules(model) if module.carries(name)]
    for done, (path, module) in enumerate(carriers):
        try:
            module.merge(name)
        except (ValueError, RuntimeError) as error:
            for _, already in carriers[:done]:
                already.unmerge()
            raise type(error)(f"{path}: {error}") from error
    routing.adapter = name


def unmerge(model: nn.Module) -> None:
    """Undo `merge` bit-exactly: every layer gets its own frozen Parameter object back.

    Raises:
        RuntimeError: nothing is merged.
    """
    merged_modules = [module for _, module in routed_modules(model) if module.merged_adapter is not None]
    if not merged_modules:
        raise RuntimeError("nothing is merged; call merge() first")
    for module in merged_modules:
        module.unmerge()


@contextmanager
def merged(model: nn.Module, adapter: str | None = None) -> Iterator[None]:
    """Within the block, the model runs with the adapter merged; afterwards it is unmerged bit-exactly.

    The adapter that was active before is active again then.
    """
    routing = shared_routing(model)
    active = routing.adapter
    merge(model, adapter)
    try:
        yield
    finally:
        unmerge(model)
        routing.adapter = active


def enable(model: nn.Module, adapter: str) -> None:
    """Make an adapter the active one, and its head.

    Under gradient checkpointing call ``backward`` before switching: it runs layers again, as they are routed then.

    Raises:
        ValueError: the model has no such adapter.
    """
    check_adapter(model, adapter)
    shared_routing(model).adapter = adapter


def disable(model: nn.Module) -> None:
    """Make the model its base model until `enable` is called."""
    shared_routing(model).adapter = None


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Within the block, the model is its base model."""
    routing = shared_routing(model)
    active, routing.adapter = routing.adapter, None
    try:
        yield
    finally:
        routing.adapter = active


def adapter_names(model: nn.Module) -> list[str]:
    """Names of the adapters anywhere in the model, in the order in which its layers have them."""
    found: dict[str, None] = {}
    for _, layer in lora_layers(model):
        found.update(dict.fromkeys(layer.adapters))
    return list(found)


def check_adapter(model: nn.Module, adapter: str) -> None:
    """Raise ValueError where the model has no adapter of that name."""
    if adapter not in (names := adapter_names(model)):
        raise ValueError(f"the model has no adapter named {adapter!r}; it has {names}")


def adapted_layers(model: nn.Module, adapter: str) -> dict[str, LoRALayer]:
    """The layers that carry an adapter, by their full names, in the model's order.

    Raises:
        ValueError: the model has no such adapter.
    """
    check_adapter(model, adapter)
    return {name: layer for name, layer in lora_layers(model) if layer.carries(adapter)}


def shared_routing(model: nn.Module) -> Routing:
    """The routing that the model's adapted layers share.

    Raises:
        ValueError: the model has no adapted layers.
    """
    routing = routing_of(model)
    if routing is None:
        raise ValueError("the model has no adapted layers; call inject_adapter() first")
    return routing
