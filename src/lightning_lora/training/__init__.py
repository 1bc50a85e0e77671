"""Training with Lightning: the module, its optimizer, callbacks and loggers."""

from lightning_lora.training.batches import batches_per_epoch as batches_per_epoch
from lightning_lora.training.callbacks import CudaGraphReplay as CudaGraphReplay
from lightning_lora.training.callbacks import FrozenBaseInBf16 as FrozenBaseInBf16
from lightning_lora.training.callbacks import MergeAtEnd as MergeAtEnd
from lightning_lora.training.callbacks import MergeCheck as MergeCheck
from lightning_lora.training.callbacks import SameOrigin as SameOrigin
from lightning_lora.training.callbacks import StopOnSignal as StopOnSignal
from lightning_lora.training.callbacks import TrainingTime as TrainingTime
from lightning_lora.training.callbacks import callbacks_for as callbacks_for
from lightning_lora.training.callbacks import compare_logits as compare_logits
from lightning_lora.training.checkpoint_io import AtomicCheckpointIO as AtomicCheckpointIO
from lightning_lora.training.devices import check_devices as check_devices
from lightning_lora.training.exceptions import Interrupted as Interrupted
from lightning_lora.training.exceptions import NonFiniteError as NonFiniteError
from lightning_lora.training.jsonl_logger import JsonlLogger as JsonlLogger
from lightning_lora.training.module import LoRAClassifier as LoRAClassifier
from lightning_lora.training.module import Predictions as Predictions
from lightning_lora.training.optimizer import OptimSettings as OptimSettings
from lightning_lora.training.profiling import profiler_for as profiler_for
from lightning_lora.training.quiet import quiet_lightning as quiet_lightning
from lightning_lora.training.schedule import optimizer_steps as optimizer_steps
from lightning_lora.training.wandb_logger import GuardedWandbLogger as GuardedWandbLogger
