"""Which run a path is of, and what of a folder is a run's to clear."""

from pathlib import Path

import pytest
from short_runs import short_configuration

from lightning_lora.config import TrainerConfig
from lightning_lora.run_folder import ADAPTER, MERGED, RECORD, run_of
from lightning_lora.running import run as run_in


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for part in (ADAPTER, MERGED):
        (tmp_path / "run" / part).mkdir(parents=True)
    (tmp_path / "run" / RECORD).touch()
    return tmp_path / "run"


@pytest.mark.parametrize("part", ["", ADAPTER, MERGED])
def test_from_anywhere(part: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_of(run / part) == (run, part)
    monkeypatch.chdir(run.parent)
    found, named = run_of(Path("run", part))
    assert (found.absolute(), named) == (run, part)
    monkeypatch.chdir(run / part)
    found, named = run_of(Path())
    assert (found.absolute(), named) == (run, part)


def test_a_folder_with_a_record_is_a_run_whatever_it_is_called(run: Path) -> None:
    (run / MERGED / RECORD).touch()
    assert run_of(run / MERGED) == (run / MERGED, "")


@pytest.mark.parametrize(
    "name", ["checkpoints/mine.ckpt", "adapter/x", "merged-notes/x", "predictions_mine.parquet", "metrics.jsonl"]
)
def test_a_folder_that_is_no_runs_is_not_cleared_for_one(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(ValueError, match=rf"{name.partition('/')[0]} is there already, of no run; choose a folder"):
        run_in(short_configuration(), tmp_path)
    assert file.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} <= {name.partition("/")[0], ".lock"}


def test_what_a_run_does_not_write_it_leaves_alone(tmp_path: Path) -> None:
    names = (".profile.old", ".mine.tmp", "merged_data.csv", "predictions.csv", "notes")
    for name in names:
        (tmp_path / name).write_text("mine")
    for _ in range(2):
        run_in(short_configuration(), tmp_path)
        assert {(tmp_path / name).read_text() for name in names} == {"mine"}


def test_a_trial_which_writes_nothing_is_refused_no_folder(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("mine")
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False, fast_dev_run=True)
    assert run_in(short_configuration(trainer=trainer), tmp_path).status == "finished"
    assert {path.name for path in tmp_path.iterdir()} <= {"metrics.jsonl", ".lock"}
    assert (tmp_path / "metrics.jsonl").read_text() == "mine"
