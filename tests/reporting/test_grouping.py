"""Runs that answer different questions are not compared: which layers are best at one rank, and which at equal size."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import ROWS, compared, configuration, write_run, write_sweep

from lightning_lora.reporting.exports import csv_rows, latex, markdown, text
from lightning_lora.reporting.overview import overviews_of
from lightning_lora.reporting.page import page_of
from lightning_lora.reporting.tables import name_of

AT_RANK = {"qv": 0.7, "qkvo": 0.75, "all": 0.9}
MATCHED: dict[str, Any] = {"rank": 5, "lora__same_parameters_as": "all"}


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """The shipped sweeps `layer_choice` and `layer_choice_matched`, as the records of their jobs have them."""
    write_sweep(tmp_path / "layer_choice", AT_RANK)
    write_sweep(tmp_path / "layer_choice_matched", {**AT_RANK, "mlp": 0.8}, **MATCHED)
    return tmp_path


def test_one_rank_and_equal_parameters_are_two_tables(both: Path) -> None:
    at_rank, matched = compared(both / "layer_choice", both / "layer_choice_matched").tasks
    assert {option.label for option in at_rank.options} == {"qv", "qkvo", "all"}
    assert {option.label for option in matched.options} == {"qv", "qkvo", "all", "mlp"}
    assert [task.axes for task in (at_rank, matched)] == [("lora",)] * 2
    assert [task.same_parameters_as for task in (at_rank, matched)] == [None, "all"]
    assert [task.reference for task in (at_rank, matched)] == ["all"] * 2
    assert all(
        str(folder).startswith(str(both / "layer_choice") + "/") for o in at_rank.options for folder in o.folders
    )


def test_either_table_is_that_of_its_sweep_alone(both: Path) -> None:
    alone = [compared(both / name).tasks[0] for name in ("layer_choice", "layer_choice_matched")]
    assert list(compared(both).tasks) == alone


def test_every_form_says_which_is_which(both: Path) -> None:
    comparison = compared(both)
    titles = ("toy_sentiment on tiny, at rank 8", "toy_sentiment on tiny, at the parameters of all at rank 5")
    assert tuple(map(name_of, comparison.tasks)) == titles
    for form in (text, markdown, latex):
        lines = form(comparison).replace("\\_", "_")
        assert all(f"{title}: accuracy in " in lines for title in titles)
    page = page_of(comparison)
    assert all(f">{title}</a>" in page for title in titles)
    assert page.index(", at rank 8, 200 dev examples</span></h2>") < page.index(
        ", at the parameters of all at rank 5, 200"
    )
    rows = list(csv.DictReader(io.StringIO(csv_rows(comparison))))
    assert [row["same_parameters_as"] for row in rows] == [""] * 3 + ["all"] * 4


def test_baselines_stand_beside_both(both: Path) -> None:
    write_sweep(both / "baselines", {"head": 0.6, "full": 0.85})
    tasks = compared(both).tasks
    assert [{"head", "full"} < {option.label for option in task.options} for task in tasks] == [True, True]
    (alone,) = compared(both / "baselines").tasks
    assert name_of(alone) == "toy_sentiment on tiny"


def test_older_records_know_of_no_matching(both: Path) -> None:
    config = configuration(seed=3)
    del config["lora"]["same_parameters_as"]
    write_run(both / "older", np.arange(ROWS) % 4 > 0, config=config)
    assert [[o.seeds for o in task.options if o.label == "qv"] for task in compared(both).tasks] == [
        [(0, 1, 2, 3)],
        [(0, 1, 2)],
    ]


def test_other_budgets_are_other_questions_and_other_ranks_are_not(both: Path) -> None:
    write_sweep(both / "like_qv", {"qkvo": 0.7, "qv": 0.7}, rank=4, lora__same_parameters_as="qv")
    write_sweep(both / "larger", {"all": 0.9}, rank=20, lora__same_parameters_as="all")
    names = {name_of(task).partition(", at ")[2]: len(task.options) for task in compared(both).tasks}
    assert names == {"rank 8": 3, "the parameters of all": 5, "the parameters of qv at rank 4": 2}


def test_a_sweep_of_ranks_has_no_rank_in_its_name(tmp_path: Path) -> None:
    write_sweep(tmp_path / "4", {"qv": 0.7}, rank=4)
    assert name_of(compared(tmp_path).tasks[0]) == "toy_sentiment on tiny"
    write_sweep(tmp_path / "8", {"qv": 0.7}, rank=8)
    assert name_of(compared(tmp_path).tasks[0]) == "toy_sentiment on tiny"


def test_tasks_stand_side_by_side_at_one_size(both: Path) -> None:
    for name, changed in (("at_rank", {}), ("matched", MATCHED)):
        for lora, (seed, one_in) in {"qv": (0, 3), "all": (1, 5)}.items():
            right = np.arange(ROWS) % one_in > 0
            config = configuration(lora, seed=seed, **changed)
            write_run(both / name / lora, right, config=config, task="toy_acceptability")
    at_rank, matched = overviews_of(compared(both))
    assert at_rank.title == "2 tasks on tiny: scores in %"
    assert matched.title == "2 tasks on tiny, at the parameters of all: scores in %"
    assert [len(overview.table.headings) for overview in (at_rank, matched)] == [4, 4]
