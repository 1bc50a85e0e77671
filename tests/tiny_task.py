"""A task that a tiny model learns in seconds: which of two tokens the text starts with."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from tiny_models import TINY
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_lora.data.loading import ResumableLoader
from lightning_lora.data.sampling import EpochOrder
from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec
from lightning_lora.tasks import Task
from lightning_lora.training import LoRAClassifier, OptimSettings, optimizer_steps

TASK = Task("first_token", ("text",), ("no", "yes"), ("f1", "accuracy"), "f1")
HEAD = ["classifier.weight", "classifier.bias"]


def rows(count: int, seed: int) -> list[dict[str, Tensor]]:
    """Rows of seven tokens; the label says whether the first four are 10 or 11."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(20, 90, (count, 7), generator=generator)
    labels = torch.randint(2, (count,), generator=generator)
    ids[:, :4] = 10 + labels[:, None]
    return [
        {
            "input_ids": ids[i],
            "attention_mask": torch.ones(7, dtype=torch.int64),
            "labels": labels[i],
            "idx": torch.tensor(i),
        }
        for i in range(count)
    ]


class TinyData(LightningDataModule):
    """Batches of eight; the last dev batch is smaller. Training rows come in their order."""

    def __init__(self, train: int = 32, dev: int = 21) -> None:
        super().__init__()
        self.train, self.dev = rows(train, 1), rows(dev, 2)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=8)  # type: ignore[arg-type]

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return [DataLoader(self.dev, batch_size=8)]  # type: ignore[arg-type]


class ShuffledTinyData(TinyData):
    """The same, shuffled by (seed, epoch), in the loader of the real data module."""

    def __init__(self, train: int = 32, workers: int = 0) -> None:
        super().__init__(train)
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Any]:
        return ResumableLoader(
            self.train,  # type: ignore[arg-type]
            batch_size=8,
            sampler=EpochOrder(len(self.train), 0),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


def tiny_bert() -> nn.Module:
    """A BERT with rank 2 adapters on query and value and a new classifier; everything else frozen."""
    torch.manual_seed(0)
    model = TINY["bert"]()
    inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD)
    return model


def tiny_module(
    model: nn.Module | None = None, *, epochs: int = 1, lr: float = 1e-2, steps: int | None = None, **settings: Any
) -> LoRAClassifier:
    """The module over four batches an epoch, unless ``steps`` says how many steps there are."""
    optim = OptimSettings(lr=lr, **settings)
    return LoRAClassifier(model or tiny_bert(), TASK, optim, steps or optimizer_steps(4, epochs), HEAD)


def tiny_trainer(folder: Path, **settings: Any) -> Trainer:
    """A real, silent Trainer on the CPU."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return Trainer(**{**defaults, **settings})
