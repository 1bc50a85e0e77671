"""A record's relative paths are followed from the run's folder upwards, a model's only to where a model lies."""

from pathlib import Path

import pytest

from lightning_lora.recorded_paths import found_from, model_from


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that holds a run, seen from elsewhere."""
    for folder in ("elsewhere", "project/runs/a"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "project"


def saved_model(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return str(folder)


def test_a_path_is_followed_from_the_run_upwards(project: Path) -> None:
    (project / "rows.csv").touch()
    model = saved_model(project / "models" / "small")
    run = project / "runs" / "a"
    assert found_from(run, "rows.csv") == str(project / "rows.csv")
    assert model_from(run, "models/small") == model


def test_what_leads_somewhere_from_here_stays_as_it_is(project: Path) -> None:
    Path("rows.csv").touch()
    (project / "rows.csv").touch()
    assert found_from(project / "runs" / "a", "rows.csv") == "rows.csv"


def test_a_folder_that_is_called_like_a_model_of_the_hub_is_not_it(project: Path) -> None:
    run = project / "runs" / "a"
    (project / "gpt2").mkdir()
    assert model_from(run, "gpt2") == "gpt2"
    (Path("models") / "small").mkdir(parents=True)
    model = saved_model(project / "models" / "small")
    assert model_from(run, "models/small") == model, "the empty one here is passed by"


def test_nothing_takes_the_place_of_the_embedded_model(project: Path) -> None:
    saved_model(project / "tiny")
    assert model_from(project / "runs" / "a", "tiny") == "tiny"
