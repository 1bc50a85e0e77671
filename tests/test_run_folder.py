"""Which run a path is of."""

from pathlib import Path

import pytest

from lightning_lora.run_folder import ADAPTER, MERGED, RECORD, run_of


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
