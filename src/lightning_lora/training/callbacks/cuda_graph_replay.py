"""Training steps on a GPU as CUDA graphs, where that is possible."""

import gc
import sys
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn

from lightning_lora.ragged import CudaGraphs, runs_ragged
from lightning_lora.training.module import LoRAClassifier


class CudaGraphReplay(Callback):
    """Has the module compute training batches by `CudaGraphs`, from the first to the last, where that is possible.

    Where it is not, as `why_not` has it, one line says so. Padded batches, and those that begin at hidden states, are
    computed as ever.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, or say why not."""
        assert isinstance(pl_module, LoRAClassifier)
        model: Any = pl_module.model
        reason = why_not(trainer, model)
        if reason is None:
            pl_module.graphs = CudaGraphs(model)
        elif trainer.is_global_zero:
            print(f"trainer.cuda_graphs=true has no effect: {reason}", file=sys.stderr)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End, and give the memory back: torch's graphs are in cycles of references."""
        assert isinstance(pl_module, LoRAClassifier)
        if pl_module.graphs is not None:
            pl_module.graphs = None
            gc.collect()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self.on_train_end(trainer, pl_module)


def why_not(trainer: Trainer, model: nn.Module) -> str | None:
    """Why the steps of a trainer cannot be recorded; None where they can."""
    reasons = {
        # Their gradients meet within backward.
        "several devices share a step": not isinstance(trainer.strategy, SingleDeviceStrategy),
        # Gradients are overwritten by the next batch.
        "several batches make a step": trainer.accumulate_grad_batches > 1,
        "autocast chooses types anew at each step": isinstance(trainer.precision_plugin, MixedPrecision),
        # Some of them wait for the GPU.
        "kernels are to be deterministic": torch.are_deterministic_algorithms_enabled(),
        # Each graph keeps the gradients of what is trained.
        "the whole model is trained": all(parameter.requires_grad for parameter in model.parameters()),
        "the model is given padded batches": not runs_ragged(model),
        "there is no GPU": trainer.strategy.root_device.type != "cuda",
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
