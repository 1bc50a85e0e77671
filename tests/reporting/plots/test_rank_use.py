"""The map of directions in use shows the best adapter's numbers, each in its place."""

import pytest
from comparisons import layer_choice, rank_use, with_rank_use

from lightning_lora.reporting.comparison import RankUse, TaskComparison
from lightning_lora.reporting.plots import PLOTS, plots_of

(MAP,) = (plot for plot in PLOTS if plot.name == "rank_use")


def texts(shown: TaskComparison) -> dict[tuple[float, float], list[str]]:
    (axes,) = MAP.draw(shown).axes
    cells: dict[tuple[float, float], list[str]] = {}
    for text in axes.texts:
        cells.setdefault(text.get_position(), []).append(text.get_text())
    return cells


def test_it_appears_where_a_run_logged_spectra() -> None:
    assert MAP not in plots_of(layer_choice())
    assert MAP in plots_of(with_rank_use(rank_use(2)))


def test_a_cell_for_each_block_and_role_of_the_best_option_that_has_them() -> None:
    shown = with_rank_use((), rank_use(3), rank_use(5))
    expected = {(float(n), float(block)): [f"{1 + block + n / 2:.1f}"] for block in range(3) for n in range(2)}
    assert texts(shown) == expected
    (axes,) = MAP.draw(shown).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["query", "value"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2"]
    assert axes.get_title(loc="left") == f"{shown.options[1].label}: directions in use, of 8"
    assert MAP.caption_of(shown).endswith("Shown: the best 1 of 2 options with adapters.")


def test_where_ranks_differ_each_cell_says_its_own() -> None:
    assert texts(with_rank_use(rank_use(2, ranks=(2, 4)))) == {
        (0, 0): ["1.0", "of 2"], (1, 0): ["1.5", "of 2"], (0, 1): ["2.0", "of 4"], (1, 1): ["2.5", "of 4"],
    }  # fmt: skip


def test_the_larger_the_share_of_the_rank_the_darker() -> None:
    (axes,) = MAP.draw(with_rank_use(rank_use(4))).axes
    light = [sum(cell.get_facecolor()[:3]) for cell in axes.patches]
    assert light == sorted(light, reverse=True)
    assert light[0] > light[-1] + 0.3


@pytest.mark.parametrize("sides", [("encoder", "decoder")])
def test_layers_that_share_block_and_role_have_columns_of_their_own(sides: tuple[str, str]) -> None:
    found = tuple(RankUse(f"{side}.block.{n}.layer.0.q", n, "query", 4, 2.0) for n in (0, 1) for side in sides)
    (axes,) = MAP.draw(with_rank_use((*found, RankUse("pooler.dense", None, "dense", 4, 1.0)))).axes
    names = [label.get_text().replace("\n", "") for label in axes.get_xticklabels()]
    assert names == ["encoder.block.*.layer.0.q", "decoder.block.*.layer.0.q", "dense"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["", "0", "1"]
    assert len(axes.patches) == 5
