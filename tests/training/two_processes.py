"""Trains on two CPU processes and leaves what each of them saw; started by `test_distributed.py`."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from tiny_task import HEAD, TASK, TinyData, tiny_bert, tiny_trainer
from torch import Tensor

from lightning_lora.training import (
    AtomicCheckpointIO,
    LoRAClassifier,
    MergeAtEnd,
    NonFiniteError,
    OptimSettings,
    quiet_lightning,
)
from lightning_lora.training.callbacks import AdapterCheckpoint, FiniteGuard


class Faulty(LoRAClassifier):
    """Its loss is NaN in the second process only, once ``fault_at`` steps are done."""

    fault_at: int | None = None
    dev_rows = 0

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.global_rank == 1 and self.global_step == self.fault_at else loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.dev_rows += len(batch["idx"])
        super().validation_step(batch, batch_idx, dataloader_idx)


def fit(folder: Path, fault_at: int | None, *callbacks: Callback) -> dict[str, Any]:
    """Two epochs of two steps; what this process has afterwards."""
    module = Faulty(tiny_bert(), TASK, OptimSettings(lr=1e-2), 4, HEAD)
    module.fault_at = fault_at
    trainer = tiny_trainer(
        folder,
        devices=2,
        strategy="ddp",
        max_epochs=2,
        enable_checkpointing=True,
        plugins=[AtomicCheckpointIO()],
        callbacks=[FiniteGuard(), AdapterCheckpoint(folder), *callbacks],
    )
    error = ""
    try:
        trainer.fit(module, datamodule=TinyData())
    except NonFiniteError as stopped:
        error = str(stopped)
    found = module.predictions.get("validation")
    return {
        "error": error,
        "steps": trainer.global_step,
        "dev_rows": module.dev_rows,
        "dev_metrics": module.dev_metrics,
        "best_score": module.best_score,
        "predictions": None if found is None else vars(found),
        "trained": {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad},
        "rank": module.global_rank,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    quiet_lightning()
    folder = Path(sys.argv[1])
    merge = MergeAtEnd()
    seen = {"good": fit(folder / "good", None, merge)}
    assert merge.check is not None
    seen["good"]["merge_rows"] = merge.check.rows
    seen["faulty"] = fit(folder / "faulty", 3)
    torch.save(seen, folder / f"rank{seen['good']['rank']}.pt")
    with contextlib.suppress(ChildProcessError):  # the second process is a child of the first and has none
        os.wait()  # Lightning does not, and the first one's end is taken for that of both
