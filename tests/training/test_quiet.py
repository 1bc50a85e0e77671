"""The known noise is gone; everything else is still heard."""

import logging
import warnings
from pathlib import Path

import pytest
import torch
from lightning.fabric.accelerators.cuda import _check_cuda_matmul_precision
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


def test_fp32_products_stay_in_fp32_on_a_gpu_and_nobody_is_asked_to_lower_them(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Lightning says where there is a GPU with Tensor Cores; here it is told that there is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "a GPU")
    logger = logging.getLogger(LIGHTNING)
    heard = []
    with caplog.at_level(logging.INFO):
        for quiet in (False, True):
            monkeypatch.setattr(logger, "filters", [])
            if quiet:
                quiet_lightning()
            caplog.clear()
            _check_cuda_matmul_precision.cache_clear()
            _check_cuda_matmul_precision(torch.device("cuda"))
            heard.append(len(caplog.records))
    _check_cuda_matmul_precision.cache_clear()
    assert heard == [1, 0]
    assert torch.get_float32_matmul_precision() == "highest"
