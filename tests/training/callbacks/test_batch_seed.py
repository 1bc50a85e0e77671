"""What a batch draws depends on its place in the run and on nothing that came before."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback
from tiny_task import TinyData, tiny_module, tiny_trainer

from lightning_lora.training.callbacks import BatchSeed

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
]


class Draws(Callback):
    """Draws from every generator, at the start of a batch, and disturbs them all behind it."""

    def __init__(self, disturbance: int) -> None:
        self.drawn: list[tuple[float, ...]] = []
        self.disturbance = disturbance

    def on_train_batch_start(self, *_: Any) -> None:
        self.drawn.append((float(torch.rand(())), random.random(), float(np.random.rand())))

    def on_validation_batch_end(self, *_: Any) -> None:
        torch.rand(self.disturbance)

    def on_train_batch_end(self, *_: Any) -> None:
        torch.rand(self.disturbance), random.seed(self.disturbance), np.random.seed(self.disturbance)


def draws(folder: Path, *callbacks: Callback, disturbance: int = 1) -> list[tuple[float, ...]]:
    watch = Draws(disturbance)
    trainer = tiny_trainer(folder, max_epochs=2, callbacks=[*callbacks, watch])
    trainer.fit(tiny_module(epochs=2), datamodule=TinyData())
    return watch.drawn


def test_the_same_place_draws_the_same_and_every_place_otherwise(tmp_path: Path) -> None:
    drawn = draws(tmp_path, BatchSeed(3))
    assert drawn == draws(tmp_path, BatchSeed(3), disturbance=5)
    assert all(len(set(column)) == 8 for column in zip(*drawn, strict=True))
    assert not set(drawn) & set(draws(tmp_path, BatchSeed(4)))


def test_without_it_a_disturbance_shows(tmp_path: Path) -> None:
    assert draws(tmp_path) != draws(tmp_path, disturbance=5)
