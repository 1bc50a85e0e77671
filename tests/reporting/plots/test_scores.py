"""The scatter plot and the forest plot show the numbers they are given, and nothing covers a label."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
from comparisons import layer_choice, many, option, rank_and_alpha, sweep, task_of, two_options
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from lightning_lora.reporting.comparison import Interval, TaskComparison
from lightning_lora.reporting.plots import PLOTS
from lightning_lora.reporting.plots.scores import limits_of
from lightning_lora.reporting.plots.style import PAPER

SIZE, DIFFERENCES = PLOTS[0], PLOTS[1]


def marks(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_marker() == "o"]


def hollow(mark: Line2D) -> bool:
    return bool(to_hex(mark.get_markerfacecolor()) == PAPER)


def names(axes: Axes) -> list[Annotation]:
    return [text for text in axes.texts if isinstance(text, Annotation) and text.get_text()]


def test_marks_stand_at_size_and_score() -> None:
    task = layer_choice()
    (axes,) = SIZE.draw(task).axes
    at = [(float(mark.get_xdata()[0]), float(mark.get_ydata()[0])) for mark in marks(axes)]
    assert at == [pytest.approx((one.trainable_percent, 100 * one.mean.value)) for one in task.options]
    assert axes.get_xscale() == "log"


def test_marks_are_filled_where_they_share_a_group_with_the_best() -> None:
    task = layer_choice()
    (axes,) = SIZE.draw(task).axes
    filled = [one.label for one, mark in zip(task.options, marks(axes), strict=True) if not hollow(mark)]
    assert filled == ["all", "full", "qkvo"] == [label for label, group in task.groups.items() if group == "a"]


@pytest.mark.parametrize("made", [two_options, layer_choice, rank_and_alpha, sweep, many])
def test_no_label_covers_another(made: Callable[[], TaskComparison]) -> None:
    task = made()
    figure = SIZE.draw(task)
    boxes = [text.get_window_extent() for text in names(figure.axes[0])]
    assert len(boxes) == min(len(task.options), 40)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    frame = figure.bbox
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


def test_names_where_they_fit_else_numbers_with_a_key() -> None:
    (axes,) = SIZE.draw(layer_choice()).axes
    assert {text.get_text() for text in names(axes)} == {one.label for one in layer_choice().options}
    task = sweep()
    axes, key = SIZE.draw(task).axes
    assert [text.get_text() for text in names(axes)] == [str(number) for number in range(1, 41)]
    written = [text.get_text() for text in key.texts]
    assert written[::2] == [str(number) for number in range(1, 41)]
    assert written[1::2] == [one.label for one in task.options]


def test_of_one_seed_each_the_interval_is_over_examples() -> None:
    tried = [option({"lora": lora}, quality, seeds=1) for lora, quality in (("qv", 0.7), ("all", 0.72))]
    tried = [replace(one, over_examples=Interval(one.mean.value, 0.61, 0.79)) for one in tried]
    (axes,) = SIZE.draw(task_of(tried)).axes
    ends = [path.vertices[:, 1].tolist() for lines in axes.collections for path in lines.get_paths()]
    assert ends == [pytest.approx([61.0, 79.0])] * 2


def test_an_option_that_trains_nothing_has_no_place_on_a_logarithm() -> None:
    task = layer_choice()
    nothing = replace(task.options[-1], trainable_percent=0.0)
    (axes,) = SIZE.draw(replace(task, options=(*task.options[:-1], nothing))).axes
    assert len(marks(axes)) == len(task.options) - 1


def test_the_axis_of_scores_by_hand() -> None:
    assert limits_of([Interval(0.5, 0.48, 0.51), Interval(0.54)]) == pytest.approx((48 - 0.36, 54 + 0.36))


def test_the_interval_of_two_seeds_does_not_squeeze_the_scores() -> None:
    """Student's t of one degree of freedom is 12.7: here ± 60 points, where the options are 2 apart."""
    low, high = limits_of([Interval(0.7, 0.1, 1.3), Interval(0.72, 0.71, 0.73)])
    assert (low, high) == pytest.approx((68 - 0.36, 74 + 0.36))


def test_differences_in_the_order_of_the_contrasts() -> None:
    task = layer_choice()
    (axes,) = DIFFERENCES.draw(task).axes
    values = [100 * contrast.difference.value for contrast in task.contrasts]
    assert [float(mark.get_xdata()[0]) for mark in marks(axes)] == pytest.approx(values)
    assert [hollow(mark) for mark in marks(axes)] == [contrast.p_holm >= 0.05 for contrast in task.contrasts]
    assert [label.get_text() for label in axes.get_yticklabels()] == [one.option for one in task.contrasts]
    top, bottom = axes.transData.transform([(0, 0), (0, len(values) - 1)])[:, 1]
    assert top > bottom


def test_a_dollar_in_a_label_is_no_formula() -> None:
    task = task_of([option({"lora": "qv", "tag": "$\\frac{"}, 0.7), option({"lora": "all", "tag": "$x$"}, 0.72)])
    for plot in (SIZE, DIFFERENCES):
        plot.draw(task).draw_without_rendering()
