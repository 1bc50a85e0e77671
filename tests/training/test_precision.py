"""What `trainer.precision=auto` comes to belongs to a job, and stays what it was when the run goes on elsewhere."""

from pathlib import Path

import pytest
from lightning import Callback, LightningModule, Trainer
from short_runs import short_configuration

from lightning_lora import RunConfig, run
from lightning_lora.config import TrainerConfig
from lightning_lora.training import FrozenBaseInBf16

NATIVE_BF16 = "lightning_lora.training.precision.native_bf16"


def configuration(precision: str) -> RunConfig:
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False, limit_val_batches=2, precision=precision)
    return short_configuration(trainer=trainer)


def test_what_auto_comes_to_makes_another_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is asked for by name is the same job."""
    found = {}
    for native in (False, True):
        monkeypatch.setattr(NATIVE_BF16, lambda device, native=native: native)
        for asked in ("auto", "32-true", "bf16-frozen"):
            record = run(configuration(asked), tmp_path / f"{asked}-{native}")
            found[asked, native] = record.job_id, record.precision
    assert found["auto", False] == found["32-true", False] == found["32-true", True]
    assert found["auto", True] == found["bf16-frozen", True] == found["bf16-frozen", False]
    assert found["auto", False][0] != found["auto", True][0]


def test_a_run_goes_on_in_what_auto_came_to_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(configuration("bf16-frozen"), tmp_path / "whole")

    def stop(_self: Callback, _trainer: Trainer, _module: LightningModule, _batch: object, number: int) -> None:
        if number == 1:
            raise RuntimeError("the machine goes down")

    with monkeypatch.context() as there:
        there.setattr(NATIVE_BF16, lambda device: True)
        there.setattr(FrozenBaseInBf16, "on_train_batch_start", stop)
        with pytest.raises(RuntimeError, match="goes down"):
            run(configuration("auto"), tmp_path / "moved")
    monkeypatch.setattr(NATIVE_BF16, lambda device: False)
    moved = run(configuration("auto"), tmp_path / "moved", resume=True)
    assert (moved.precision, moved.job_id) == ("bf16-frozen", whole.job_id)
    one, two = ((tmp_path / name / "predictions.parquet").read_bytes() for name in ("whole", "moved"))
    assert one == two
