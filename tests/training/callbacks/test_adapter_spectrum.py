"""What is logged are the spectra of the weights that were scored, once for each dev pass."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers.logger import Logger
from tiny_task import TinyData, tiny_module, tiny_trainer
from torch import nn

from lightning_lora.analysis import spectra
from lightning_lora.lora import lora_layers
from lightning_lora.training import JsonlLogger
from lightning_lora.training.callbacks import AdapterSpectrum

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]
FIGURES = ("entropy_rank", "stable_rank", "energy_90_rank", "relative_norm")


class Kept(Logger):
    """A logger of somebody else's: the rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        return "kept"

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append({"step": step, **metrics})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def fit(folder: Path, **settings: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], nn.Module]:
    """Rows of the run's own log and of another logger, and the trained model."""
    own, other, module = JsonlLogger(folder / "metrics.jsonl"), Kept(), tiny_module(epochs=2)
    trainer = tiny_trainer(
        folder, **{"max_epochs": 2, "callbacks": [AdapterSpectrum()], "logger": [own, other], **settings}
    )
    trainer.fit(module, datamodule=TinyData())
    lines = own.path.read_text().splitlines() if own.path.exists() else []
    return [json.loads(line) for line in lines], other.rows, module.model


def test_the_table_is_that_of_the_weights_that_were_scored(tmp_path: Path) -> None:
    rows, _, model = fit(tmp_path)
    scores = [row for row in rows if "dev/score" in row]
    tables = [row for row in rows if "spectra" in row]
    assert [(row["step"], row["epoch"]) for row in tables] == [(row["step"], row["epoch"]) for row in scores]
    assert [row["epoch"] for row in tables] == [0, 1]
    assert tables[0]["spectra"] != tables[1]["spectra"]
    expected = [spectrum.as_dict() for spectrum in spectra(model)]
    assert [entry["module"] for entry in tables[-1]["spectra"]] == [name for name, _ in lora_layers(model)]
    for entry, exact in zip(tables[-1]["spectra"], expected, strict=True):
        assert set(entry) == set(exact)
        assert entry["singular_values"] == pytest.approx(exact["singular_values"], rel=1e-5)
        assert [entry[name] for name in FIGURES] == pytest.approx([exact[name] for name in FIGURES], rel=1e-5)
        assert all(entry[name] == exact[name] for name in ("module", "block", "role", "rank"))


def test_other_logs_get_the_means_of_each_role_and_no_table(tmp_path: Path) -> None:
    rows, others, model = fit(tmp_path)
    means = [row for row in others if any(name.startswith("spectrum/") for name in row)]
    assert len(means) == 2
    names = {f"spectrum/{role}/{figure}" for role in ("query", "value") for figure in FIGURES}
    assert set(means[-1]) == {"step", "epoch"} | names
    assert not any("spectra" in row for row in others)
    ranks = [one.entropy_rank for one in spectra(model) if one.role == "query"]
    assert len(ranks) == 2
    assert means[-1]["spectrum/query/entropy_rank"] == pytest.approx(sum(ranks) / 2)
    assert [row for row in rows if names <= set(row)] == means, "the run's own log has them too"


def test_training_is_not_touched(tmp_path: Path) -> None:
    _, _, watched = fit(tmp_path / "with")
    _, _, alone = fit(tmp_path / "without", callbacks=[])
    for (name, one), (_, other) in zip(watched.state_dict().items(), alone.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


def test_without_a_dev_pass_there_is_none(tmp_path: Path) -> None:
    rows, _, _ = fit(tmp_path, limit_val_batches=0)
    assert not [row for row in rows if "spectra" in row]
