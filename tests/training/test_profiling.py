"""A profile is of the step that trains."""

from pathlib import Path

import pytest
from tiny_task import TinyData, tiny_module, tiny_trainer

from lightning_lora.training import profiler_for

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:The PyTorch Profiler default schedule will be overridden"),
]


@pytest.mark.parametrize(("profiler", "fused"), [(profiler_for("pytorch"), True), ("pytorch", False)])
def test_torchs_profiler_sees_adapted_layers_as_one_step(profiler: object, fused: bool, tmp_path: Path) -> None:
    """The control is Lightning's own way with the same name."""
    trainer = tiny_trainer(tmp_path, profiler=profiler, limit_train_batches=2, limit_val_batches=1)
    trainer.fit(tiny_module(), datamodule=TinyData())
    assert ("_AdaptedLinear" in trainer.profiler.summary()) == fused
