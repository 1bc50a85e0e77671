"""Training steps on a GPU as CUDA graphs, where that is possible."""

import gc
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
        can_be_recorded = possible(
            trainer.strategy.root_device,
            devices=trainer.world_size,
            batches_per_step=trainer.accumulate_grad_batches,
            autocast=isinstance(trainer.precision_plugin, MixedPrecision),
        )
        if can_be_recorded and runs_ragged(model):
            pl_module.graphs = CudaGraphs(model)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End, and give the memory back: torch's graphs are in cycles of references."""
        assert isinstance(pl_module, LoRAClassifier)
        if pl_module.graphs is not None:
            pl_module.graphs = None
            gc.collect()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self.on_train_end(trainer, pl_module)


def possible(device: torch.device, *, devices: int, batches_per_step: int, autocast: bool) -> bool:
    """Whether steps are of a kind that can be recorded; see `CudaGraphReplay` for why not."""
    alone = devices == batches_per_step == 1
    return device.type == "cuda" and alone and not autocast and not torch.are_deterministic_algorithms_enabled()
