"""What happens around the training loop, one callback a file."""

from collections.abc import Mapping
from pathlib import Path

from lightning import Callback

from lightning_lora.training.callbacks.adapter_checkpoint import AdapterCheckpoint as AdapterCheckpoint
from lightning_lora.training.callbacks.adapter_spectrum import AdapterSpectrum as AdapterSpectrum
from lightning_lora.training.callbacks.batch_seed import BatchSeed as BatchSeed
from lightning_lora.training.callbacks.cuda_graph_replay import CudaGraphReplay as CudaGraphReplay
from lightning_lora.training.callbacks.early_stopping import DevScoreStopping as DevScoreStopping
from lightning_lora.training.callbacks.finite_guard import FiniteGuard as FiniteGuard
from lightning_lora.training.callbacks.frozen_base_in_bf16 import FrozenBaseInBf16 as FrozenBaseInBf16
from lightning_lora.training.callbacks.merge_at_end import MergeAtEnd as MergeAtEnd
from lightning_lora.training.callbacks.merge_at_end import MergeCheck as MergeCheck
from lightning_lora.training.callbacks.merge_at_end import compare_logits as compare_logits
from lightning_lora.training.callbacks.progress import TerminalProgress as TerminalProgress
from lightning_lora.training.callbacks.same_origin import SameOrigin as SameOrigin
from lightning_lora.training.callbacks.stop_on_signal import StopOnSignal as StopOnSignal
from lightning_lora.training.callbacks.trainable_parameters import TrainableParameters as TrainableParameters
from lightning_lora.training.callbacks.training_log import TrainingLog as TrainingLog
from lightning_lora.training.callbacks.training_time import TrainingTime as TrainingTime


def callbacks_for(
    checkpoint_folder: Path,
    *,
    seed: int,
    totals: Mapping[str, int | float],
    checkpoint_every: int | None,
    early_stopping_patience: int | None,
    spectrum: bool,
    progress_bar: bool,
) -> list[Callback]:
    """What every run has; merging is not among them, since baselines have nothing to merge.

    Args:
        checkpoint_folder: Where checkpoints go.
        seed: Of the run.
        totals: Parameter counts to log, as `ParameterTotals.as_dict()` gives them.
        checkpoint_every: Steps from one checkpoint to the next; None for one after each epoch's last step.
        early_stopping_patience: Dev passes without a better score before stopping; None never stops.
        spectrum: Whether to log the adapters' singular values.
        progress_bar: Whether to show progress on a terminal.
    """
    callbacks: list[Callback] = [
        FiniteGuard(),
        BatchSeed(seed),
        TrainableParameters(totals),
        TrainingLog(),
        AdapterCheckpoint(checkpoint_folder, checkpoint_every),
    ]
    if early_stopping_patience is not None:
        callbacks.append(DevScoreStopping(early_stopping_patience))
    if spectrum:
        callbacks.append(AdapterSpectrum())
    if progress_bar:
        callbacks.append(TerminalProgress())
    return callbacks
