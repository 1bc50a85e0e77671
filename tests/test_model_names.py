"""Which names of models are folders, and where they lie."""

from pathlib import Path

import pytest

from lightning_lora.model_names import EMBEDDED, EMBEDDED_FOLDER, folder_of, is_path, is_saved_model


@pytest.mark.parametrize(
    ("name", "path"),
    [("tiny", False), ("gpt2", False), ("a/b", False), ("./a", True), ("/a", True), ("~/a", True), ("a/b/c", True)],
)
def test_what_can_be_an_id_on_the_hub_is_no_path(name: str, path: bool) -> None:
    assert is_path(name) == path


def test_the_embedded_model_is_a_saved_one_and_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_of(EMBEDDED) == EMBEDDED_FOLDER
    assert is_saved_model(EMBEDDED_FOLDER)
    assert folder_of("~/a") == tmp_path / "a"
    assert not is_saved_model(tmp_path)
