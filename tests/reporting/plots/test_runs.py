"""Learning curves and costs show what the runs logged."""

from dataclasses import replace

import pytest
from comparisons import layer_choice

from lightning_lora.reporting.comparison import Curve
from lightning_lora.reporting.plots import PLOTS
from lightning_lora.reporting.plots.runs import mean_curve

CURVES, COST = PLOTS[4], PLOTS[5]


def test_the_mean_is_over_the_epochs_that_all_seeds_have() -> None:
    curves = [Curve(0, (1.0, 2.0, 3.0), (0.5, 0.6, 0.9)), Curve(1, (1.0, 2.0), (0.7, 0.8))]
    epochs, scores = mean_curve(curves)
    assert epochs == [1.0, 2.0]
    assert scores == pytest.approx([60.0, 70.0])


def test_a_panel_for_each_option_with_a_line_for_each_seed() -> None:
    task = layer_choice()
    figure = CURVES.draw(task)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [one.label for one in task.options]
    for axes, one in zip(figure.axes, task.options, strict=True):
        *seeds, best, mean = axes.lines
        assert [list(line.get_ydata()) for line in seeds] == [[100 * s for s in curve.scores] for curve in one.curves]
        assert list(mean.get_ydata()) == mean_curve(one.curves)[1]
        assert list(best.get_ydata()) == mean_curve(task.options[0].curves)[1]
        assert mean.get_linewidth() > 2 * seeds[0].get_linewidth()


def test_bars_are_as_long_as_time_and_memory() -> None:
    task = layer_choice()
    time, memory = COST.draw(task).axes
    assert [bar.get_width() for bar in time.patches] == pytest.approx([one.fit_seconds for one in task.options])
    gib = [(one.peak_memory_bytes or 0) / 2**30 for one in task.options]
    assert [bar.get_width() for bar in memory.patches] == pytest.approx(gib)


def test_memory_that_was_not_measured_is_not_zero() -> None:
    task = layer_choice()
    unknown = replace(task.options[0], peak_memory_bytes=None)
    memory = COST.draw(replace(task, options=(unknown, *task.options[1:]))).axes[1]
    assert [text.get_text() for text in memory.texts].count("not measured") == 1
    nowhere = tuple(replace(one, peak_memory_bytes=None) for one in task.options)
    assert len(COST.draw(replace(task, options=nowhere)).axes) == 1
