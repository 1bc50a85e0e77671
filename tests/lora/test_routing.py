"""Rows into spans, and the order that makes them few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_lora.lora import Span, route, spans_of

NAMES = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12)


def test_neighbours_of_one_adapter_are_one_span() -> None:
    assert spans_of(["b", "b", None, "a", "b"]) == (
        Span("b", 0, 2),
        Span(None, 2, 3),
        Span("a", 3, 4),
        Span("b", 4, 5),
    )
    assert spans_of([]) == ()


def test_routing_brings_rows_together_and_keeps_their_order() -> None:
    order, spans = route(["b", "a", "b", None, "a"])
    assert order == [0, 2, 1, 4, 3]
    assert spans == (Span("b", 0, 2), Span("a", 2, 4), Span(None, 4, 5))


@given(NAMES)
def test_every_row_is_in_one_span_with_its_adapter(names: list[str | None]) -> None:
    order, spans = route(names)
    assert sorted(order) == list(range(len(names)))
    assert len(spans) == len(set(names))
    adapters = [span.adapter for span in spans for _ in range(span.start, span.stop)]
    assert [names[row] for row in order] == adapters
    for adapter in set(names):
        rows = [row for row in order if names[row] == adapter]
        assert rows == sorted(rows)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], [None]])
def test_a_batch_of_one_adapter_is_one_span(names: list[str | None]) -> None:
    assert route(names) == (list(range(len(names))), (Span(names[0], 0, len(names)),))
