"""Training with Lightning: the module, its optimizer, callbacks and loggers."""

from lightning_lora.training.exceptions import NonFiniteError as NonFiniteError
from lightning_lora.training.module import LoRAClassifier as LoRAClassifier
from lightning_lora.training.module import Predictions as Predictions
from lightning_lora.training.optimizer import OptimSettings as OptimSettings
from lightning_lora.training.schedule import optimizer_steps as optimizer_steps
