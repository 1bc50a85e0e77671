"""What a run was scored on, read anew from where the run had it."""

import json
import shutil
from pathlib import Path

import pytest

from lightning_lora.cli import resume
from lightning_lora.config import DataConfig, LoggerConfig, ModelConfig, RunConfig, TrainerConfig
from lightning_lora.data import toy
from lightning_lora.data.files import DataError
from lightning_lora.merging import merge_run
from lightning_lora.model_names import EMBEDDED, EMBEDDED_FOLDER
from lightning_lora.predicting import evaluate
from lightning_lora.reporting import read_record
from lightning_lora.restoring import restore
from lightning_lora.running import run


def reviews(folder: Path, holdout: float | None, model: str = EMBEDDED) -> Path:
    """A run on one file of 40 rows named after nothing, with 10 rows in validation.csv beside it."""
    rows = toy.generate("toy_sentiment", "train", 50, 0)
    for name, part in (("reviews", rows[:40]), ("validation", rows[40:])):
        lines = [f'"{row["sentence"]}",{row["label"]}' for row in part]
        (folder / f"{name}.csv").write_text("\n".join(["sentence,label", *lines]) + "\n")
    data = DataConfig(
        task="custom", path=str(folder / "reviews.csv"), text_columns=["sentence"], labels=["0", "1"],
        metrics=["accuracy"], holdout=holdout,
    )  # fmt: skip
    config = RunConfig(
        epochs=1,
        model=ModelConfig(name=model),
        data=data,
        trainer=TrainerConfig(accelerator="cpu", progress_bar=False),
        logger=LoggerConfig(wandb="disabled"),
    )
    run(config, folder / "run")
    return folder / "run"


@pytest.mark.parametrize("holdout", [None, 0.25])
def test_without_other_data_a_run_is_scored_on_what_it_was_scored_on(holdout: float | None, tmp_path: Path) -> None:
    folder = reviews(tmp_path, holdout)
    (tmp_path / EMBEDDED).mkdir()  # called like the model, and none
    record = read_record(folder)
    found = evaluate(restore(folder))
    assert {name: split.rows for name, split in found.items()} == {"validation" if holdout is None else "held_out": 10}
    for name, split in found.items():
        assert split.metrics["accuracy"] == pytest.approx(record.metrics[name]["accuracy"])
    assert merge_run(folder, tmp_path / "out").rows == 10
    (given,) = evaluate(restore(folder), tmp_path / "reviews.csv").items()
    assert (given[0], given[1].rows) == ("reviews", 40), "what is given counts whatever its name"


@pytest.mark.parametrize(("holdout", "changed"), [(None, "validation"), (0.25, "reviews")])
def test_a_run_is_not_scored_on_data_that_have_changed_since(
    holdout: float | None, changed: str, tmp_path: Path
) -> None:
    folder = reviews(tmp_path, holdout)
    file = tmp_path / f"{changed}.csv"
    header, _, *others = file.read_text().splitlines()
    file.write_text("\n".join([header, *others]) + "\n")

    with pytest.raises(DataError, match=rf"{changed}\.csv: not the .* examples that the run was scored on.*--data"):
        evaluate(restore(folder))
    merged = merge_run(folder, tmp_path / "out")
    assert (merged.rows, "not the" in merged.not_compared) == (0, True)
    assert evaluate(restore(folder), file)[changed].rows == len(others)

    record = json.loads((folder / "result.json").read_text())
    del record["data"]["examples"]  # as older records are
    (folder / "result.json").write_text(json.dumps(record))
    assert len(evaluate(restore(folder))) == 1


def test_a_run_on_relative_paths_can_be_used_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    project = tmp_path / "project"
    shutil.copytree(EMBEDDED_FOLDER, project / "models" / "small")
    monkeypatch.chdir(project)
    folder = reviews(Path(), None, model="models/small").resolve()
    record = read_record(folder)
    assert (record.base["name"], record.config["data"]["path"]) == ("models/small", "reviews.csv")

    monkeypatch.chdir(tmp_path / "elsewhere")
    found = evaluate(restore(folder))
    assert found["validation"].metrics["accuracy"] == pytest.approx(record.metrics["validation"]["accuracy"])
    stored = resume.stored_config(folder)
    assert stored.data.path is not None
    assert Path(stored.model.name).samefile(project / "models" / "small")
    assert Path(stored.data.path).samefile(project / "reviews.csv")
