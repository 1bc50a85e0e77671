"""Training steps on a GPU as CUDA graphs, where that is possible."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision

from lightning_lora.ragged import CudaGraphs, runs_ragged
from lightning_lora.training.module import LoRAClassifier


class CudaGraphReplay(Callback):
    """Has the module compute training batches by `CudaGraphs`, from the first to the last.

    Where it does not: on a CPU; with several devices, whose gradients meet within backward; under autocast, which
    chooses types anew each time; with deterministic kernels, some of which wait for the GPU; with several batches for
    a step, because gradients are overwritten by the next batch. Padded batches, and those that begin at hidden states,
    are computed as ever.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, where that is possible."""
        assert isinstance(pl_module, LoRAClassifier)
        model: Any = pl_module.model
        if possible(trainer) and runs_ragged(model):
            pl_module.graphs = CudaGraphs(model)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End, and give the memory back."""
        assert isinstance(pl_module, LoRAClassifier)
        pl_module.graphs = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self.on_train_end(trainer, pl_module)


def possible(trainer: Trainer) -> bool:
    """Whether a trainer's steps are of a kind that can be recorded."""
    return (
        trainer.strategy.root_device.type == "cuda"
        and trainer.world_size == 1
        and trainer.accumulate_grad_batches == 1
        and not isinstance(trainer.precision_plugin, MixedPrecision)
        and not torch.are_deterministic_algorithms_enabled()
    )
