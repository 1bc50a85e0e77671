"""A bar for a terminal, silence for a file."""

import io
import sys
from pathlib import Path

import pytest
import rich
from tiny_task import TinyData, tiny_module, tiny_trainer

from lightning_lora.training.callbacks import TerminalProgress

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


class Terminal(io.StringIO):
    """Takes all that is printed, and says it is a terminal, or not."""

    def __init__(self, watched: bool) -> None:
        super().__init__()
        self.watched = watched

    def isatty(self) -> bool:
        return self.watched


@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_shown_to_whoever_watches(watched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Terminal(watched)
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setenv("TERM", "xterm")
    rich.reconfigure()
    trainer = tiny_trainer(tmp_path, callbacks=[TerminalProgress()], enable_progress_bar=True)
    trainer.fit(tiny_module(), datamodule=TinyData())
    assert ("Epoch 0/0" in output.getvalue()) == watched
    assert watched or output.getvalue() == ""
