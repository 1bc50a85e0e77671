"""Labels and marks never cover one another, whatever has to be placed."""

import random
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_lora.reporting.plots.placement import Box, place_labels, set_side_by_side

FRAME = Box(0.0, 0.0, 400.0, 250.0)
POINTS = st.tuples(st.floats(0, 400), st.floats(0, 250))
POSITIONS = st.lists(st.floats(0, 100), min_size=1, max_size=30)


def test_the_common_area_of_two_boxes() -> None:
    assert Box(0.0, 0.0, 4.0, 3.0).overlap(Box(2.0, 1.0, 9.0, 9.0)) == 2 * 2
    assert Box(0.0, 0.0, 4.0, 3.0).overlap(Box(4.0, 0.0, 5.0, 3.0)) == 0
    assert Box(-1.0, 0.0, 4.0, 3.0).outside(Box(0.0, 0.0, 9.0, 9.0)) == 3


@given(st.lists(POINTS, min_size=1, max_size=25))
def test_labels_are_in_the_frame_and_apart(anchors: list[tuple[float, float]]) -> None:
    marks = [Box(x - 2, y - 2, x + 2, y + 2) for x, y in anchors]
    boxes = place_labels(anchors, [(30.0, 9.0)] * len(anchors), marks, FRAME)
    if boxes is not None:
        assert len(boxes) == len(anchors)
        assert all(box.outside(FRAME) < 1e-6 for box in boxes)
        assert not any(one.overlap(other) for one, other in combinations(boxes, 2))
        assert not any(box.overlap(mark) for box in boxes for mark in marks)


def test_labels_find_room_where_there_is_plenty() -> None:
    """Without it the law above would hold of a function that never finds any."""
    draw = random.Random(0)
    anchors = [(draw.uniform(20, 380), draw.uniform(20, 230)) for _ in range(10)]
    assert place_labels(anchors, [(30.0, 9.0)] * 10, [], FRAME) is not None


def test_a_lone_label_stands_to_the_right_of_its_mark() -> None:
    assert place_labels([(100.0, 100.0)], [(30.0, 8.0)], [], FRAME) == [Box(105.0, 96.0, 135.0, 104.0)]


def test_where_there_is_no_room_it_says_so() -> None:
    assert place_labels([(200.0, 100.0)], [(500.0, 8.0)], [], FRAME) is None
    assert place_labels([(200.0, 100.0)], [(30.0, 8.0)], [FRAME], FRAME) is None


@pytest.mark.parametrize(
    ("positions", "moved"),
    [
        ([20.0, 60.0], [20.0, 60.0]),
        ([50.0, 50.0], [45.0, 55.0]),
        ([50.0, 50.0, 58.0], [42 + 2 / 3, 52 + 2 / 3, 62 + 2 / 3]),
        ([98.0, 99.0], [85.0, 95.0]),
        ([1.0, 0.0], [15.0, 5.0]),
    ],
)
def test_marks_side_by_side_by_hand(positions: list[float], moved: list[float]) -> None:
    assert set_side_by_side(positions, 10.0, 0.0, 100.0) == pytest.approx(moved)


@given(POSITIONS)
def test_marks_stand_apart_in_order_and_in_bounds(positions: list[float]) -> None:
    width = min(8.0, 100 / len(positions))
    moved = set_side_by_side(positions, 8.0, 0.0, 100.0)
    by_place = sorted(range(len(positions)), key=lambda index: (positions[index], index))
    places = [moved[index] for index in by_place]
    assert all(right - left >= width - 1e-6 for left, right in pairwise(places))
    assert places[0] >= width / 2 - 1e-6
    assert places[-1] <= 100 - width / 2 + 1e-6
