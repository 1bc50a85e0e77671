"""A checkpoint is whole or not there, and reading one runs no code."""

import os
from pathlib import Path

import pytest
import torch
from tiny_task import TinyData, tiny_module, tiny_trainer

from lightning_lora.training.callbacks import AdapterCheckpoint
from lightning_lora.training.checkpoint_io import AtomicCheckpointIO


class Unsavable:
    """Fails in the midst of being written."""

    def __reduce__(self) -> str:
        raise OSError("no space left")


class Harmful:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weight": torch.arange(3.0), "epoch": 2}, path)
    loaded = AtomicCheckpointIO().load_checkpoint(path)
    assert loaded["epoch"] == 2
    assert torch.equal(loaded["weight"], torch.arange(3.0))
    AtomicCheckpointIO().remove_checkpoint(path)
    assert list(path.parent.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint({"big": torch.zeros(1000), "bad": Unsavable()}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.95, 0.999])
def test_a_file_cut_short_is_one_clear_error(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weight": torch.randn(5000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"a\.ckpt is (cut short|no checkpoint)") as error:
        AtomicCheckpointIO().load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_code_in_a_checkpoint_is_refused_even_if_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, mark = tmp_path / "a.ckpt", tmp_path / "mark"
    torch.save({"weight": Harmful(mark)}, path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ValueError, match="was not loaded"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the file is harmful indeed"


@pytest.mark.parametrize("url", ["https://example.org/a.ckpt", "http://example.org/a.ckpt", "s3://bucket/a.ckpt"])
def test_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is a URL"):
        AtomicCheckpointIO().load_checkpoint(url)
    with pytest.raises(ValueError, match="is a URL"):
        AtomicCheckpointIO().save_checkpoint({}, url)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*a\.ckpt"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_a_trainer_saves_and_resumes_through_it(tmp_path: Path) -> None:
    plugins = [AtomicCheckpointIO()]
    settings = {"enable_checkpointing": True, "plugins": plugins}
    first = tiny_module(epochs=2)
    folder = tmp_path / "one"
    tiny_trainer(tmp_path, callbacks=[AdapterCheckpoint(folder)], **settings).fit(first, datamodule=TinyData())
    second = tiny_module(epochs=2)
    trainer = tiny_trainer(tmp_path, max_epochs=2, callbacks=[AdapterCheckpoint(tmp_path / "two")], **settings)
    trainer.fit(second, datamodule=TinyData(), ckpt_path=folder / "last.ckpt", weights_only=True)
    assert trainer.global_step == 8
    assert second.rows_seen == 64, "the second epoch was added"
