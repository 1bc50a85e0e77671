"""Heads: newly initialised modules (classifier, pooler) of which each adapter has its own.

The head that stands in the model is where it was, under its own state-dict keys; those of further adapters lie in
``adapters`` beside it. The laws:

    merge(a); head(x)    ==  head(x) with adapter a in force, bit-equal
    merge(a); unmerge()  =>  the same Parameter objects where they were
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_lora.lora.routed import Routed
from lightning_lora.lora.routing import Span


class RoutedHead(Routed):
    """A module of which adapters have copies of their own; an adapter without one goes through what stands in place.

    Hooks on it see every adapter's output.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The head of the adapter in force; in a mixed batch the head of each span, side by side in the rows' order.

        Heads of a mixed batch may differ in the width of their output (tasks with 2 and with 3 labels). Narrower ones
        are filled up with -inf: a class that the task lacks has probability zero, so argmax, softmax and cross-entropy
        are what they are without it.
        """
        rows = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        spans = self.spans_for(rows)
        if not spans or self.merged_adapter is not None:
            return self._through(self.adapter_in_force(), args, kwargs)
        outputs = [
            self._through(
                span.adapter,
                tuple(self._rows(value, span) for value in args),
                {key: self._rows(value, span) for key, value in kwargs.items()},
            )
            for span in spans
        ]
        width = max(output.shape[-1] for output in outputs)
        return torch.cat([F.pad(output, (0, width - output.shape[-1]), value=-math.inf) for output in outputs])

    def _through(self, adapter: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        if self.carries(adapter):
            return cast(Tensor, self.adapters[adapter](*args, **kwargs))
        return cast(Tensor, super().forward(*args, **kwargs))

    def _rows(self, value: Any, span: Span) -> Any:
        if not isinstance(value, Tensor):
            return value
        self.spans_for(value)
        return value[span.start : span.stop]

    def merge(self, name: str) -> None:
        """Put the head of adapter ``name`` in place, under the base model's keys; what stood there is set aside.

        Raises:
            ValueError: there is no head of that name.
            RuntimeError: something is merged already.
        """
        self.check_mergeable(name)
        self._exchange(name)
        self.merged_adapter = name

    def unmerge(self) -> None:
        """Put back what stood in place.

        Raises:
            RuntimeError: nothing is merged.
        """
        if self.merged_adapter is None:
            raise RuntimeError("nothing is merged; call merge() first")
        self._exchange(self.merged_adapter)
        self.merged_adapter = None

    def slot_of(self, adapter: str) -> str | None:
        """The key in ``adapters`` under which the head of ``adapter`` lies now; None where it stands in place.

        While an adapter is merged, its head stands in place, and what stood there lies under the adapter's key.
        """
        slot = adapter if self.carries(adapter) else None
        if self.merged_adapter is None:
            return slot
        return {self.merged_adapter: None, None: self.merged_adapter}.get(slot, slot)

    def _exchange(self, name: str) -> None:
        """Exchange what this module and the adapter's copy hold, hooks apart; both stay registered throughout."""
        here, there = self.__dict__, self.adapters[name].__dict__
        adapters = here["_modules"].pop("adapters")
        for key in [key for key in there if "hook" not in key]:
            here[key], there[key] = there[key], here[key]
        here["_modules"]["adapters"] = adapters
