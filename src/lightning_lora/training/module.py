"""The LightningModule: one adapted Hugging Face classifier, its loss, its optimizer, its dev passes."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from lightning import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from lightning_lora.ragged import CudaGraphs
from lightning_lora.tasks import Task, score
from lightning_lora.training.exceptions import REMEDY, NonFiniteError
from lightning_lora.training.forward import batch_logits
from lightning_lora.training.optimizer import OptimSettings, main_rate, parameter_groups
from lightning_lora.training.schedule import schedule_factor, warmup_steps

Batch = dict[str, Any]


@dataclass(frozen=True)
class Predictions:
    """A dev split's predictions, each row once, in the order of ``idx``, on the CPU.

    Attributes:
        idx: (rows,) int64, the row's number in its split.
        labels: (rows,) int64, or float32 for regression.
        logits: (rows, outputs) float32.
    """

    idx: Tensor
    labels: Tensor
    logits: Tensor


class LoRAClassifier(LightningModule):
    """Trains what is trainable in ``model`` for a task.

    After a dev pass, ``predictions`` and ``dev_metrics`` hold it by split, ``dev_pass_step`` the optimizer step it was
    made at, and ``best_score`` the best headline metric so far. ``rows_seen`` counts the training rows that went
    through a process of this rank, also before the run was resumed. ``latest`` is what the last batch has to log.
    Where ``graphs`` are set, training batches without padding go through them.
    """

    def __init__(
        self, model: nn.Module, task: Task, optim: OptimSettings, total_steps: int, new_parameters: Collection[str] = ()
    ) -> None:
        """Wire, and put the model in training mode: from_pretrained hands it over in eval mode, without its dropout.

        Args:
            model: Gives logits (rows, task.num_outputs) for a batch; see `batch_logits`.
            task: What is predicted, and how it is scored.
            optim: Optimizer and schedule.
            total_steps: Optimizer steps of the whole run; the schedule ends there.
            new_parameters: Names of the newly initialised parameters, for their own learning rate.
        """
        super().__init__()
        # Not to the loggers: they have the whole configuration, whose own "optim" this would replace.
        values = {"task": task.name, "optim": asdict(optim), "total_steps": total_steps}
        self.save_hyperparameters(values, logger=False)
        self.strict_loading = False  # a checkpoint holds what was trained; on_load_checkpoint does the checking
        self.model = model
        self.task, self.optim, self.total_steps, self.new_parameters = task, optim, total_steps, tuple(new_parameters)
        self.predictions: dict[str, Predictions] = {}
        self.dev_metrics: dict[str, dict[str, float]] = {}
        self.dev_pass_step: int | None = None
        self.best_score: float | None = None
        self.rows_seen = 0
        self.latest: dict[str, Tensor | float] = {}
        self.graphs: CudaGraphs | None = None
        self._collected: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self.train()

    def logits(self, batch: Batch) -> Float[Tensor, "rows outputs"]:
        """The model's fp32 logits for a batch; ``labels`` and ``idx`` are not inputs."""
        return batch_logits(self.model, batch, self.graphs if self.training else None)

    def loss(self, logits: Float[Tensor, "rows outputs"], labels: Shaped[Tensor, " rows"]) -> Float[Tensor, ""]:
        """Mean cross-entropy, or mean squared error for regression."""
        if self.task.is_regression:
            return F.mse_loss(logits.squeeze(-1), labels.float())
        return F.cross_entropy(logits, labels)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(self.logits(batch), batch["labels"])
        self.rows_seen += len(batch["labels"])
        rate = main_rate(self.trainer.optimizers[0])
        self.latest = {"train/loss": loss.detach(), "lr": rate, "epoch": self.current_epoch}
        return loss

    def on_validation_epoch_start(self) -> None:
        self._collected = {split: [] for split in self.task.dev_splits}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        split = self.task.dev_splits[dataloader_idx]
        self._collected[split].append((batch["idx"], batch["labels"], self.logits(batch)))

    def on_validation_epoch_end(self) -> None:
        for split, batches in self._collected.items():
            gathered = [self._gathered(torch.cat(column)) for column in zip(*batches, strict=True)]
            self.predictions[split] = found = each_row_once(*gathered)
            if not bool(found.logits.isfinite().all()):
                step = self.trainer.global_step
                raise NonFiniteError(
                    f"logits on {split} are not finite at step {step}; no checkpoint of it is kept; {REMEDY}"
                )
            loss = float(self.loss(found.logits, found.labels))
            self.dev_metrics[split] = {**score(self.task, found.logits, found.labels), "loss": loss}
            self.log_dict({f"{split}/{name}": _fp64(value) for name, value in self.dev_metrics[split].items()})
        self._collected = {}
        self.dev_pass_step = self.trainer.global_step
        headline = self.dev_metrics[self.task.dev_splits[0]][self.task.headline]
        self.best_score = headline if self.best_score is None else max(self.best_score, headline)
        self.log("dev/score", _fp64(headline), prog_bar=True)
        # Of the last training batch: Lightning counts an epoch that max_steps broke off as done, but not on resuming.
        self.log("epoch", float(self.latest.get("epoch", self.current_epoch)))

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.model, self.optim, self.new_parameters)
        # One call for all small factors. Under autocast Lightning refuses to clip the gradients of such an optimizer.
        fused = self.device.type in ("cpu", "cuda") and not isinstance(self.trainer.precision_plugin, MixedPrecision)
        optimizer = torch.optim.AdamW(groups, lr=self.optim.lr, betas=self.optim.betas, eps=self.optim.eps, fused=fused)
        factor = schedule_factor(
            self.optim.schedule, self.total_steps, warmup_steps(self.total_steps, self.optim.warmup_ratio)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what was trained; the frozen base comes from where it came from."""
        trained = self._trained_keys()
        latest = {name: float(value) for name, value in self.latest.items()}
        checkpoint["so_far"] = {"best_score": self.best_score, "rows_seen": self.rows_seen, "latest": latest}
        checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items() if key in trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint holds exactly what this run trains, and take over what it has seen and reached.

        Raises:
            ValueError: it holds less, more, or other shapes.
        """
        own = {name: value for name, value in self.state_dict().items() if name in self._trained_keys()}
        saved = checkpoint["state_dict"]
        if different := sorted(set(own).symmetric_difference(saved)):
            raise ValueError(
                f"the checkpoint is of another run: {len(different)} of its tensors differ, first {different[0]!r}"
            )
        for key, value in own.items():
            if saved[key].shape != value.shape:
                raise ValueError(f"the checkpoint has {key!r} as {tuple(saved[key].shape)}, not {tuple(value.shape)}")

        so_far = checkpoint["so_far"]
        self.best_score, self.latest = so_far["best_score"], so_far["latest"]
        self.rows_seen = so_far["rows_seen"]

    def _trained_keys(self) -> set[str]:
        return {name for name, p in self.named_parameters(remove_duplicate=False) if p.requires_grad}

    def _gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes; each has as many, since the distributed sampler pads."""
        if self.trainer.world_size == 1:
            return rows.detach()
        gathered = self.all_gather(rows.detach())
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)


def each_row_once(
    idx: Shaped[Tensor, " rows"], labels: Shaped[Tensor, " rows"], logits: Float[Tensor, "rows outputs"]
) -> Predictions:
    """Rows in the order of ``idx``, without those that a distributed sampler repeated to fill its last batch."""
    order = torch.argsort(idx, stable=True)
    ordered = idx[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    kept = order[first]
    return Predictions(idx[kept].cpu(), labels[kept].cpu(), logits[kept].float().cpu())


def _fp64(value: float) -> Tensor:
    """Lightning would make fp32 of a number, and the log would differ from the record."""
    return torch.tensor(value, dtype=torch.float64)
