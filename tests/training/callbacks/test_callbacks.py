"""The set that every run gets."""

from pathlib import Path

import pytest

from lightning_lora.training.callbacks import callbacks_for


@pytest.mark.parametrize("patience", [None, 3])
@pytest.mark.parametrize("spectrum", [True, False])
@pytest.mark.parametrize("bar", [True, False])
def test_options_add_their_callback_and_nothing_else(
    patience: int | None, spectrum: bool, bar: bool, tmp_path: Path
) -> None:
    callbacks = callbacks_for(
        tmp_path / "new",
        seed=0,
        totals={"total": 1},
        checkpoint_every=None,
        early_stopping_patience=patience,
        spectrum=spectrum,
        progress_bar=bar,
    )
    expected = ["FiniteGuard", "BatchSeed", "TrainableParameters", "TrainingLog", "AdapterCheckpoint"]
    expected += ["DevScoreStopping"] * (patience is not None)
    expected += ["AdapterSpectrum"] * spectrum + ["TerminalProgress"] * bar
    assert [type(callback).__name__ for callback in callbacks] == expected
    assert not (tmp_path / "new").exists(), "nothing is touched before training"
