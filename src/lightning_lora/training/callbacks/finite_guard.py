"""Stop before a step that would destroy the weights."""

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from lightning_lora.training.exceptions import REMEDY, NonFiniteError
from lightning_lora.training.optimizer import main_rate

ADVICE = f"nothing of this step was applied; {REMEDY}"


class FiniteGuard(Callback):
    """Raises `NonFiniteError` instead of taking a step whose loss or gradient is NaN or infinite.

    The check comes once per optimizer step, after all its backward passes and before clipping, so that with several
    processes all of them stop at the same step: gradients are already summed there, and the verdict is shared. It costs
    one norm over the gradients, and waits for the device once.

    Where a GradScaler is at work (fp16) only the loss is checked: infinite gradients are how it finds its scale, and it
    leaves out such a step by itself.
    """

    def __init__(self) -> None:
        self._loss: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._loss = None

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keep the latest loss of the step, or the first that is not finite, without waiting for the device."""
        latest, seen = loss.detach(), self._loss
        self._loss = latest if seen is None else torch.where(seen.isfinite(), latest, seen)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Check the step that is about to be taken.

        Raises:
            NonFiniteError: with the step (from 1), the learning rate, and the loss or the first parameter at fault.
        """
        assert self._loss is not None, "a step follows a backward pass"
        loss, self._loss = self._loss, None
        finite, scaled = loss.isfinite(), getattr(trainer.precision_plugin, "scaler", None) is not None
        if not scaled:
            finite = finite & get_total_norm([p.grad for p in pl_module.parameters() if p.grad is not None]).isfinite()
        if not bool(trainer.strategy.reduce((~finite).int(), reduce_op="sum")):
            return
        place = f"at step {trainer.global_step + 1}, lr={main_rate(optimizer):.3g}"
        here = bool(loss.isfinite())
        if not trainer.strategy.reduce_boolean_decision(here, all=True):
            what = "not finite in another process" if here else str(float(loss))
            raise NonFiniteError(f"the loss is {what} {place}; {ADVICE}")
        # The norm may be infinite for large but finite gradients.
        if not scaled and (name := first_non_finite_gradient(pl_module)):
            raise NonFiniteError(f"the gradient of {name} is not finite {place}; {ADVICE}")


def first_non_finite_gradient(module: torch.nn.Module) -> str | None:
    """Name of the first parameter whose gradient holds NaN or infinity; None if all are finite."""
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            return name
    return None
