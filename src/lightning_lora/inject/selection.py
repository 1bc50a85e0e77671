"""Which layers of a model are adapted: by role, or by name where the user names them."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from lightning_lora.inject.vocabulary import token_embedding
from lightning_lora.lora import OutputLayout, lora_class_for, routed_modules
from lightning_lora.lora.functional import WHOLE
from lightning_lora.spelling import did_you_mean
from lightning_lora.targets import Role, UnknownArchitecture, match, projections_for


@dataclass(frozen=True)
class Selected:
    """A layer to adapt: its full name, the layer, what it is for, its block and the layout of its output."""

    name: str
    module: nn.Module
    roles: tuple[str, ...]
    block: int | None
    layout: OutputLayout = WHOLE

    @property
    def features(self) -> tuple[int, int]:
        """Widths of the input and of the whole output, of all fused parts together."""
        lora_class = lora_class_for(self.module)
        assert lora_class is not None, "select() returns adaptable layers only"
        rows, columns = self.module.get_parameter("weight").shape
        return (rows, columns) if lora_class.weight_is_in_by_out else (columns, rows)

    @property
    def largest_rank(self) -> int:
        """The largest rank that the weight of one adapted part can have."""
        in_features, out_features = self.features
        return min(in_features, out_features // self.layout.parts)

    @property
    def parameters_per_rank(self) -> int:
        """Adapter parameters that one more rank costs: ``parts · in + adapted out features``."""
        in_features, out_features = self.features
        return len(self.layout.adapted) * in_features + self.layout.adapted_features(out_features)


def select(
    model: nn.Module,
    *,
    roles: Collection[Role] = (),
    modules: Sequence[str] | None = None,
    layers: Collection[int] | None = None,
    exclude: Sequence[str] = (),
    new_parameters: Collection[str] = (),
) -> list[Selected]:
    """The layers to adapt, in the model's order, a shared layer once.

    Args:
        model: A transformer; with ``roles``, its ``config.model_type`` says which table is read.
        roles: The projections wanted; what the architecture lacks of them (a gate in BERT) is passed over.
        modules: Layer names given by hand instead of roles: full names or their last parts (``attention.self.query``).
        layers: Numbers of the blocks to keep, from 0; None keeps all.
        exclude: Names, full or last parts, of layers to leave out.
        new_parameters: Names of newly initialised parameters; the layers that hold them are never adapted.

    Raises:
        ValueError: nothing, or only a part of what was asked for, is there; an unknown architecture; a layer whose
            kind cannot be adapted. The message lists what is there.
    """
    candidates = _candidates(model, new_parameters)
    chosen = _by_name(candidates, modules) if modules is not None else _by_role(model, candidates, roles)
    if layers is not None:
        chosen = _restrict_to_blocks(chosen, layers)
    chosen = _without(chosen, exclude)
    if not chosen:
        raise ValueError(
            f"nothing is left to adapt: roles, layers and exclude rule out every layer\n{_listing(candidates)}"
        )
    for selected in chosen:
        _check_kind(model, selected)
    return chosen


def _candidates(model: nn.Module, new_parameters: Collection[str]) -> dict[str, nn.Module]:
    heads = {name.rpartition(".")[0] for name in new_parameters}
    copies = tuple(f"{name}.adapters." for name, _ in routed_modules(model))
    named = ((name, module) for name, module in model.named_modules() if name and not name.startswith(copies))
    return {name: module for name, module in named if name not in heads}


def _by_role(model: nn.Module, candidates: dict[str, nn.Module], roles: Collection[Role]) -> list[Selected]:
    config = getattr(model, "config", None)
    model_type = getattr(config, "model_type", type(model).__name__)
    try:
        projections = projections_for(model_type)
    except UnknownArchitecture as error:
        raise ValueError(f"{error}\n{_listing(candidates)}") from error
    chosen = []
    for name, module in candidates.items():
        found = match(name, projections)
        wanted = tuple(role for role in found.roles if role in roles) if found else ()
        if found and wanted:
            parts = found.projection.roles
            adapted = tuple(parts.index(role) for role in wanted)
            layout = OutputLayout(adapted, len(parts), found.projection.groups_in(config))
            chosen.append(Selected(name, module, tuple(map(str, wanted)), found.block, layout))
    if not chosen:
        has = sorted({str(role) for projection in projections for role in projection.roles})
        raise ValueError(
            f"{model_type} has no layer with role {', '.join(sorted(map(str, roles))) or '(none given)'}; "
            f"it has {', '.join(has)}"
        )
    return chosen


def _by_name(candidates: dict[str, nn.Module], modules: Sequence[str]) -> list[Selected]:
    """Layers whose full name is one of ``modules`` or ends in one at a dot; every given name must find something."""
    adaptable = {name: module for name, module in candidates.items() if lora_class_for(module) is not None}
    for wanted in modules:
        if not any(_ends_in(name, wanted) for name in adaptable):
            ends = sorted({name.rpartition(".")[2] for name in adaptable} | set(adaptable))
            others = [module for name, module in candidates.items() if _ends_in(name, wanted)]
            what = f"a {type(others[0]).__name__}, which cannot be adapted, is" if others else "no layer is"
            raise ValueError(f"{what} named {wanted!r}{did_you_mean(wanted, ends)}\n{_listing(candidates)}")
    return [
        Selected(name, module, ("named",), _block_in(name))
        for name, module in adaptable.items()
        if any(_ends_in(name, wanted) for wanted in modules)
    ]


def _restrict_to_blocks(chosen: list[Selected], layers: Collection[int]) -> list[Selected]:
    present = {selected.block for selected in chosen if selected.block is not None}
    if missing := sorted(set(layers) - present):
        raise ValueError(f"layers={sorted(layers)}: there is no block {missing[0]}; the blocks are {sorted(present)}")
    if outside := [selected.name for selected in chosen if selected.block is None]:
        raise ValueError(
            f"layers={sorted(layers)}: {outside[0]} is chosen too, and is in no block; leave one of them out"
        )
    return [selected for selected in chosen if selected.block in set(layers)]


def _without(chosen: list[Selected], exclude: Iterable[str]) -> list[Selected]:
    for unwanted in exclude:
        kept = [selected for selected in chosen if not _ends_in(selected.name, unwanted)]
        if len(kept) == len(chosen):
            raise ValueError(f"exclude={unwanted!r} rules out nothing; selected are {_some(s.name for s in chosen)}")
        chosen = kept
    return chosen


def _check_kind(model: nn.Module, selected: Selected) -> None:
    """Refuse layers that cannot carry a term, and those whose owner reads the weight without calling the layer."""
    module = selected.module
    if lora_class_for(module) is None:
        raise ValueError(
            f"{selected.name} is a {type(module).__name__}; adapted can be Linear, Conv1D and Embedding, whose forward "
            "is torch's own"
        )
    if "forward" in vars(module):
        raise ValueError(
            f"{selected.name} has had its forward replaced, as accelerate's hooks do it, so an adapter there would "
            "have no effect; load the model without a device_map"
        )
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        raise ValueError(f"{selected.name} renormalises its rows (max_norm), which no additive term can follow")
    if called := _called_instead(model, module):
        raise ValueError(
            f"{selected.name} only keeps the weight that {_some(called)} look up in, and is not called itself, so an "
            "adapter there would have no effect; name those instead"
        )
    owner = model.get_submodule(selected.name.rpartition(".")[0])
    if isinstance(owner, nn.MultiheadAttention | nn.TransformerEncoderLayer):
        raise ValueError(
            f"{selected.name} belongs to torch's {type(owner).__name__}, which reads the weight without calling the "
            "layer, so an adapter there would have no effect"
        )


def _called_instead(model: nn.Module, module: nn.Module) -> list[str]:
    """The embeddings that a model's own embedding of tokens shares its weight with: they are called, and it is not.

    So it is in Hugging Face's models of an encoder and a decoder (T5), each of which has an embedding of its own.
    """
    if token_embedding(model) is not module:
        return []
    embeddings = [(name, other) for name, other in model.named_modules() if isinstance(other, nn.Embedding)]
    return [name for name, other in embeddings if other is not module and other.weight is module.weight]


def _ends_in(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _block_in(name: str) -> int | None:
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(number.group(1)) if number else None


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    first, others = listed[:6], listed[6:]
    return ", ".join(first) + (f" and {len(others)} more" if others else "")


def _listing(candidates: dict[str, nn.Module]) -> str:
    """Every adaptable layer by name and weight shape, block numbers folded, and how to name layers by hand."""
    folded: dict[tuple[str, tuple[int, ...], str], int] = {}
    for name, module in candidates.items():
        if lora_class_for(module) is not None and isinstance(weight := getattr(module, "weight", None), nn.Parameter):
            key = (re.sub(r"(?<=\.)\d+(?=\.)", "*", name), tuple(weight.shape), type(module).__name__)
            folded[key] = folded.get(key, 0) + 1
    lines = [
        f"  {name}  {kind} {' x '.join(map(str, size))}  ({count})" for (name, size, kind), count in folded.items()
    ]
    return "\n".join(["layers that can be named by hand, as lora.modules=[name,...]:", *lines])
