"""metrics.jsonl is the record: whole lines, in order, whatever kills the process."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_task import TinyData, tiny_module, tiny_trainer

from lightning_lora.training.callbacks import TrainingLog
from lightning_lora.training.jsonl_logger import JsonlLogger

KILLED = """
import os, signal, sys
from pathlib import Path
from lightning.pytorch.loggers import CSVLogger
from lightning_lora.training.jsonl_logger import JsonlLogger
folder = Path(sys.argv[1])
ours, stock = JsonlLogger(folder / "metrics.jsonl"), CSVLogger(folder, name="stock", version="")
for step in range(60):
    for logger in (ours, stock):
        logger.log_metrics({"train/loss": step / 7, "epoch": 0}, step)
os.kill(os.getpid(), signal.SIGKILL)
"""


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_survives_a_kill_right_after_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    rows = [{"step": step, "epoch": 0, "train/loss": step / 7} for step in range(60)]
    assert rows_of(tmp_path / "metrics.jsonl") == rows
    assert not list((tmp_path / "stock").rglob("*.csv")), "Lightning's own logger has lost all of them"


@pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers")
def test_a_run_is_logged_from_its_settings_to_its_last_score(tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "run" / "metrics.jsonl")
    logger.log_hyperparams({"rank": 8, "alpha": None, "trainer": {"devices": 1}})
    module = tiny_module(epochs=2)
    callbacks = [TrainingLog()]
    trainer = tiny_trainer(tmp_path, max_epochs=2, logger=logger, callbacks=callbacks, log_every_n_steps=1)
    trainer.fit(module, datamodule=TinyData())
    rows = rows_of(logger.path)
    assert rows[0] == {"hyperparameters": {"rank": 8, "alpha": None, "trainer": {"devices": 1}}}
    assert not [row for row in rows[1:] if "hyperparameters" in row], "the module adds none of its own"
    losses = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in losses] == list(range(8))
    assert [row["epoch"] for row in losses] == [0] * 4 + [1] * 4
    scores = [row["dev/score"] for row in rows if "dev/score" in row]
    assert len(scores) == 2
    assert scores[-1] == pytest.approx(module.dev_metrics["validation"]["f1"])


@pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize(("every", "steps"), [(3, [2, 5, 7]), (4, [3, 7]), (10, [7])])
def test_the_last_step_is_logged_whatever_the_interval(every: int, steps: list[int], tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "metrics.jsonl")
    callbacks = [TrainingLog()]
    trainer = tiny_trainer(tmp_path, max_epochs=2, logger=logger, callbacks=callbacks, log_every_n_steps=every)
    trainer.fit(tiny_module(epochs=2), datamodule=TinyData())
    losses = [row for row in rows_of(logger.path) if "train/loss" in row]
    assert [row["step"] for row in losses] == steps
    assert losses[-1].keys() == {"step", "epoch", "train/loss", "lr"}
    assert losses[-1]["epoch"] == 1


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for step in range(3):
        JsonlLogger(tmp_path / "metrics.jsonl").log_metrics({"x": 1.0}, step)
    assert [row["step"] for row in rows_of(tmp_path / "metrics.jsonl")] == [0, 1, 2]


def test_the_settings_stand_at_the_head_of_a_log_alone(tmp_path: Path) -> None:
    for rank in (8, 4):
        logger = JsonlLogger(tmp_path / "metrics.jsonl")
        logger.log_hyperparams({"rank": rank})
        logger.log_metrics({"x": 1.0}, rank)
    assert [row.get("hyperparameters") for row in rows_of(logger.path)] == [{"rank": 8}, None, None]


def test_rows_behind_a_point_are_forgotten(tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "metrics.jsonl")
    logger.cut(0)
    assert not logger.path.exists(), "there is nothing to forget"
    logger.log_metrics({"x": 1.0}, 0)
    size = logger.size
    logger.log_metrics({"x": 1.0}, 1)
    logger.cut(size)
    logger.cut(10**6)
    assert [row["step"] for row in rows_of(logger.path)] == [0]


def test_what_is_not_finite_is_null_so_that_every_line_is_json(tmp_path: Path) -> None:
    JsonlLogger(tmp_path / "metrics.jsonl").log_metrics({"a": float("nan"), "b": float("-inf"), "c": 0.5}, 1)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "a": None, "b": None, "c": 0.5}


def test_a_record_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file"):
        JsonlLogger(tmp_path / "file" / "metrics.jsonl").log_metrics({"a": 1.0}, 1)


def test_a_table_is_one_row_in_which_every_number_is_json(tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "metrics.jsonl")
    logger.log_table("layers", [{"name": "a", "ratio": float("nan"), "values": [1.5, float("inf")]}], step=3, epoch=0)
    expected = {"step": 3, "epoch": 0, "layers": [{"name": "a", "ratio": None, "values": [1.5, None]}]}
    assert rows_of(logger.path) == [expected]
