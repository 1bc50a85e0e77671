"""Two checkpoints of what was trained: the best by dev score, and the last, from which a run goes on."""

import tempfile
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim import Optimizer

from lightning_lora.atomic import clear_leftovers, explained, second_name
from lightning_lora.run_folder import LAST_CHECKPOINT
from lightning_lora.training.exceptions import Interrupted, NonFiniteError
from lightning_lora.training.resume_point import settle

BEST, LAST_GOOD = "best.ckpt", "last_good.ckpt"


class AdapterCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt`` (highest ``dev/score``) and ``last.ckpt`` in a folder; what they hold is up to the module.

    ``last.ckpt`` is written after the last step of every epoch, before the dev pass, and where asked for after every
    n-th step. A run that goes on from it repeats the dev pass, and so ends as if it had never stopped.

    Whether a step was good, the next pass through the model says. Until then the checkpoint before it stays, as
    ``last_good.ckpt``; it takes the place of ``last.ckpt`` where that pass, also that of a later process, ends in
    `NonFiniteError`. Where there is none, the first steps were at fault, and nothing is left to go on from.

    When training breaks off otherwise, ``last.ckpt`` is brought up to the last step. With several processes it saves
    only for signals, which all processes see; after an error in one of them the others could wait for ever. Before
    training goes on nothing is written: what breaks off while a checkpoint is being loaded has loaded a part of it.
    """

    def __init__(self, folder: Path, every: int | None = None) -> None:
        """Touches nothing until training starts.

        Args:
            folder: Where the files go; made if it is not there.
            every: Optimizer steps from one ``last.ckpt`` to the next within an epoch; None for none.
        """
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor="dev/score",
            mode="max",
            save_last=True,
            save_on_exception=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self._every = every
        self._step_begun = 0
        self._has_begun = self._in_doubt = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make sure that the folder can be written to, before a step is taken that would be lost.

        Raises:
            ValueError: it cannot.
        """
        if stage == "fit" and self._writes(trainer):
            _prepare(self._folder)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Clear away what another run has left in the folder, which this one, if it was killed, would go on from."""
        if trainer.ckpt_path is None and self._writes(trainer):
            for name in (BEST, LAST_CHECKPOINT, LAST_GOOD):
                (self._folder / name).unlink(missing_ok=True)
        self._begin(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where there was no step left to take, for the dev pass that closes the run."""
        if not self._has_begun:
            self._begin(trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """A step is only taken where what led to it was finite; `FiniteGuard` goes before."""
        self._step_begun = trainer.global_step + 1
        self._last_is_good(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save ``last.ckpt`` where a step was taken and is due."""
        step = trainer.global_step
        due = trainer.is_last_batch or step == trainer.max_steps or (self._every and step % self._every == 0)
        if due and not self._should_skip_saving_checkpoint(trainer):
            self._save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save ``best.ckpt`` if the score is the best so far, also that of the pass which closes a run."""
        candidates = self._monitor_candidates(trainer)
        of_run = self._has_begun and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if of_run and self.monitor in candidates:
            self._last_is_good(trainer)
            self._save_topk_checkpoint(trainer, candidates)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: the last step of the epoch has saved."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: the last step has saved."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save ``last.ckpt``, unless a step was half taken; the stock callback would write over the best one."""
        if isinstance(exception, NonFiniteError):
            self._take_back_last(trainer)
            return
        half_taken = self._step_begun > trainer.global_step
        if not self._has_begun or half_taken or not self._should_save_on_exception(trainer):
            return
        if trainer.world_size == 1 or isinstance(exception, Interrupted | SIGTERMException):
            self._save_last(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        settle(
            checkpoint["loops"]["fit_loop"],
            step=trainer.global_step,
            batches=trainer.num_training_batches,
            accumulate=trainer.accumulate_grad_batches,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was best. The folder may have been moved: the paths are those of the one that is here."""
        scores = list(state_dict["best_k_models"].values())  # one at most
        best = str(self._folder / BEST) if state_dict["best_model_path"] else ""
        here = {
            "dirpath": self.dirpath,
            "best_model_path": best,
            "kth_best_model_path": best,
            "best_k_models": dict(zip([best], scores, strict=False)),
            "last_model_path": str(self._folder / LAST_CHECKPOINT),
        }
        super().load_state_dict(state_dict | here)

    def _begin(self, trainer: Trainer) -> None:
        self._last_global_step_saved, self._has_begun = trainer.global_step, True
        self._in_doubt = self._writes(trainer) and (self._folder / LAST_GOOD).exists()

    @staticmethod
    def _writes(trainer: Trainer) -> bool:
        return trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]

    def _save_last(self, trainer: Trainer) -> None:
        last = self._folder / LAST_CHECKPOINT
        if trainer.is_global_zero and not self._in_doubt and last.exists():
            second_name(last, self._folder / LAST_GOOD)
        self._in_doubt = True
        self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _last_is_good(self, trainer: Trainer) -> None:
        if self._in_doubt and trainer.is_global_zero:
            (self._folder / LAST_GOOD).unlink(missing_ok=True)
        self._in_doubt = False

    def _take_back_last(self, trainer: Trainer) -> None:
        last, good = self._folder / LAST_CHECKPOINT, self._folder / LAST_GOOD
        if self._in_doubt and trainer.is_global_zero:
            good.replace(last) if good.exists() else last.unlink(missing_ok=True)
        self._in_doubt = False

    @property
    def _folder(self) -> Path:
        assert self.dirpath is not None
        return Path(self.dirpath)


def _prepare(folder: Path) -> None:
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    clear_leftovers(folder)
