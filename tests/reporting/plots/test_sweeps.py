"""The map of rank and alpha, and the lines of the learning rate: which there are, and what they show."""

from dataclasses import replace
from itertools import product

import pytest
from comparisons import learning_rates, option, rank_and_alpha, sweep, task_of
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from lightning_lora.reporting.plots import PLOTS
from lightning_lora.reporting.plots.sweeps import lines, maps

MAP, RATE = PLOTS[2], PLOTS[3]


def luminance(colour: str | tuple[float, ...]) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(share * channel for share, channel in zip((0.2126, 0.7152, 0.0722), channels, strict=True))


def test_a_map_for_each_other_setting_the_best_first() -> None:
    task = rank_and_alpha()
    assert {part.shared for part in maps(task)} == {f"{lora}, lr {lr}" for lora in ("all", "qv") for lr in (2e-4, 4e-4)}
    best = [part.options[0].mean.value for part in maps(task)]
    assert best == sorted(best, reverse=True)
    assert sum(len(part.options) for part in maps(task)) == len(task.options)


def test_a_cell_shows_the_mean_and_the_number_of_seeds() -> None:
    settings = list(product((4, 8), (8, 16)))
    tried = [option({"rank": r, "alpha": a}, 0.6 + 0.01 * r + 0.001 * a, seeds=2 + (r == 8)) for r, a in settings[:-1]]
    (axes,) = MAP.draw(task_of(tried)).axes
    shown = {(text.get_position(), text.get_text()) for text in axes.texts}
    expected = set()
    for one in tried:
        at = ((8, 16).index(one.settings["alpha"]), (4, 8).index(one.settings["rank"]))  # type: ignore[arg-type]
        expected |= {(at, f"{100 * one.mean.value:.1f}"), (at, f"n = {len(one.seeds)}")}
    assert shown == expected
    assert not any(position == (1, 1) for position, _ in shown), "a cell that was not tried stays empty"


def test_the_numbers_in_the_cells_are_legible() -> None:
    for axes in MAP.draw(rank_and_alpha()).axes:
        cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        for cell, text in zip(cells, axes.texts[::2], strict=True):
            light, dark = sorted((luminance(cell.get_facecolor()), luminance(text.get_color())), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_alpha_bound_to_rank_is_no_map() -> None:
    bound = [option({"rank": rank, "alpha": 2 * rank}, 0.6 + 0.01 * rank) for rank in (2, 4, 8)]
    assert not MAP.says_something(task_of(bound))
    free = [*bound, option({"rank": 2, "alpha": 8}, 0.65)]
    assert MAP.says_something(task_of(free))


def test_baselines_without_a_rank_are_in_no_map() -> None:
    swept = [option({"lora": "qv", "rank": r, "alpha": a}, 0.6 + 0.01 * r + 0.001 * a) for r in (2, 4) for a in (8, 16)]
    baseline = option({"lora": "full", "rank": None, "alpha": None}, 0.7)
    (part,) = maps(task_of([*swept, baseline]))
    assert {one.label for one in part.options} == {one.label for one in swept}


def test_a_few_lines_share_their_axes_and_differ_in_more_than_colour() -> None:
    task = learning_rates()
    figure = RATE.draw(task)
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all", "qv", "full", "q"]
    assert len({line.get_marker() for line in axes.lines}) == len({line.get_linestyle() for line in axes.lines}) == 4
    for part, line in zip(lines(task), axes.lines, strict=True):
        by_rate = sorted((one.settings["lr"], 100 * one.mean.value) for one in part.options)
        assert list(line.get_ydata()) == [score for _, score in by_rate]
        assert list(line.get_xdata()) == pytest.approx([rate for rate, _ in by_rate], rel=0.04)


def test_many_lines_have_a_panel_each() -> None:
    figure = RATE.draw(sweep())
    assert [axes.get_title(loc="left") for axes in figure.axes] == [part.shared for part in lines(sweep())]
    assert len(figure.axes) == 8
    assert not figure.legends


def test_an_option_tried_at_one_rate_is_no_line() -> None:
    task = learning_rates()
    alone = option({"lora": "mlp", "lr": 1e-4}, 0.9)
    with_it = replace(task, options=(alone, *task.options))
    assert [part.shared for part in lines(with_it)] == [part.shared for part in lines(task)]
