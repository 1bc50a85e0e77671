"""Which adapter is in force. One `Routing` object is shared by all adapted layers and heads of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Span:
    """Neighbouring rows, start <= row < stop, that go through one adapter, or (None) through the base model."""

    adapter: str | None
    start: int
    stop: int


@dataclass
class Routing:
    """The adapter that every row of a batch goes through, or which rows go through which.

    Attributes:
        adapter: Name of the adapter, or None for the base model. Layers that do not carry it stay as their base.
        spans: Where not empty, the batch is mixed and ``adapter`` has no say: the spans follow each other from row 0
            to the last row. A row is an entry of the first dimension of what a layer is given.
    """

    adapter: str | None = None
    spans: tuple[Span, ...] = ()


def spans_of(names: Sequence[str | None]) -> tuple[Span, ...]:
    """The adapter of each row as spans: one for each run of neighbours that share an adapter."""
    spans: list[Span] = []
    for adapter, run in groupby(names):
        start = spans[-1].stop if spans else 0
        spans.append(Span(adapter, start, start + len(list(run))))
    return tuple(spans)


def route(names: Sequence[str | None]) -> tuple[list[int], tuple[Span, ...]]:
    """Bring the rows of each adapter together, so that a layer has as few spans as there are adapters.

    Args:
        names: The adapter of each row.

    Returns:
        The order to take the rows in (adapters by first appearance, the rows of one in the order they had), and the
        spans of the rows so ordered. ``names[order[i]]`` is the adapter of row i.
    """
    first = {adapter: row for row, adapter in reversed(list(enumerate(names)))}
    order = sorted(range(len(names)), key=lambda row: first[names[row]])
    return order, spans_of([names[row] for row in order])
