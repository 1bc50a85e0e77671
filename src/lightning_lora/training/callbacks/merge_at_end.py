"""Is the merged model the model that was trained? Asked of real dev batches, at the end of training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from lightning_lora.inject import merged
from lightning_lora.training.forward import batch_logits
from lightning_lora.training.module import LoRAClassifier, Predictions, each_row_once

# In the unit of the labels. Those of STS-B, from 0 to 5, are given with three decimals.
REGRESSION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class MergeCheck:
    """How far the merged model's outputs are from the adapted model's.

    Attributes:
        max_logit_difference: Largest absolute difference of a logit, both taken to fp32; of a run in fp64, whose sums
            differ in less than fp32 can hold, mostly 0.
        changed_predictions: Rows with another class; in regression, rows that move by more than `REGRESSION_TOLERANCE`.
        rows: Rows compared.
    """

    max_logit_difference: float
    changed_predictions: int
    rows: int


class MergeAtEnd(Callback):
    """Runs the first dev split merged, and keeps the comparison with the last dev pass in ``check``.

    It runs at the end of training if the last step has had its dev pass, otherwise after the closing
    ``trainer.validate``.

    The model is ``pl_module.model``; afterwards it is unmerged, bit for bit, and in the mode it was in. After an
    exception nothing is merged, and ``check`` is None; so it is where no dev batches are allowed. With several
    processes each does the whole split, at the same time; of a pass that was cut short the rows that it has count.
    """

    def __init__(self) -> None:
        self.check: MergeCheck | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.check = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare. Only a training run that came to its end gets here.

        Raises:
            ValueError: a merged weight would not be finite.
        """
        self._compare(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, if that has not been done.

        Raises:
            ValueError: as `on_train_end`.
        """
        if trainer.state.fn == TrainerFn.VALIDATING and self.check is None:
            self._compare(trainer, pl_module)

    def _compare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LoRAClassifier)
        if pl_module.dev_pass_step != trainer.global_step:
            return
        adapted = pl_module.predictions[pl_module.task.dev_splits[0]]
        with evaluating(pl_module.model), torch.no_grad(), merged(pl_module.model):
            after = _dev_predictions(trainer, pl_module.model)
        self.check = compare_logits(
            adapted.logits[torch.isin(adapted.idx, after.idx)], after.logits[torch.isin(after.idx, adapted.idx)]
        )


def compare_logits(adapted: Float[Tensor, "rows outputs"], after: Float[Tensor, "rows outputs"]) -> MergeCheck:
    """The two models' logits, row by row; one output means regression."""
    distance = (adapted - after).abs()
    regression = adapted.shape[1] == 1
    changed = distance[:, 0] > REGRESSION_TOLERANCE if regression else adapted.argmax(1) != after.argmax(1)
    return MergeCheck(float(distance.max()), int(changed.sum()), len(adapted))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block, the model is in eval mode; afterwards every module is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _dev_predictions(trainer: Trainer, model: nn.Module) -> Predictions:
    """Of the first dev split; at least one batch is allowed."""
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    loaders = datamodule.val_dataloader()
    loader = loaders[0] if isinstance(loaders, list) else loaders
    limit = trainer.limit_val_batches
    count = limit if isinstance(limit, int) else int(limit * len(loader))
    columns = []
    for batch in islice(loader, count):
        on_device = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        with trainer.precision_plugin.val_step_context():
            columns.append((batch["idx"], batch["labels"], batch_logits(model, on_device).cpu()))
    return each_row_once(*(torch.cat(column) for column in zip(*columns, strict=True)))
