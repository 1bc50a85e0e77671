"""A checkpoint is taken up on the base model, the data and the precision it was made with, and on no others."""

from pathlib import Path

import pytest
import torch
from tiny_task import HEAD, TinyData, tiny_bert, tiny_module, tiny_trainer
from torch import nn

from lightning_lora.digests import tensor_digests
from lightning_lora.training.callbacks import SameOrigin

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
]


def fit(
    folder: Path, model: nn.Module, data: str, ckpt: Path | None, *, precision: str = "32-true", check: bool = True
) -> None:
    digests = tensor_digests((name, value) for name, value in model.state_dict().items() if name not in HEAD)
    base = {name: digest for name, digest in digests.items() if ".adapters." not in name}
    origin = SameOrigin(base, data, precision, check=check)
    trainer = tiny_trainer(folder, max_epochs=2 if ckpt else 1, callbacks=[origin])
    trainer.fit(tiny_module(model), datamodule=TinyData(), ckpt_path=ckpt, weights_only=True)
    trainer.save_checkpoint(folder / "made.ckpt")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    fit(tmp_path, tiny_bert(), "a", None)
    return (tmp_path / "made.ckpt").rename(tmp_path / "kept.ckpt")


def other_bert() -> nn.Module:
    """Another number in one tensor, in its last bit."""
    model = tiny_bert()
    name = "bert.encoder.layer.1.output.dense.weight"
    with torch.no_grad():
        weight = model.get_parameter(name)
        weight[3, 2] = torch.nextafter(weight[3, 2], torch.tensor(torch.inf))
    return model


def test_the_same_is_taken_up(made: Path, tmp_path: Path) -> None:
    fit(tmp_path, tiny_bert(), "a", made)


def test_another_base_is_refused_by_the_name_of_the_tensor(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"another base model, bert.encoder.layer.1.output.dense.weight is the first"):
        fit(tmp_path, other_bert(), "a", made)
    fit(tmp_path, other_bert(), "a", made, check=False)


def test_other_data_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"made with other data; .* resume_anyway=true"):
        fit(tmp_path, tiny_bert(), "b", made)
    fit(tmp_path, tiny_bert(), "b", made, check=False)


def test_another_precision_is_refused(made: Path, tmp_path: Path) -> None:
    """Which a device decides, where it is left to it."""
    with pytest.raises(
        ValueError, match=r"trained in 32-true, .* go on in bf16-frozen; give trainer\.precision=32-true"
    ):
        fit(tmp_path, tiny_bert(), "a", made, precision="bf16-frozen")
    fit(tmp_path, tiny_bert(), "a", made, precision="bf16-frozen", check=False)


def test_a_checkpoint_of_before_it_was_kept_is_taken_up(made: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(made, weights_only=True)
    del checkpoint["origin"]["precision"]
    torch.save(checkpoint, made)
    fit(tmp_path, tiny_bert(), "a", made, precision="bf16-frozen")
