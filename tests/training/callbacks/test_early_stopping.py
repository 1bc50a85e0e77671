"""Stopping early is about the dev score and nothing else."""

from pathlib import Path

import pytest
from tiny_task import TinyData, tiny_module, tiny_trainer

from lightning_lora.training.callbacks import DevScoreStopping

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


@pytest.mark.parametrize(("lr", "passes"), [(0.0, 3), (1e-2, 6)])
def test_a_run_stops_when_its_score_stands_still(lr: float, passes: int, tmp_path: Path) -> None:
    """At a learning rate of 0 the first pass is the best, and two more are waited for; one that learns goes on."""
    module = tiny_module(epochs=6, lr=lr)
    trainer = tiny_trainer(tmp_path, max_epochs=6, callbacks=[DevScoreStopping(patience=2)])
    trainer.fit(module, datamodule=TinyData())
    assert trainer.global_step == 4 * passes


def test_a_run_shorter_than_an_epoch_has_no_score_and_ends_well(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=2, callbacks=[DevScoreStopping(patience=1)])
    trainer.fit(tiny_module(), datamodule=TinyData())
    assert trainer.global_step == 2


@pytest.mark.parametrize("patience", [0, -1])
def test_patience_below_one_is_refused(patience: int) -> None:
    with pytest.raises(ValueError, match=rf"early_stopping_patience={patience} must be 1 or more"):
        DevScoreStopping(patience)
