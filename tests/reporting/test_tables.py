"""A comparison as text: the numbers in it are the comparison's, whatever the labels are made of."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic_runs import ROWS, compared, configuration, write_run, write_sweep

from lightning_lora.reporting import Comparison, print_comparison
from lightning_lora.reporting.comparison import Unfinished
from lightning_lora.reporting.exports import FORMS, csv_rows, latex, markdown, text
from lightning_lora.reporting.page import page_of
from lightning_lora.reporting.tables import table_of, title_of
from lightning_lora.tasks import HELD_OUT

ODD = r"50% of a_b & [red]c[/red] | <d> {e} \f #1 $2 ~ ^"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder, {"qv": 0.75, "all": 0.9, "head": 0.6})
    found = compared(folder)
    (task,) = found.tasks
    lost = Unfinished(Path("runs/lost"), "qv", 7, "failed", ODD)
    return replace(found, tasks=(replace(task, unfinished=(lost,)),), unreadable=((Path("runs/torn"), "is torn"),))


def odd(comparison: Comparison, label: str = ODD) -> Comparison:
    """The same with an option whose label no format takes as it is."""
    (task,) = comparison.tasks
    best, *others = task.options
    groups = {label if name == best.label else name: letters for name, letters in task.groups.items()}
    return Comparison((replace(task, options=(replace(best, label=label), *others), groups=groups, reference=label),))


def test_a_row_by_hand(comparison: Comparison) -> None:
    (task,) = comparison.tasks
    table = table_of(task)
    best, second, _ = (dict(zip(table.headings, row, strict=True)) for row in table.rows)
    option, contrast = task.options[1], task.contrasts[0]
    assert second["option"] == "qv"
    assert second["mean"] == f"{100 * option.mean.value:.1f}"
    assert option.mean.low is not None
    assert option.mean.high is not None
    assert second["95 % over\nseeds"] == f"{100 * option.mean.low:.1f} to {100 * option.mean.high:.1f}"
    assert second["minus\nbest"].startswith(f"{100 * contrast.difference.value:+.1f} (")
    assert second["p\n(Holm)"] == f"{contrast.p_holm:.3f}"
    assert second["p\n(McNemar)"] == "<0.001"
    assert (best["minus\nbest"], best["p\n(Holm)"], best["% of\nall"]) == ("–", "–", "100.0")
    assert second["training\ns"] == "10"


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("validation", "200 dev rows"),
        (HELD_OUT, "200 held-out training rows"),
        ("validation_matched", "200 dev rows of validation_matched"),
    ],
)
def test_the_split_is_said_unless_it_is_the_plain_one(split: str, said: str, comparison: Comparison) -> None:
    task = replace(comparison.tasks[0], split=split)
    found = Comparison((task,))
    assert title_of(task).endswith(f" {said}")
    assert f"{said.replace('rows', 'examples')}</span></h2>" in page_of(found)
    assert {row["split"] for row in csv.DictReader(io.StringIO(csv_rows(found)))} == {split}


@pytest.mark.parametrize("form", FORMS)
def test_without_timings_nothing_hangs_on_the_clock(form: str, comparison: Comparison) -> None:
    (task,) = comparison.tasks
    slower = [replace(option, fit_seconds=77.25, peak_memory_bytes=771) for option in task.options]
    changed = replace(comparison, tasks=(replace(task, options=tuple(slower)),))
    assert FORMS[form](changed, timings=False) == FORMS[form](comparison, timings=False)
    assert FORMS[form](changed) != FORMS[form](comparison)


def test_the_size_of_an_option_is_told_per_cent_of_the_references(comparison: Comparison) -> None:
    (task,) = comparison.tasks
    sizes = {task.reference: 9.8}
    small, large = (option.label for option in task.options if option.label != task.reference)
    sizes |= {small: 0.049, large: 100.0}  # 0.5 % and 1,020 % of 9.8
    options = tuple(replace(option, trainable_percent=sizes[option.label]) for option in task.options)
    table = table_of(replace(task, options=options))
    assert table.headings[-2] == f"size, % of\n{task.reference}"
    assert {row[0]: row[-2] for row in table.rows} == {task.reference: "100", small: "0.5", large: "1,020"}


def test_a_long_reference_is_named_under_the_table_and_in_no_heading(comparison: Comparison) -> None:
    label = "rank 16, alpha 32, lr 0.001, scaling constant"
    found = odd(comparison, label)
    headings = table_of(found.tasks[0]).headings
    assert {"% of\nreference", "size, % of\nreference"} < {*headings}
    assert max(len(line) for heading in headings for line in heading.split("\n")) < 12
    assert "The reference is" not in text(comparison), "the control: all is in the headings"
    for form in (text, markdown, latex):
        assert f"The reference is {label}." in form(found)


@pytest.mark.parametrize("form", [text, markdown, latex])
def test_runs_without_a_score_and_notes_stand_under_the_table(form: object, comparison: Comparison) -> None:
    assert callable(form)
    written = form(comparison)
    for said in ("runs/lost (qv, seed 7): failed: 50", "last epoch", "4.3 standard", "torn"):
        assert said in written


def test_markdown_has_as_many_cells_in_every_row(comparison: Comparison) -> None:
    for found in (comparison, odd(comparison)):
        rows = [line for line in markdown(found).splitlines() if line.startswith("|")]
        assert len(rows) == 5
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {17}
    assert r"a\_b" in markdown(odd(comparison))


def test_latex_escapes_what_it_would_read_as_its_own(comparison: Comparison) -> None:
    written = latex(odd(comparison))
    rows = [line for line in written.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {15}
    assert r"50\% of a\_b \& {[}red{]}c{[}/red{]}" in written
    assert r"\{e\} \textbackslash{}f \#1 \$2 \textasciitilde{} \textasciicircum{}" in written
    assert r"\textless{}0.001" in written
    assert all(f"\\{rule}rule" in written for rule in ("top", "mid", "bottom"))
    assert not re.search(r"(?<!\\)[%#$]", written)


def test_what_answers_as_the_reference_does_has_no_interval_around_it(tmp_path: Path) -> None:
    for lora in ("all", "qv", "head"):
        for seed in range(3):
            right = np.arange(ROWS) % (4 + seed - (lora == "head")) > 0
            write_run(tmp_path / f"{lora}-{seed}", right, config=configuration(lora, seed=seed))
    found = compared(tmp_path)
    rows = {
        row[0]: dict(zip(table_of(found.tasks[0]).headings, row, strict=True)) for row in table_of(found.tasks[0]).rows
    }
    assert [rows["qv"][heading] for heading in ("% of\nall", "minus\nbest")] == ["100.0", "+0.0"]
    assert " to " in rows["head"]["% of\nall"], "the control"
    assert " to " in rows["head"]["minus\nbest"]
    for form in (text, markdown, latex):
        assert "100.0 (" not in form(found)
        assert "0.0 (+" not in form(found)
    page = page_of(found)
    assert "[100.0, 100.0]" not in page
    assert "[+0.00, +0.00]" not in page
    assert "<b>+0.00</b>" in page


@pytest.mark.parametrize("label", ["[query,value]", "*"])
def test_no_latex_row_begins_with_what_the_line_before_would_take(label: str, comparison: Comparison) -> None:
    lines = latex(odd(comparison, label)).splitlines()
    assert not [line for line in lines if line.startswith(("[", "*"))]
    row = lines[lines.index(r"\midrule") + 1]
    assert re.sub(r"\{([\[\]*])\}", r"\1", row).startswith(f"{label} & ")


def test_csv_is_one_row_for_each_option_with_all_digits(comparison: Comparison) -> None:
    (task,) = comparison.tasks
    rows = list(csv.DictReader(io.StringIO(csv_rows(comparison))))
    assert [row["option"] for row in rows] == [option.label for option in task.options]
    for row, option in zip(rows, task.options, strict=True):
        assert float(row["mean"]) == pytest.approx(option.mean.value, rel=1e-5)
        assert float(row["trainable_percent"]) == 9.8
        assert row["setting.lora"] == option.label
    assert rows[0]["difference"] == rows[0]["p_holm"] == ""
    assert float(rows[1]["p_holm"]) == pytest.approx(task.contrasts[0].p_holm, rel=1e-5)
    assert next(csv.DictReader(io.StringIO(csv_rows(odd(comparison)))))["option"] == ODD


def test_an_option_without_a_result_has_a_row_without_numbers_in_the_csv(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", {"qv": 0.75, "all": 0.9})
    for seed in range(2):
        config = configuration("mlp", seed=seed)
        write_run(
            tmp_path / "lost" / str(seed), np.ones(ROWS, dtype=bool), config=config, status="diverged", score=None
        )
    first, second, lost = csv.DictReader(io.StringIO(csv_rows(compared(tmp_path))))
    assert (first["option"], second["option"]) == ("all", "qv")
    said = {"task", "base", "metric", "split", "dev_rows", "option", "seeds", "unfinished", "setting.lora"}
    assert {column for column, value in lost.items() if value} == said
    assert [lost[column] for column in ("option", "setting.lora", "seeds", "unfinished")] == ["mlp", "mlp", "0", "2"]
    assert lost.keys() == first.keys()


def test_tasks_with_other_settings_share_a_csv(tmp_path: Path) -> None:
    write_sweep(tmp_path / "one", {"qv": 0.75, "all": 0.9})
    write_sweep(tmp_path / "other", {"qv": 0.75}, rows=100, rank=4)
    write_sweep(tmp_path / "more", {"qv": 0.75}, rows=100, rank=8)
    found = compared(tmp_path)
    rows = list(csv.DictReader(io.StringIO(csv_rows(found))))
    assert sorted((row["dev_rows"], row["setting.lora"], row["setting.rank"]) for row in rows) == [
        ("100", "qv", "4"),
        ("100", "qv", "8"),
        ("200", "all", "8"),
        ("200", "qv", "8"),
    ]


def test_a_terminal_shows_what_it_has_room_for(comparison: Comparison) -> None:
    shown, columns = {}, ("median", "sd", "seeds", "mean", "group")
    for width in (60, 150, 250):
        file = io.StringIO()
        print_comparison(comparison, Console(file=file, width=width, force_terminal=True, color_system=None))
        lines = file.getvalue().splitlines()
        heading = next(line for line in lines if "seeds" in line and "group" in line)
        shown[width] = [name for name in columns if re.search(rf"\b{name}\b", heading)]
        table = lines[1 : next(i for i, line in enumerate(lines) if "head" in line) + 1]
        assert max(map(len, table)) <= width
        said = [line for line in lines if line.startswith("  left out, since the terminal is narrow: median")]
        assert len(said) == (width < 250)
    assert shown == {60: ["seeds", "mean", "group"], 150: ["sd", "seeds", "mean", "group"], 250: [*columns]}


def test_labels_are_shown_as_they_are(comparison: Comparison) -> None:
    assert ODD in text(odd(comparison))


def test_nothing_to_compare_is_said(comparison: Comparison) -> None:
    (task,) = comparison.tasks
    empty = Comparison((replace(task, options=(), contrasts=(), groups={}, reference="", notes=()),))
    for form in (text, markdown, latex):
        assert "runs/lost" in form(empty)
    (row,) = csv.DictReader(io.StringIO(csv_rows(empty)))
    assert (row["option"], row["seeds"], row["unfinished"]) == ("qv", "0", "1")
    assert csv_rows(Comparison(())) == ""
