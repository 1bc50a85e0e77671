"""The known noise is gone; everything else is still heard."""

import logging
import warnings
from pathlib import Path

import pytest
from tiny_task import TinyData, tiny_module, tiny_trainer

from lightning_lora.training.quiet import quiet_lightning

LIGHTNING = "lightning.pytorch.utilities.rank_zero"


def test_a_run_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger(LIGHTNING)
    monkeypatch.setattr(logger, "filters", [])  # whole runs before this one, in this process, have hidden it already
    with warnings.catch_warnings(record=True) as heard, caplog.at_level(logging.INFO):
        warnings.simplefilter("always")
        tiny_trainer(tmp_path).fit(tiny_module(), datamodule=TinyData())
        noise = len(heard), len(caplog.records)
        heard.clear(), caplog.clear()
        quiet_lightning()
        quiet_lightning()
        tiny_trainer(tmp_path).fit(tiny_module(), datamodule=TinyData())
        logger.info("something else")
        warnings.warn("something else", UserWarning, stacklevel=1)
        added = list(logger.filters)
    assert min(noise) >= 2, "there is something to hide"
    assert [str(w.message) for w in heard] == ["something else"]
    assert [r.getMessage() for r in caplog.records] == ["something else"]
    assert len(added) <= 1
