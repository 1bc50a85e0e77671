"""A bar for a terminal, silence for a file."""

import io
import sys
from pathlib import Path

import pytest
import rich
from tiny_task import ShuffledTinyData, TinyData, tiny_module, tiny_trainer

from lightning_lora.training.callbacks import AdapterCheckpoint, TerminalProgress

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


class Terminal(io.StringIO):
    """Takes all that is printed, and says it is a terminal, or not."""

    def __init__(self, watched: bool) -> None:
        super().__init__()
        self.watched = watched

    def isatty(self) -> bool:
        return self.watched


def watch(monkeypatch: pytest.MonkeyPatch, watched: bool = True) -> Terminal:
    output = Terminal(watched)
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setenv("TERM", "xterm")
    rich.reconfigure()
    return output


@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_shown_to_whoever_watches(watched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = watch(monkeypatch, watched)
    trainer = tiny_trainer(tmp_path, callbacks=[TerminalProgress()], enable_progress_bar=True)
    trainer.fit(tiny_module(), datamodule=TinyData())
    assert ("Epoch 0/0" in output.getvalue()) == watched
    assert watched or output.getvalue() == ""


def test_a_run_that_goes_on_within_an_epoch_has_its_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning leaves out the hook in which the bar is usually made."""
    checkpoint = AdapterCheckpoint(tmp_path / "checkpoints", every=1)
    settings = {"max_epochs": 1, "enable_checkpointing": True}
    tiny_trainer(tmp_path, max_steps=2, callbacks=[checkpoint], **settings).fit(
        tiny_module(), datamodule=ShuffledTinyData()
    )
    output = watch(monkeypatch)
    callbacks = [TerminalProgress(), AdapterCheckpoint(tmp_path / "checkpoints")]
    trainer = tiny_trainer(tmp_path, callbacks=callbacks, enable_progress_bar=True, **settings)
    last = tmp_path / "checkpoints" / "last.ckpt"
    trainer.fit(tiny_module(), datamodule=ShuffledTinyData(), ckpt_path=last, weights_only=True)
    assert trainer.global_step == 4
    assert "Epoch 0/0" in output.getvalue()
