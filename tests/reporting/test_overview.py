"""Tasks side by side: which options are there, what a cell says, and in which order."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import compared, configuration, write_run

from lightning_lora.reporting import Comparison
from lightning_lora.reporting.exports import csv_rows, latex, markdown, text
from lightning_lora.reporting.overview import overviews_of
from lightning_lora.reporting.page import page_of

EASY, HARD = "toy_sentiment", "toy_acceptability"


def write_task(folder: Path, task: str, accuracies: dict[str, float], *, rows: int = 400, **changed: Any) -> None:
    """Three seeds of each choice of layers."""
    generator = np.random.default_rng(0)
    base = {"name": "a/model", "revision": None, "fingerprint": changed.pop("base", "ba5e")}
    for lora, accuracy in accuracies.items():
        for seed in range(3):
            right = generator.random(rows) < accuracy
            config = configuration(lora, seed=seed, **changed)
            write_run(folder / f"{task}-{rows}-{lora}-{seed}", right, config=config, task=task, base=base)


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """`all` is best on one and second on the other, `head` third on both; `full` ran on one only, and is best."""
    folder = tmp_path_factory.mktemp("sweep")
    write_task(folder, EASY, {"all": 0.9, "qv": 0.75, "head": 0.6})
    write_task(folder, HARD, {"full": 0.95, "qv": 0.8, "all": 0.7, "head": 0.5})
    return compared(folder)


def test_a_cell_is_the_mean_with_half_its_interval_and_the_number_of_seeds(two_tasks: Comparison) -> None:
    (overview,) = overviews_of(two_tasks)
    names = (f"{task.task}\naccuracy" for task in two_tasks.tasks)
    assert overview.table.headings == ("option", *names, "% of\nall")
    for row in overview.table.rows:
        for task, cell in zip(two_tasks.tasks, row[1:], strict=False):
            (option,) = (option for option in task.options if option.label == row[0])
            assert option.mean.high is not None
            best = task.options[0].label
            alike = set(task.groups[option.label]) & set(task.groups[best])
            half = 100 * (option.mean.high - option.mean.value)
            assert cell == f"{100 * option.mean.value:.1f} ± {half:.1f} (3){'*' if alike else ''}"
    cells = [cell for row in overview.table.rows for cell in row[1:-1]]
    assert 0 < sum("*" in cell for cell in cells) < len(cells)


def test_options_of_one_task_are_left_out_and_the_others_stand_by_their_places(two_tasks: Comparison) -> None:
    (overview,) = overviews_of(two_tasks)
    # Places: all 1 and 3, qv 2 and 2, head 3 and 4; of equal means the name decides.
    assert [row[0] for row in overview.table.rows] == ["all", "qv", "head"]
    shares = {
        label: sorted(
            100 * option.relative.value
            for task in two_tasks.tasks
            for option in task.options
            if option.label == label and option.relative
        )
        for label in ("qv", "head")
    }
    assert [row[-1] for row in overview.table.rows] == [
        "100",
        *(f"{low:.0f} to {high:.0f}" for low, high in shares.values()),
    ]


def test_places_count_on_the_tasks_that_all_ran_on(tmp_path: Path) -> None:
    """`qv` beats `mlp` wherever both ran; on a task of many options, without `mlp`, it comes last."""
    write_task(tmp_path, EASY, {"qv": 0.9, "mlp": 0.7, "head": 0.5})
    write_task(tmp_path, HARD, {"qv": 0.9, "mlp": 0.7, "head": 0.5})
    write_task(tmp_path, "toy_similarity", {"all": 0.95, "full": 0.93, "qkvo": 0.9, "q": 0.85, "head": 0.8, "qv": 0.6})
    (overview,) = overviews_of(compared(tmp_path))
    assert [row[0] for row in overview.table.rows] == ["qv", "mlp", "head"]
    assert "Ordered by the mean of their places on the tasks that all ran on." in overview.legend


def test_without_a_task_that_all_ran_on_names_decide(tmp_path: Path) -> None:
    for task, accuracies in (
        (EASY, {"qv": 0.9, "mlp": 0.7}),
        (HARD, {"mlp": 0.7, "head": 0.5}),
        ("toy_similarity", {"qv": 0.9, "head": 0.5}),
    ):
        write_task(tmp_path, task, accuracies)
    (overview,) = overviews_of(compared(tmp_path))
    assert [row[0] for row in overview.table.rows] == ["head", "mlp", "qv"]
    assert "Ordered" not in overview.legend


def test_one_task_or_nothing_in_common_is_no_overview(tmp_path: Path, two_tasks: Comparison) -> None:
    assert overviews_of(Comparison(two_tasks.tasks[:1])) == ()
    write_task(tmp_path, EASY, {"all": 0.9, "qv": 0.75})
    write_task(tmp_path, HARD, {"full": 0.9, "head": 0.7})
    assert overviews_of(compared(tmp_path)) == ()


def test_other_weights_under_one_name_are_another_base(tmp_path: Path) -> None:
    write_task(tmp_path, EASY, {"all": 0.9, "qv": 0.75}, base="one")
    write_task(tmp_path, HARD, {"all": 0.9, "qv": 0.75}, base="other")
    assert overviews_of(compared(tmp_path)) == ()


def test_one_task_on_two_dev_sets_is_one_task(tmp_path: Path) -> None:
    write_task(tmp_path, EASY, {"all": 0.9, "qv": 0.75})
    write_task(tmp_path, EASY, {"all": 0.9, "qv": 0.75}, rows=300)
    assert overviews_of(compared(tmp_path)) == ()
    write_task(tmp_path, HARD, {"all": 0.9, "qv": 0.75})
    (overview,) = overviews_of(compared(tmp_path))
    assert overview.title.startswith("2 tasks on a/model")
    assert {f"{EASY}, 300 rows\naccuracy", f"{EASY}, 400 rows\naccuracy"} < set(overview.table.headings)


def test_a_column_says_which_split_it_is_of_unless_it_is_the_plain_one(two_tasks: Comparison) -> None:
    first, *others = two_tasks.tasks
    (overview,) = overviews_of(Comparison((replace(first, split="held_out"), *others)))
    assert [heading.partition("\n")[0] for heading in overview.table.headings[1:3]] == [
        f"{first.task}, held_out",
        others[0].task,
    ]


def test_what_options_of_one_name_do_not_have_in_common_is_said(tmp_path: Path, two_tasks: Comparison) -> None:
    write_task(tmp_path, EASY, {"all": 0.9, "qv": 0.75}, rank=4)
    write_task(tmp_path, HARD, {"all": 0.9, "qv": 0.75}, epochs=30)
    (overview,) = overviews_of(compared(tmp_path))
    assert "Not the same on all tasks: alpha, epochs, rank." in overview.legend
    (overview,) = overviews_of(two_tasks)
    assert "Not the same" not in overview.legend


def test_where_the_reference_is_another_on_each_task_no_share_is_given(tmp_path: Path) -> None:
    write_task(tmp_path, EASY, {"q": 0.9, "qv": 0.75})
    write_task(tmp_path, HARD, {"q": 0.75, "qv": 0.9})
    (overview,) = overviews_of(compared(tmp_path))
    assert len(overview.table.headings) == 3


def test_it_stands_in_every_form_that_people_read(two_tasks: Comparison) -> None:
    (overview,) = overviews_of(two_tasks)
    cell = overview.table.rows[1][1]
    assert cell in text(two_tasks)
    assert cell in page_of(two_tasks)
    assert cell.replace("*", r"\*") in markdown(two_tasks)
    assert cell.replace("±", r"$\pm$") in latex(two_tasks)
    assert "±" not in csv_rows(two_tasks)
