"""A run that turns non-finite stops with the weights of the last good step, and leaves good checkpoints only."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from tiny_task import HEAD, TASK, ShuffledTinyData, TinyData, tiny_bert, tiny_trainer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_lora.training import Interrupted, LoRAClassifier, NonFiniteError, OptimSettings
from lightning_lora.training.callbacks import AdapterCheckpoint, FiniteGuard, MergeAtEnd
from lightning_lora.training.callbacks.finite_guard import first_non_finite_gradient

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]

VICTIM = "model.bert.encoder.layer.0.attention.self.query.adapters.default.B"


class Faulty(LoRAClassifier):
    """Goes wrong once ``fault_at`` steps are done: "loss" is NaN, or one entry of one gradient is infinite."""

    def __init__(self, fault: str, fault_at: int, total_steps: int = 12) -> None:
        super().__init__(tiny_bert(), TASK, OptimSettings(lr=1e-2), total_steps, HEAD)
        self.fault, self.fault_at = fault, fault_at

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.fault == "loss" and self.global_step == self.fault_at else loss

    def on_after_backward(self) -> None:
        if self.fault == "gradient" and self.global_step == self.fault_at:
            gradient = self.get_parameter(VICTIM).grad
            assert gradient is not None
            gradient[0, 0] = float("inf")


def finite(module: nn.Module) -> bool:
    return all(bool(p.isfinite().all()) for p in module.parameters())


def fit(module: LoRAClassifier, folder: Path, **settings: Any) -> None:
    torch.manual_seed(1)
    tiny_trainer(folder, **{"max_epochs": 3, **settings}).fit(module, datamodule=TinyData())


@pytest.mark.parametrize(("clip", "accumulate"), [(None, 1), (1.0, 1), (1.0, 2), (None, 3)])
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_the_weights_are_those_of_the_last_good_step(
    fault: str, clip: float | None, accumulate: int, tmp_path: Path
) -> None:
    done = 5
    settings = {"gradient_clip_val": clip, "accumulate_grad_batches": accumulate, "limit_val_batches": 0}
    module = Faulty(fault, fault_at=done)
    with pytest.raises(NonFiniteError) as stopped:
        fit(module, tmp_path, callbacks=[FiniteGuard()], **settings)
    assert f"at step {done + 1}, lr=" in str(stopped.value)
    assert ("loss is nan" if fault == "loss" else f"gradient of {VICTIM}") in str(stopped.value)

    healthy = Faulty("none", fault_at=done)
    fit(healthy, tmp_path, max_steps=done, **settings)
    for name, parameter in healthy.named_parameters():
        assert torch.equal(parameter, module.get_parameter(name)), name


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_without_the_guard_training_ends_well_with_nan_weights(fault: str, tmp_path: Path) -> None:
    module = Faulty(fault, fault_at=5)
    fit(module, tmp_path, limit_val_batches=0)
    assert not finite(module)


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_the_last_good_checkpoint_stays_and_nothing_is_merged(fault: str, tmp_path: Path) -> None:
    merge = MergeAtEnd()
    callbacks = [FiniteGuard(), AdapterCheckpoint(tmp_path / "checkpoints"), merge]
    with pytest.raises(NonFiniteError, match="at step 7"):
        fit(Faulty(fault, fault_at=6), tmp_path, callbacks=callbacks, enable_checkpointing=True)
    assert merge.check is None
    for name in ("best", "last"):
        checkpoint = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 4, "the dev pass before the fault"
        assert all(bool(value.isfinite().all()) for value in checkpoint["state_dict"].values())


class Bursting(LoRAClassifier):
    """Takes a step that is finite, and so large that no pass behind it is."""

    def __init__(self, at: int) -> None:
        super().__init__(tiny_bert(), TASK, OptimSettings(lr=1e-3, schedule="constant", warmup_ratio=0.0), 8, HEAD)
        self.at = at

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.global_step + 1 == self.at:
            optimizer.param_groups[0]["lr"] = 1e30


def kept_of_bursting(folder: Path, at: int, batches: int, *others: Callback) -> dict[str, int]:
    """Train, or go on from ``last.ckpt``, till it bursts; the checkpoints that are left, and their steps."""
    callbacks = [FiniteGuard(), AdapterCheckpoint(folder, every=1), *others]
    trainer = tiny_trainer(folder, callbacks=callbacks, enable_checkpointing=True, max_epochs=4)
    last = folder / "last.ckpt"
    path = last if last.exists() else None
    with pytest.raises((NonFiniteError, Interrupted)):
        trainer.fit(Bursting(at), datamodule=ShuffledTinyData(8 * batches), ckpt_path=path, weights_only=True)
    files = {file.name: torch.load(file, weights_only=True) for file in folder.iterdir() if file.name != "best.ckpt"}
    return {name: checkpoint["global_step"] for name, checkpoint in files.items()}


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(("at", "batches"), [(3, 1), (2, 4)], ids=["in a dev pass", "in the next step"])
def test_a_step_that_the_next_pass_shows_to_have_burst_is_not_gone_on_from(
    at: int, batches: int, tmp_path: Path
) -> None:
    for _ in range(2):  # the run that goes on comes to the same
        assert kept_of_bursting(tmp_path, at, batches) == {"last.ckpt": at - 1}


def test_where_the_first_step_bursts_nothing_is_left_to_go_on_from(tmp_path: Path) -> None:
    assert kept_of_bursting(tmp_path, 1, 1) == {}


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_what_a_killed_process_could_not_see_the_next_one_does(tmp_path: Path) -> None:
    class Killed(Callback):
        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.global_step == 3:
                raise Interrupted(signal.SIGTERM)

    assert kept_of_bursting(tmp_path, 3, 1, Killed()) == {"last.ckpt": 3, "last_good.ckpt": 2}
    assert kept_of_bursting(tmp_path, 3, 1) == {"last.ckpt": 2}


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_with_a_gradient_scaler_only_the_loss_stops_a_run(fault: str, tmp_path: Path) -> None:
    module = Faulty(fault, fault_at=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    settings: dict[str, Any] = {
        "callbacks": [FiniteGuard()],
        "plugins": [MixedPrecision("16-mixed", "cpu", scaler)],
        "limit_val_batches": 0,
    }
    if fault == "loss":
        with pytest.raises(NonFiniteError, match="loss is nan at step 3"):
            fit(module, tmp_path, **settings)
    else:
        fit(module, tmp_path, **settings)
        assert scaler.get_scale() == 2.0**3, "the scaler met the infinite gradient, and left that step out"
    assert finite(module)


class Waits(TorchDispatchMode):
    """Counts how often the value of a tensor is read, for which a GPU is waited for."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_a_healthy_step_waits_for_the_device_once(tmp_path: Path) -> None:
    waits: list[int] = []

    class Counted(FiniteGuard):
        def on_before_optimizer_step(self, *given: Any) -> None:
            with Waits() as counted:
                super().on_before_optimizer_step(*given)
            waits.append(counted.count)

    fit(Faulty("none", fault_at=0), tmp_path, callbacks=[Counted()], limit_val_batches=0)
    assert waits == [1] * 12


def test_gradients_so_large_that_their_norm_is_infinite_do_not_stop_a_run(tmp_path: Path) -> None:
    class Large(Faulty):
        def on_after_backward(self) -> None:
            gradient = self.get_parameter(VICTIM).grad
            assert gradient is not None
            gradient.fill_(3e38)

    module = Large("none", fault_at=0)
    fit(module, tmp_path, callbacks=[FiniteGuard()], max_steps=2, limit_val_batches=0)
    assert module.trainer.global_step == 2


def test_large_but_finite_gradients_are_no_fault() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.grad = torch.full((2, 2), 3e38)  # its square, and so its norm, is infinite in fp32
    layer.bias.grad = torch.zeros(2)
    assert first_non_finite_gradient(layer) is None
    layer.bias.grad[1] = float("nan")
    assert first_non_finite_gradient(layer) == "bias"
