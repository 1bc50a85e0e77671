"""Training steps on a GPU as CUDA graphs, where that is possible."""

import gc
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy

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
        if is_possible(trainer) and runs_ragged(model):
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


def is_possible(trainer: Trainer) -> bool:
    """Whether a trainer's steps are of a kind that can be recorded."""
    return (
        isinstance(trainer.strategy, SingleDeviceStrategy)
        and trainer.strategy.root_device.type == "cuda"
        and can_be_recorded(
            batches_per_step=trainer.accumulate_grad_batches,
            autocast=isinstance(trainer.precision_plugin, MixedPrecision),
        )
    )


def can_be_recorded(*, batches_per_step: int, autocast: bool) -> bool:
    """Whether steps on one GPU can; see `CudaGraphReplay` for why not."""
    return batches_per_step == 1 and not autocast and not torch.are_deterministic_algorithms_enabled()
