"""What is put together from a configuration, counted and refused before anything is trained."""

from pathlib import Path

import pytest
from lightning import Trainer
from short_runs import configuration, short_configuration

from lightning_lora.build import assemble, inspect
from lightning_lora.config import LoraConfig, TrainerConfig
from lightning_lora.running import run


def test_a_budget_given_in_the_configuration_is_spent_exactly() -> None:
    """The embedded encoder: 4 blocks of width 128, the feed-forward four times as wide."""
    reports = [
        inspect(configuration(rank=20, lora=LoraConfig(roles=roles, same_parameters_as="all")))
        for roles in (["query", "value"], ["query", "key", "value", "output"], ["up", "down"])
    ]
    assert [{module.rank for module in report.modules} for report in reports] == [{90}, {45}, {36}]
    assert {report.totals.adapter for report in reports} == {20 * 18 * 128 * 4}
    with pytest.raises(ValueError, match="nearest rank"):
        inspect(configuration(rank=8, lora=LoraConfig(roles=["up", "down"], same_parameters_as="qv")))


def test_bitfit_on_the_embedded_encoder_counted_by_hand() -> None:
    """Width 128, feed-forward 512, 4 blocks; the pooler is as new as the classifier of two labels."""
    totals = inspect(configuration(lora=LoraConfig(method="bitfit", roles=[]))).totals
    of_a_block = 3 * 128 + (128 + 128) + 512 + (128 + 128)
    assert (totals.adapter, totals.other_trainable) == (0, 128 + 4 * of_a_block)
    assert totals.head == (128 * 128 + 128) + (2 * 128 + 2)


def test_inspecting_counts_what_a_run_counts(tmp_path: Path) -> None:
    record = run(short_configuration(), tmp_path)
    report = inspect(short_configuration())
    assert report.totals.as_dict() == record.parameters
    assert len(report.modules) == 8


def test_a_rank_larger_than_the_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rank=129 is larger than layer"):
        run(configuration(rank=129), tmp_path / "run")


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"limit_train_batches": 0.3}, "limit_train_batches=0.3 is less than one of the 3 train batches"),
        ({"limit_val_batches": 0.001}, r"limit_val_batches=0.001 is less than one of the \d+ val batches"),
        ({"overfit_batches": 0.001}, r"overfit_batches=0.001 is less than one of the \d+ val batches"),
    ],
    ids=["train", "dev", "overfit"],
)
def test_a_share_of_the_batches_that_is_none_is_refused(limit: dict[str, float], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.{said}; give a larger share, or how many batches"):
        assemble(configuration(trainer=TrainerConfig(accelerator="cpu", **limit)), tmp_path)


def test_a_share_of_the_batches_that_is_one_is_trained_on(tmp_path: Path) -> None:
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False, limit_train_batches=0.4, limit_val_batches=0.1)
    assert run(short_configuration(trainer=trainer), tmp_path).status == "finished"


def test_in_slurm_lightning_does_not_requeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit does; and Lightning's own signal would save in the midst of a step."""
    variables = {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "7"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    control = Trainer(accelerator="cpu", logger=False)
    ours = assemble(short_configuration(), tmp_path).trainer
    requeues = [trainer._accelerator_connector.cluster_environment.auto_requeue for trainer in (control, ours)]
    assert requeues == [True, False]
