"""The frozen base in bfloat16 while training lasts, what trains in fp32."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_lora.lora import LowRankDelta
from lightning_lora.training.module import LoRAClassifier


class FrozenBaseInBf16(Callback):
    """Rounds the frozen parameters to bf16 once, for the time of training, and puts back the very same fp32 values.

    Autocast rounds frozen weights anew at every use. Adapters, head and optimizer stay in fp32, norms compute their
    statistics in fp32 whatever the type of their input, and factors are rounded only where they meet an activation.
    When training ends the base is restored, so that the last dev pass, the comparison of merging and all that is saved
    are of the fp32 model. It costs memory for the fp32 values, kept on the CPU.
    """

    def __init__(self) -> None:
        self._exact: list[tuple[nn.Parameter, Tensor]] = []
        self._hooks: list[Any] = []
        self._deltas: list[LowRankDelta] = []

    @property
    def in_force(self) -> bool:
        """Whether the base is in bf16 now."""
        return bool(self._exact)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Round."""
        if self.in_force:
            return
        rounded: list[nn.Module] = []
        trained = inside = False
        for module in pl_module.modules():
            if isinstance(module, LowRankDelta):
                module.rounds_factors = True
                self._deltas.append(module)
                continue
            own = list(module.parameters(recurse=False))
            if any(parameter.requires_grad for parameter in own):
                # Its weights are fp32, and so must be what it is given; what it gives is fp32 too.
                self._hooks.append(module.register_forward_pre_hook(_widened))
                trained = True
            elif any(parameter.dtype == torch.float32 for parameter in own):
                self._round(own)
                rounded.append(module)
                inside |= trained
        # Behind a head nothing minds. What the checkpoint lacked inside the model may be called before any of these,
        # wherever it is defined; otherwise the hooks, some 7 us each, are spared.
        if inside:
            self._hooks += [module.register_forward_pre_hook(_narrowed) for module in rounded]

    def _round(self, parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.dtype == torch.float32:
                self._exact.append((parameter, parameter.data.cpu()))
                parameter.data = parameter.data.bfloat16()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore before the last dev pass, which is then of the fp32 model and need not be done again."""
        assert isinstance(pl_module, LoRAClassifier)
        if trainer.global_step >= pl_module.total_steps:
            self._restore()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore where training ended early, and have the dev splits scored once more, on the fp32 model."""
        if self.in_force:
            self._restore()
            assert isinstance(pl_module, LoRAClassifier)
            pl_module.dev_pass_step = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore: what is saved after an interruption is of the fp32 model too."""
        self._restore()

    def _restore(self) -> None:
        for parameter, exact in self._exact:
            parameter.data = exact.to(parameter.device)
        for hook in self._hooks:
            hook.remove()
        for delta in self._deltas:
            delta.rounds_factors = False
        self._exact, self._hooks, self._deltas = [], [], []


def _widened(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(part.float() if isinstance(part, Tensor) and part.is_floating_point() else part for part in arguments)


def _narrowed(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    wide = (isinstance(part, Tensor) and part.dtype == torch.float32 for part in arguments)
    return tuple(part.bfloat16() if is_wide else part for part, is_wide in zip(arguments, wide, strict=True))
