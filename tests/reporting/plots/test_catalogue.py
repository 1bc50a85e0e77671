"""Which plots appear, that they are the same at every drawing, and the files they become."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import matplotlib
import pytest
from comparisons import (
    layer_choice,
    learning_rates,
    many,
    option,
    rank_and_alpha,
    rank_use,
    sweep,
    task_of,
    two_options,
    with_rank_use,
)
from PIL import Image

from lightning_lora.reporting.comparison import Comparison, TaskComparison
from lightning_lora.reporting.plots import PLOTS, Plot, plots_of, rendered, save_plots
from lightning_lora.reporting.plots.names import shorten

ALWAYS = {"differences", "learning_curves", "cost"}


def short_runs() -> TaskComparison:
    """One epoch, one size, no predictions: nothing moves but what the runs cost."""
    tried = [option({"lora": "qv", "tag": tag}, quality) for tag, quality in (("a", 0.7), ("b", 0.72))]
    ends = [replace(one, curves=tuple(replace(c, epochs=(1.0,), scores=(0.7,)) for c in one.curves)) for one in tried]
    return replace(task_of(ends), contrasts=())


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (two_options(), ALWAYS | {"score_by_size"}),
        (layer_choice(), ALWAYS | {"score_by_size"}),
        (sweep(), ALWAYS | {"score_by_size", "learning_rate"}),
        (rank_and_alpha(), ALWAYS | {"score_by_size", "learning_rate", "rank_by_alpha"}),
        (short_runs(), {"cost"}),
        (task_of([option({"lora": "qv"}, 0.7)]), {"learning_curves"}),
        (replace(two_options(), options=(), contrasts=()), set()),
    ],
    ids=["two", "layers", "sweep", "rank and alpha", "short", "one", "none"],
)
def test_a_plot_appears_where_its_axes_vary(task: TaskComparison, expected: set[str]) -> None:
    assert {plot.name for plot in plots_of(task)} == expected


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_plot_is_the_same_to_the_byte_whatever_the_user_set(plot: Plot, kind: Literal["svg", "png"]) -> None:
    made = {
        "learning_rate": learning_rates,
        "rank_by_alpha": rank_and_alpha,
        "rank_use": lambda: with_rank_use(rank_use(2), rank_use(3)),
    }
    task = made.get(plot.name, two_options)()
    first = rendered(plot.draw(task), kind)
    with matplotlib.rc_context({"font.size": 30.0, "axes.grid": False, "svg.fonttype": "path", "svg.hashsalt": "x"}):
        again = rendered(plot.draw(task), kind)
    assert first == again
    other = replace(task, metric="matthews", options=task.options[::-1], contrasts=task.contrasts[::-1])
    assert rendered(plot.draw(other), kind) != first, "the negative control"


def test_text_stays_text() -> None:
    svg = ElementTree.fromstring(rendered(PLOTS[0].draw(layer_choice()), "svg"))
    texts = {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"qkvo", "bitfit", "accuracy × 100"} <= texts


def test_files_for_an_experiment(tmp_path: Path) -> None:
    task = replace(two_options(), task="../../<b>", base="org/model")
    written = save_plots(Comparison((task, task)), tmp_path)
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert {path.parent.relative_to(tmp_path).as_posix() for path in written} == {"1-b-org-model", "2-b-org-model"}
    assert {path.name for path in written} == {f"{p.name}.{kind}" for p in plots_of(task) for kind in ("svg", "png")}
    with Image.open(next(path for path in written if path.suffix == ".png")) as image:
        assert image.width == 1520


def test_the_caption_says_what_is_left_out() -> None:
    plot = PLOTS[0]
    assert plot.caption_of(many(41)) == f"{plot.caption} Shown: the best 40 of 41 options."
    assert plot.caption_of(many(40)) == plot.caption


@pytest.mark.parametrize(
    ("text", "longest", "short"),
    [("qv, rank 8", 10, "qv, rank 8"), ("qv, rank 16", 10, "qv, r…k 16"), ("a\x00\u202eb", 9, "a\ufffd\ufffdb")],
)
def test_shortened_labels(text: str, longest: int, short: str) -> None:
    assert shorten(text, longest) == short


def test_letters_that_the_font_lacks_do_not_warn() -> None:
    tried = [option({"lora": "qv", "tag": "模型 🦙"}, 0.7), option({"lora": "all", "tag": "b"}, 0.72)]
    for plot in plots_of(task_of(tried)):
        assert "模型" in rendered(plot.draw(task_of(tried)), "svg").decode()


def test_only_plots_and_page_import_what_draws() -> None:
    program = "import sys, lightning_lora.reporting; print({'matplotlib', 'jinja2'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
