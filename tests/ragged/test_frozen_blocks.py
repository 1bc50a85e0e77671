"""A model that begins at its first adapted block gives what the whole model gives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ragged_texts import LENGTHS, adapted, takes_types, texts
from safetensors.torch import load_file
from tiny_models import TINY
from torch import Tensor

from lightning_lora import RunConfig, read_predictions, run
from lightning_lora.config import DataConfig, LoggerConfig, LoraConfig, ModelConfig, TrainerConfig
from lightning_lora.data import hidden_states
from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec, adapter_parameters
from lightning_lora.ragged import frozen_blocks, hidden_before, ragged_logits
from lightning_lora.ragged.frozen_blocks import beginning_at
from lightning_lora.ragged.last_block import LAST_BLOCKS, blocks_of
from lightning_lora.settings import ConfigError


def upper_block_only(architecture: str) -> Any:
    """All but the last block frozen."""
    model = adapted(architecture)
    for block in list(blocks_of(model))[:-1]:
        block.requires_grad_(False)
    return model


@pytest.mark.parametrize("architecture", sorted(LAST_BLOCKS))
def test_logits_and_gradients_are_those_of_the_whole_model(architecture: str) -> None:
    model = upper_block_only(architecture)
    _, ragged = texts(LENGTHS["mixed"], pairs=False)
    if not takes_types(model):
        del ragged["token_type_ids"]
    block = frozen_blocks(model)
    assert block == len(blocks_of(model)) - 1
    factors = [parameter for _, parameter in adapter_parameters(model) if parameter.requires_grad]
    assert factors
    hidden = hidden_before(model, ragged, block)
    assert hidden.shape[0] == sum(LENGTHS["mixed"])
    begun = {**ragged, "hidden": hidden[None], "begin_at": block}
    other = {**begun, "input_ids": ragged["input_ids"].flip(1)}
    expected, found = ragged_logits(model, ragged), ragged_logits(model, begun)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)
    assert torch.equal(ragged_logits(model, other), found), "nothing below the block has a say"
    for one, two in zip(
        torch.autograd.grad(found.square().sum(), factors),
        torch.autograd.grad(expected.square().sum(), factors),
        strict=True,
    ):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-8)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert", "roberta", "xlm-roberta"])
def test_an_encoders_embeddings_are_not_computed(architecture: str) -> None:
    model = upper_block_only(architecture)
    _, ragged = texts(LENGTHS["mixed"], pairs=False)
    if not takes_types(model):
        del ragged["token_type_ids"]
    begun = {**ragged, "hidden": hidden_before(model, ragged, 1)[None], "begin_at": 1}
    looked_up: list[str] = []
    model.get_input_embeddings().register_forward_hook(lambda *_: looked_up.append("tokens"))
    ragged_logits(model, begun)
    assert looked_up == []
    ragged_logits(model, ragged)
    assert looked_up == ["tokens"], "the control, and the model is whole again"


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_afterwards_the_model_is_whole(architecture: str) -> None:
    model = upper_block_only(architecture)
    _, ragged = texts(LENGTHS["mixed"], pairs=False)
    if not takes_types(model):
        del ragged["token_type_ids"]
    names, blocks = list(model.state_dict()), blocks_of(model)
    hidden = hidden_before(model, ragged, 1)
    ragged_logits(model, {**ragged, "hidden": hidden[None], "begin_at": 1})
    assert blocks_of(model) is blocks
    assert list(model.state_dict()) == names
    assert not any("forward" in vars(module) for module in model.modules())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_where_nothing_is_frozen_below_it_is_refused() -> None:
    model = adapted("bert")
    with pytest.raises(ValueError, match=r"the first of 2 blocks is adapted.*for example lora\.layers=1$"):
        frozen_blocks(model)
    with pytest.raises(ValueError, match=r"MPNet\w+: frozen blocks are kept for bert, distilbert"):
        frozen_blocks(TINY["mpnet"]())
    model = upper_block_only("bert")
    model.bert.embeddings.word_embeddings.requires_grad_(True)
    with pytest.raises(ValueError, match=r"bert\.embeddings\.word_embeddings\.weight is trained below the blocks"):
        frozen_blocks(model)


def test_with_gradient_checkpointing_nothing_is_computed_before() -> None:
    """It makes the embeddings' output require a gradient, of which no parameter has a part."""
    model = upper_block_only("bert")
    model.activation_checkpointing_enable()
    assert frozen_blocks(model) == 1
    _, ragged = texts(LENGTHS["mixed"], pairs=False)
    with pytest.raises(ValueError, match="does not run without padding; gradient checkpointing runs its layers again"):
        hidden_before(model, ragged, 1)


def test_a_projection_below_the_blocks_is_not_left_untrained() -> None:
    model = TINY["electra"]()
    inject_adapter(model, LoraSpec(rank=2), modules=["embeddings_project", "layer.1.attention.self.query"])
    with pytest.raises(ValueError, match=r"^electra\.embeddings_project is trained below the blocks"):
        frozen_blocks(model)


def test_a_projection_behind_the_blocks_may_train() -> None:
    model = TINY["opt"]()
    inject_adapter(model, LoraSpec(rank=2), modules=["project_out", "layers.1.fc1"])
    assert frozen_blocks(model) == 1


def test_blocks_that_are_skipped_at_random_are_refused() -> None:
    model = upper_block_only("opt")
    assert frozen_blocks(model) == 1
    model.config.layerdrop = 0.1
    with pytest.raises(ValueError, match=r"skips blocks at random \(layerdrop=0\.1\)"):
        frozen_blocks(model)


def test_a_forward_that_others_gave_the_embeddings_is_given_back() -> None:
    model = upper_block_only("bert")
    embeddings = model.base_model.embeddings
    embeddings.forward = before = embeddings.forward
    with beginning_at(model, 1, torch.zeros(1, 3, model.config.hidden_size)):
        assert embeddings.forward is not before
    assert embeddings.forward is before


def trained(folder: Path, encoder: Path, cache: Path, kept: bool, precision: str = "32-true", seed: int = 0) -> Any:
    config = RunConfig(
        seed=seed,
        epochs=2,
        lora=LoraConfig(roles=["query", "value"], layers=[1], cache_frozen_blocks=kept),
        model=ModelConfig(name=str(encoder)),
        data=DataConfig(task="toy_entailment", train_rows=96, cache_dir=str(cache)),
        trainer=TrainerConfig(accelerator="cpu", progress_bar=False, limit_val_batches=8, precision=precision),
        logger=LoggerConfig(wandb="disabled"),
    )
    return run(config, folder)


def saved(folder: Path) -> dict[str, Tensor]:
    """What the run has trained, and what it gives on the dev rows."""
    logits = torch.from_numpy(read_predictions(folder / "predictions.parquet").logits)
    return {**load_file(folder / "adapter" / "adapter_model.safetensors"), "logits": logits}


@pytest.mark.parametrize("precision", ["32-true", "bf16-frozen"])
def test_without_dropout_a_run_is_the_run_of_the_whole_model(
    without_dropout: Path, tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("whole", 0), ("kept", 0), ("other", 1)):
        trained(tmp_path / name, without_dropout, tmp_path / "cache", name != "whole", precision, seed)
    whole, kept, other = (saved(tmp_path / name) for name in ("whole", "kept", "other"))
    if precision == "32-true":
        for name, value in whole.items():
            torch.testing.assert_close(kept[name], value, msg=name, atol=1e-3 if name == "logits" else 2e-4, rtol=1e-3)
    # B starts at zero, so all of it was learned.
    learned = [name for name in whole if "lora_B" in name or name == "logits"]
    assert len(learned) == 3
    for name in learned:
        assert (kept[name] - whole[name]).norm() / whole[name].norm() < 0.2, name
        assert (other[name] - whole[name]).norm() / whole[name].norm() > 0.2, "the control: another seed"

    monkeypatch.setattr(hidden_states, "_put", lambda *_: pytest.fail("computed once more"))
    trained(tmp_path / "again", without_dropout, tmp_path / "cache", True, precision)


def test_padded_batches_cannot_begin_at_a_block() -> None:
    with pytest.raises(ConfigError, match=r"needs batches without padding; leave out data\.ragged=false"):
        RunConfig(lora=LoraConfig(layers=[1], cache_frozen_blocks=True), data=DataConfig(ragged=False))
