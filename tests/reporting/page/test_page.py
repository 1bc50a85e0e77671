"""The page's structure, read with the standard library's parser; what is hostile in it stays text."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from comparisons import layer_choice, learning_rates, option, rank_and_alpha, task_of, two_options

from lightning_lora.atomic import CannotWriteError
from lightning_lora.reporting import page
from lightning_lora.reporting.comparison import Comparison, Interval, TaskComparison, Unfinished
from lightning_lora.reporting.page import page_of, write_page
from lightning_lora.reporting.plots import THEME

VOID = {"meta", "link", "br"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;{{ 7*7 }}"


class Page(HTMLParser):
    """The elements of a page with their attributes, its text by element, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def written(folder: Path, *tasks: TaskComparison) -> str:
    return write_page(Comparison(tasks), folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def every_plot(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of three tasks on which each kind of plot appears."""
    return written(tmp_path_factory.mktemp("page"), layer_choice(), learning_rates(), rank_and_alpha())


@pytest.fixture(scope="module")
def one_task(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of one task, with everything in it but swept axes."""
    return written(tmp_path_factory.mktemp("page"), layer_choice())


def hostile() -> TaskComparison:
    """Every string of a record is an attack."""
    task = two_options()
    options = tuple(replace(one, label=f"{HOSTILE} {number}") for number, one in enumerate(task.options))
    contrasts = tuple(replace(one, option=options[1].label) for one in task.contrasts)
    failed = Unfinished(Path(HOSTILE), HOSTILE, 0, HOSTILE, HOSTILE)
    return TaskComparison(
        *(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 9, task.axes, options, contrasts),
        {one.label: HOSTILE for one in options}, HOSTILE, (failed,), (HOSTILE,),
    )  # fmt: skip


def test_the_parts_of_a_page(one_task: str, every_plot: str) -> None:
    parsed = Page(one_task)
    assert not parsed.open
    assert parsed.text("title") == ["Comparison of rte"]
    assert [text for text in parsed.text("h2") if text.strip()] == ["rte "]
    assert parsed.count("table") == parsed.count("caption") == 4  # options, differences, unfinished, every run
    assert parsed.count("figure") == parsed.count("figcaption") == parsed.count("svg") == 4
    assert {"loss is nan at step 120 (seed 5)", "diverged"} <= set(parsed.text("td"))
    assert "Scores are of the last epoch; choosing the best epoch on the dev set flatters." in parsed.text("li")
    assert not parsed.count("nav")
    assert Page(every_plot).count("nav") == 1


def test_headings_of_tables_have_a_scope_and_pictures_a_description(one_task: str) -> None:
    parsed = Page(one_task)
    assert {heading["scope"] for heading in parsed.all("th")} == {"row", "col"}
    pictures = parsed.all("svg")
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    assert len({picture["aria-label"] for picture in pictures}) == len(pictures)
    boxes = [attributes for attributes in parsed.all("div") if attributes["class"] == "box"]
    assert len(boxes) == parsed.count("table") + parsed.count("svg")
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_ids_are_unique_and_references_lead_somewhere(every_plot: str) -> None:
    parsed = Page(every_plot)
    ids = Counter(attributes["id"] for _, attributes in parsed.elements if "id" in attributes)
    assert {name for name, count in ids.items() if count > 1} == set()
    links = {value for _, attributes in parsed.elements for key, value in attributes.items() if "href" in key}
    named = {value.removeprefix("#") for value in links if value and value != "data:,"}
    named |= set(re.findall(r"url\(#([^)]*)\)", every_plot))
    assert named
    assert named <= set(ids)


def test_nothing_is_asked_for(every_plot: str) -> None:
    for tag, attributes in Page(every_plot).elements:
        assert tag not in {"img", "iframe", "object", "embed", "video", "audio", "source", "image", "base", "form"}
        assert not {"src", "srcset", "data", "action", "poster"} & set(attributes)
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
    assert not re.findall(r"@import|https?://|url\((?!#)", every_plot)


def test_only_the_pages_own_script_may_run(one_task: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", one_task, flags=re.DOTALL)
    (policy,) = [meta["content"] for meta in Page(one_task).all("meta") if meta.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_what_comes_from_records_stays_text(tmp_path: Path) -> None:
    honest, attacked = Page(written(tmp_path, two_options())), Page(written(tmp_path, hostile()))
    assert attacked.count("script") == honest.count("script") == 1
    assert attacked.count("img") == 0
    assert not [name for _, attributes in attacked.elements for name in attributes if name.startswith("on")]
    assert not attacked.open
    for tag in ("h2", "td", "li", "title", "caption", "code"):
        assert any(HOSTILE in text for text in attacked.text(tag)), tag
    assert any("<script>" in text for text in attacked.text("text")), "in the plots too"


def test_what_no_file_can_hold_is_shown_as_a_mark(tmp_path: Path) -> None:
    task = replace(two_options(), task="a\x00b\ud800c\x1bd", notes=("x\x0cy",))
    labels = tuple(replace(one, label=f"{one.label}\x07\udfff") for one in task.options)
    text = written(tmp_path, replace(task, options=labels, contrasts=(), groups={one.label: "a" for one in labels}))
    assert "a\ufffdb\ufffdc\ufffdd" in text
    assert not re.search("[\x00-\x08\x0b-\x1f]", text)


def test_the_same_to_the_byte_in_another_process(every_plot: str, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from comparisons import *; from lightning_lora import write_page;"
        "from lightning_lora.reporting.comparison import Comparison;"
        "write_page(Comparison((layer_choice(), learning_rates(), rank_and_alpha())), Path('again.html'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == every_plot


def test_the_colours_of_the_plots_are_those_of_the_style_sheet() -> None:
    sheet = (Path(page.__file__).parent / "page.css").read_text()
    light, dark = (dict(re.findall(r"(--[\w-]+): (#\w+);", part)) for part in sheet.split("@media screen", 1))
    assert {colour: name for name, colour in light.items() if name in THEME.values()} == THEME
    assert set(light) == set(dark)
    assert not {light[name] for name in THEME.values()} & {dark[name] for name in THEME.values()}


def test_every_colour_of_a_plot_is_the_themes_or_a_cells(every_plot: str) -> None:
    """A colour that the style sheet does not know would not follow the reader's choice of light or dark."""
    colours = {picture[0]: set(picture[1]) for picture in _plots_with_colours(every_plot)}
    assert {name for name, used in colours.items() if any(colour.startswith("#") for colour in used)} == {
        "task-3-rank_by_alpha"
    }
    assert all("var(--ink)" in used for used in colours.values())


def _plots_with_colours(text: str) -> list[tuple[str, list[str]]]:
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    return [
        (re.findall(r'id="(task-\d-\w+)-figure', picture)[0], re.findall(r"(?:fill|stroke): ([^;\"]+)", picture))
        for picture in pictures
    ]


def test_columns_are_there_where_they_say_something(one_task: str, tmp_path: Path) -> None:
    task = layer_choice()
    assert "unfinished" not in Page(one_task).text("th")
    assert {"sd", "median"} <= set(Page(one_task).text("th"))
    alone = task_of([option({"lora": lora}, quality, seeds=1) for lora, quality in (("qv", 0.7), ("all", 0.72))])
    assert not {"sd", "median"} & set(Page(written(tmp_path, alone)).text("th"))
    stopped = replace(task.options[0], unfinished=2, relative=None, deviation=None, peak_memory_bytes=None)
    parsed = Page(written(tmp_path, replace(task, options=(stopped, *task.options[1:]))))
    assert "unfinished" in parsed.text("th")
    values = [cell["data-value"] for cell in parsed.all("td") if "data-value" in cell][:11]
    assert values[2] == values[4] == values[9] == ""
    assert values[10] == "2"


def test_without_timings_nothing_depends_on_the_clock(tmp_path: Path) -> None:
    task = layer_choice()
    slower = tuple(replace(one, fit_seconds=2 * one.fit_seconds, peak_memory_bytes=None) for one in task.options)
    first, again = Comparison((task,)), Comparison((replace(task, options=slower),))
    assert page_of(first, timings=False) == page_of(again, timings=False)
    assert page_of(first) != page_of(again), "the negative control"


def test_of_one_seed_each_the_interval_is_over_examples(tmp_path: Path) -> None:
    over_examples = Interval(0.7, 0.651, 0.749)
    tried = [option({"lora": lora}, quality, seeds=1) for lora, quality in (("qv", 0.7), ("all", 0.72))]
    alone = task_of([replace(one, over_examples=over_examples) for one in tried])
    assert written(tmp_path, alone).count("</b> [65.1, 74.9]") == 2
    two_seeds = replace(option({"lora": "all"}, 0.72, seeds=2), over_examples=over_examples)
    assert "[65.1, 74.9]" not in written(tmp_path, replace(alone, options=(two_seeds, alone.options[1])))


def test_records_that_could_not_be_read_are_told(tmp_path: Path) -> None:
    path = write_page(Comparison((), ((Path("multirun/3"), f"cut short {HOSTILE}"),)), tmp_path / "report.html")
    parsed = Page(path.read_text(encoding="utf-8"))
    assert parsed.text("code") == ["multirun/3"]
    assert f": cut short {HOSTILE}" in parsed.text("li")


def test_a_page_without_anything(tmp_path: Path) -> None:
    assert "There is nothing to compare." in written(tmp_path)
    failed = replace(layer_choice(), options=(), contrasts=(), groups={})
    text = written(tmp_path, failed)
    assert "No run has finished." in text
    assert "loss is nan" in text
    assert "<svg" not in text


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    assert write_page(Comparison(()), target) == target
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_written_to(read_only_folder: Path) -> None:
    with pytest.raises(CannotWriteError, match=r"report\.html"):
        write_page(Comparison(()), read_only_folder / "report.html")
    assert not list(read_only_folder.iterdir())
