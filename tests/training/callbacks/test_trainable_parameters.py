"""The counts are in the log before the first step, once."""

import json
from pathlib import Path

import pytest
from tiny_task import HEAD, TinyData, tiny_bert, tiny_module, tiny_trainer

from lightning_lora.inject import count_parameters
from lightning_lora.training.callbacks import TrainableParameters
from lightning_lora.training.jsonl_logger import JsonlLogger

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
]


def test_every_logger_gets_the_counts_once_and_first(tmp_path: Path) -> None:
    model = tiny_bert()
    loggers = [JsonlLogger(tmp_path / "one.jsonl"), JsonlLogger(tmp_path / "two.jsonl")]
    callback = TrainableParameters(count_parameters(model, HEAD).as_dict())
    trainer = tiny_trainer(tmp_path, max_epochs=2, logger=loggers, callbacks=[callback], log_every_n_steps=1)
    trainer.fit(tiny_module(model, epochs=2), datamodule=TinyData())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    for logger in loggers:
        rows = [row for row in map(json.loads, logger.path.read_text().splitlines()) if "hyperparameters" not in row]
        assert [i for i, row in enumerate(rows) if "params/total" in row] == [0]
        assert rows[0] == {
            "step": 0,
            "params/adapter": 2 * 2 * 2 * (16 + 16),  # two layers, query and value, rank 2
            "params/head": 2 * 16 + 2,
            "params/other_trainable": 0,
            "params/frozen": total - trainable,
            "params/total": total,
            "params/trainable_percent": pytest.approx(100 * trainable / total),
        }
