"""What adapted layers and heads have in common: they stand in another module's place and follow the `Routing`.

A routed module is a subclass of the class of the module it stands for, and takes over what that one holds: the same
Parameter objects under the same state-dict keys. What is an adapter's own lies beside it, in ``adapters[name]``.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeGuard, TypeVar, cast

from torch import Tensor, nn

from lightning_lora.lora.routing import Routing, Span

AnyRouted = TypeVar("AnyRouted", bound="Routed")

_OF_EACH = ("_parameters", "_buffers", "_modules")
"""Registries that the routed module and the adopted one each need a copy of. Hook registries are shared, so that a
handle's ``remove()`` works across adoption and release."""
_COMPILED = "_compiled_call_impl"
"""What ``compile()`` leaves in a module: a call of that very module, which another must not take over."""


class Routed(nn.Module):
    """Adoption, release, and which adapter is in force. Mixed in front of the class of the adopted module."""

    # Begins the name of a class that `adopt` makes.
    prefix: ClassVar[str] = "Routed"
    adapters: nn.ModuleDict
    routing: Routing
    merged_adapter: str | None
    # In a tuple so that torch does not register it as a submodule.
    _base: tuple[nn.Module]

    @classmethod
    def adopt(cls: type[AnyRouted], base: nn.Module, routing: Routing) -> AnyRouted:
        """A routed module, without adapters yet, that takes over all that ``base`` holds and keeps it for `release`.

        Its class is this one, mixed in front of that of ``base`` where it is no subclass of that yet. It is not
        compiled, also where ``base`` is, by its own ``compile()``.
        """
        routed = _blank(cls, type(base))
        held = {key: copy.copy(v) if key in _OF_EACH else v for key, v in base.__dict__.items() if key != _COMPILED}
        routed.__dict__.update(held)
        routed._base = (base,)
        routed.merged_adapter = None
        routed.routing = routing
        routed.adapters = nn.ModuleDict()
        return routed

    def release(self) -> nn.Module:
        """The very module that was adopted, with what this one holds in its place now (merged where merged)."""
        base = self._base[0]
        for key in base.__dict__.keys() - {_COMPILED}:
            base.__dict__[key] = self.__dict__[key]
        base._modules = {name: module for name, module in self._modules.items() if name != "adapters"}
        return base

    def carries(self, adapter: str | None) -> TypeGuard[str]:
        """Whether an adapter has something of its own here; the base model (None) has not."""
        return adapter is not None and adapter in self.adapters

    def adapter_in_force(self) -> str | None:
        """The adapter to go through beside what stands in place: None for the base model, and for a merged adapter.

        In a mixed batch it is None too; see `spans_for`.

        Raises:
            RuntimeError: an adapter is merged, and the routing asks for something else.
        """
        if self.merged_adapter is None:
            return None if self.routing.spans else self.routing.adapter
        if self.routing.spans or self.merged_adapter != self.routing.adapter:
            asked = "a mixed batch" if self.routing.spans else repr(self.routing.adapter)
            raise RuntimeError(
                f"adapter {self.merged_adapter!r} is merged into the weights, but {asked} is asked for; call unmerge() "
                "before switching or disabling adapters, or swap_merged() to merge another one"
            )
        return None

    def spans_for(self, x: Tensor) -> tuple[Span, ...]:
        """The spans that divide ``x``; empty where the batch is not mixed, or none of its adapters is carried here.

        Raises:
            ValueError: ``x`` does not have one row for each row of the mixed batch.
        """
        spans = self.routing.spans
        if not any(self.carries(span.adapter) for span in spans):
            return ()
        if x.ndim == 0 or x.shape[0] != spans[-1].stop:
            raise ValueError(
                f"the mixed batch has {spans[-1].stop} rows, but a {type(self).__name__} is given a tensor of shape "
                f"{tuple(x.shape)}; a layer that is given something else than rows, such as positions that all rows "
                "share or rows flattened into tokens, cannot be adapted in a mixed batch"
            )
        return spans

    def state_dict(self, *args: Any, prefix: str = "", **named: Any) -> Any:
        """`nn.Module.state_dict`. While an adapter is merged here: of what stands in place, by the base's keys.

        No adapter's factors are in it then: loaded elsewhere, they would be added to weights that hold them already.
        """
        found = super().state_dict(*args, prefix=prefix, **named)
        if self.merged_adapter is not None:
            for key in [key for key in found if key.startswith(f"{prefix}adapters.")]:
                del found[key]
        return found

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """What `nn.Module.load_state_dict` calls.

        Raises:
            RuntimeError: an adapter is merged, and there are values for this module: what is set aside has no key.
        """
        if self.merged_adapter is not None and any(key.startswith(prefix) for key in state_dict):
            raise RuntimeError(
                f"adapter {self.merged_adapter!r} is merged; call unmerge() before loading a state dict, or eject() to "
                "load one of the merged model"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def merge(self, name: str) -> None:
        """Put what adapter ``name`` makes of this module in its place."""
        raise NotImplementedError

    def unmerge(self) -> None:
        """Undo `merge`, exactly."""
        raise NotImplementedError

    def check_mergeable(self, name: str) -> None:
        """Raise RuntimeError where something is merged already, ValueError where there is no such adapter here."""
        if self.merged_adapter is not None:
            raise RuntimeError(f"adapter {self.merged_adapter!r} is already merged; call unmerge() first")
        if not self.carries(name):
            raise ValueError(f"the layer has no adapter named {name!r}, only {list(self.adapters)}")


@functools.cache
def _mixed(kind: type[Routed], base_class: type[nn.Module]) -> type[Routed]:
    """``kind`` in front of ``base_class``: the same class at every call."""
    attributes = {"__doc__": kind.__doc__, "__module__": __name__, "__reduce_ex__": _reduced}
    return type(f"{kind.prefix}{base_class.__name__}", (kind, base_class), attributes)


def _blank(kind: type[AnyRouted], base_class: type[nn.Module]) -> AnyRouted:
    """A module that holds nothing yet."""
    mixed = kind if issubclass(kind, base_class) else _mixed(kind, base_class)  # type: ignore[arg-type]  # mypy takes Module's __hash__ for the class's
    return cast(AnyRouted, mixed.__new__(mixed))


def _reduced(module: Routed, protocol: int) -> tuple[Any, ...]:
    """For pickle, which finds classes by their names, and those that are made here by none."""
    return _blank, type(module).__bases__, *object.__reduce_ex__(module, protocol)[2:]


def routed_modules(model: nn.Module) -> Iterator[tuple[str, Routed]]:
    """(name, module) of every adapted layer and every head with copies, each once, in the model's order."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Routed))
