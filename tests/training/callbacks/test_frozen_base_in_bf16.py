"""The frozen base is in bf16 while training lasts, and is what it was, bit for bit, afterwards."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file, save_file
from tiny_models import TINY, tiny_batch
from torch import Tensor, nn

from lightning_lora import RunConfig, read_predictions, read_record, restore, run
from lightning_lora.backbone import load_backbone
from lightning_lora.config import DataConfig, LoggerConfig, LoraConfig, ModelConfig, TrainerConfig
from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec, LowRankDelta
from lightning_lora.model_names import EMBEDDED_FOLDER
from lightning_lora.predicting import logits_of, own_splits
from lightning_lora.settings import ConfigError
from lightning_lora.targets import ROLE_SETS
from lightning_lora.tasks import TASKS
from lightning_lora.training import FrozenBaseInBf16, LoRAClassifier, NonFiniteError
from lightning_lora.training.forward import batch_logits

NATIVE_BF16 = "lightning_lora.training.precision.native_bf16"


def configuration(precision: str, method: str = "lora") -> RunConfig:
    return RunConfig(
        epochs=1,
        lora=LoraConfig(method=method),
        data=DataConfig(train_rows=64),
        trainer=TrainerConfig(accelerator="cpu", progress_bar=False, limit_val_batches=4, precision=precision),
        logger=LoggerConfig(wandb="disabled"),
    )


class Types(Callback):
    """The types of parameters and of what the head is given, in training steps, and the low-rank terms."""

    def __init__(self) -> None:
        self.frozen: set[torch.dtype] = set()
        self.trained: set[torch.dtype] = set()
        self.hidden: set[torch.dtype] = set()
        self.deltas: list[LowRankDelta] = []
        self.rounded: set[bool] = set()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        for parameter in pl_module.parameters():
            (self.trained if parameter.requires_grad else self.frozen).add(parameter.dtype)

        self.deltas = [module for module in pl_module.modules() if isinstance(module, LowRankDelta)]
        self.rounded |= {delta.rounds_factors for delta in self.deltas}

        def look(_module: nn.Module, _arguments: object, output: Any) -> None:
            self.hidden.add(output.last_hidden_state.dtype)
            hook.remove()

        hook = pl_module.model.bert.encoder.register_forward_hook(look)


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Types:
    """Watches the training of `run` by the module's own hook, which is called behind those of all callbacks."""
    watching = Types()
    monkeypatch.setattr(
        LoRAClassifier,
        "on_train_batch_start",
        lambda self, *given: watching.on_train_batch_start(self.trainer, self, *given),
    )
    return watching


@pytest.mark.parametrize("method", ["lora", "head"])
def test_only_what_trains_is_in_fp32_while_training_lasts(method: str, types: Types, tmp_path: Path) -> None:
    record = run(configuration("bf16-frozen", method), tmp_path)
    assert types.frozen == {torch.bfloat16}
    assert types.trained == {torch.float32}
    assert types.hidden == {torch.bfloat16}
    assert record.precision == "bf16-frozen"


def test_a_run_that_does_not_finish_says_its_precision_too(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError):
        run(replace(configuration("bf16-frozen"), lr=1e30), tmp_path)
    assert read_record(tmp_path).precision == "bf16-frozen"


def test_afterwards_the_base_is_what_was_loaded(tmp_path: Path) -> None:
    """The merged model's unadapted weights are those of the checkpoint; rounded ones would be others."""
    run(configuration("bf16-frozen"), tmp_path)
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    loaded = load_backbone("tiny", TASKS["toy_sentiment"]).model.state_dict()
    adapted = {name for name in loaded if name.endswith(("query.weight", "value.weight"))}
    untouched = [name for name in merged if name not in adapted and "classifier" not in name and "pooler" not in name]
    assert untouched
    for name in untouched:
        assert torch.equal(merged[name], loaded[name]), name
    words = loaded["bert.embeddings.word_embeddings.weight"]
    assert not torch.equal(words, words.bfloat16().float()), "rounding would be seen"


def test_what_is_recorded_is_what_the_saved_model_gives(tmp_path: Path) -> None:
    record = run(configuration("bf16-frozen"), tmp_path)
    assert record.merge_check["changed_predictions"] == 0
    assert record.merge_check["max_logit_difference"] < 1e-6, "both sides in fp32"
    trained = restore(tmp_path)
    split = own_splits(trained)["validation"]
    given = logits_of(trained.backbone, split.texts, max_length=trained.max_length)
    recorded = read_predictions(tmp_path / "predictions.parquet").logits
    torch.testing.assert_close(torch.from_numpy(recorded), given[: len(recorded)], atol=1e-6, rtol=1e-5)


def test_the_last_dev_pass_is_the_only_one_of_the_fp32_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs, two passes: the first with the base that trains, the last with the one that is kept."""
    passes: list[torch.dtype] = []
    plain = LoRAClassifier.on_validation_epoch_end

    def watched(module: LoRAClassifier) -> None:
        passes.append(next(module.model.parameters()).dtype)
        plain(module)

    monkeypatch.setattr(LoRAClassifier, "on_validation_epoch_end", watched)
    run(replace(configuration("bf16-frozen"), epochs=2), tmp_path)
    assert passes == [torch.bfloat16, torch.float32]


def test_factors_are_rounded_while_training_lasts(types: Types, tmp_path: Path) -> None:
    run(configuration("bf16-frozen"), tmp_path)
    assert types.deltas
    assert types.rounded == {True}
    assert not any(delta.rounds_factors for delta in types.deltas)


def test_it_trains_as_fp32_does_to_rounding(tmp_path: Path) -> None:
    """B starts at zero: after a few steps it holds little else than the first gradients."""
    for precision in ("bf16-frozen", "32-true"):
        run(configuration(precision), tmp_path / precision)
    one, two = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("bf16-frozen", "32-true")
    )
    factors = [name for name in one if "lora_B" in name]
    assert factors
    for name in factors:
        assert not torch.equal(one[name], two[name]), "the arithmetic was another"
        difference = (one[name] - two[name]).norm() / two[name].norm()
        assert difference < 0.2, name


def test_where_the_device_has_no_bf16_auto_is_fp32(
    types: Types, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NATIVE_BF16, lambda device: False)
    record = run(configuration("auto"), tmp_path)
    assert types.frozen == {torch.float32}
    assert record.precision == "32-true"


@pytest.mark.parametrize("method", ["bitfit", "full"])
def test_without_a_frozen_base_it_is_refused_and_auto_is_fp32(method: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"needs a frozen base, which lora.method={method} has not"):
        configuration("bf16-frozen", method)
    assert run(configuration("auto", method), tmp_path).precision == "32-true"


def test_after_an_error_the_base_is_whole_again() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    before = model[0].weight.detach().clone()
    callback = FrozenBaseInBf16()

    class Failing(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            assert self.model[0].weight.dtype == torch.bfloat16
            raise ArithmeticError("stop")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.model[1].parameters(), 0.1)

    trainer = Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(ArithmeticError, match="stop"):
        trainer.fit(Failing(), torch.utils.data.DataLoader(torch.zeros(2, 3)))
    assert torch.equal(model[0].weight, before)
    assert not callback.in_force


@pytest.mark.parametrize(
    "lacking", ["bert.embeddings.token_type_embeddings.weight", "attention.output.LayerNorm.weight"]
)
def test_what_the_checkpoint_lacked_inside_the_model_trains_in_fp32_among_bf16(lacking: str, tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED_FOLDER, tmp_path / "encoder")
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    gone = next(name for name in sorted(weights) if name.endswith(lacking))
    del weights[gone]
    save_file(weights, tmp_path / "encoder" / "model.safetensors", {"format": "pt"})
    config = replace(configuration("bf16-frozen"), model=ModelConfig(name=str(tmp_path / "encoder")))
    record = run(config, tmp_path / "run")
    assert (record.status, record.precision) == ("finished", "bf16-frozen")
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert saved[f"base_model.model.{gone}"].dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        ("roberta", "position_embeddings.weight"),
        ("llama", "layers.1.input_layernorm.weight"),
        ("t5", "decoder.block.1.layer.0.layer_norm.weight"),
        ("gemma2", "layers.0.pre_feedforward_layernorm.weight"),
    ],
)
def test_what_is_lacking_may_be_called_before_what_is_defined_before_it(kind: str, lacking: str) -> None:
    model: Any = TINY[kind]()
    heads = ("classifier", "score", "classification_head")
    new = [name for name, _ in model.named_parameters() if name.endswith(lacking) or name.startswith(heads)]
    inject_adapter(model, LoraSpec(2), roles=ROLE_SETS["qv"], new_parameters=new)
    holder = LightningModule()
    holder.model = model
    callback = FrozenBaseInBf16()
    batch = tiny_batch(padded=False)
    expected = batch_logits(model, batch)
    callback.on_fit_start(Trainer(accelerator="cpu", logger=False), holder)
    found = batch_logits(model, batch)
    found.sum().backward()
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)
    assert not torch.equal(found, expected), "the control: the base was rounded"
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for n, p in model.named_parameters() if n in new)


def normalised(kind: str, x: Tensor, norm: Any, of_statistics: torch.dtype) -> Tensor:
    """By the formulas of arXiv 1607.06450 and 1910.07467, the statistics in a type."""
    x, weight = x.to(of_statistics), norm.weight.to(of_statistics)
    if kind == "bert":
        centred = x - x.mean(-1, keepdim=True)
        found = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        return (found * weight + norm.bias.to(of_statistics)).bfloat16()
    eps = norm.eps if kind == "gemma2" else norm.variance_epsilon
    found = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return (found * (1 + weight)).bfloat16() if kind == "gemma2" else found.bfloat16() * norm.weight


@pytest.mark.parametrize("kind", ["bert", "gemma2", "llama"])
def test_norms_have_their_statistics_in_fp32_and_round_once(kind: str) -> None:
    """Of LLaMA's, whose weight comes behind the rounding, what is multiplied is rounded once.

    But for sums so near to the midst of two bf16 numbers that the order of summation decides: 1 % is far above those.
    """
    model: Any = TINY[kind]().requires_grad_(False)
    norms = [module for module in model.modules() if type(module).__name__.endswith("Norm")]
    for norm in norms:
        nn.init.normal_(norm.weight)
    holder = LightningModule()
    holder.model = model
    FrozenBaseInBf16().on_fit_start(Trainer(accelerator="cpu", logger=False), holder)
    seen: list[tuple[Any, Tensor, Tensor]] = []
    for norm in norms:
        norm.register_forward_hook(lambda norm, given, output: seen.append((norm, given[0], output)))
    model(**tiny_batch(padded=False))
    assert len(seen) == len(norms) > 3
    different, in_bf16 = [], []
    for norm, x, output in seen:
        assert x.dtype == output.dtype == norm.weight.dtype == torch.bfloat16
        different.append(float((output != normalised(kind, x, norm, torch.float64)).float().mean()))
        in_bf16.append(float((output != normalised(kind, x, norm, torch.bfloat16)).float().mean()))
    assert max(different) < 0.01
    assert min(in_bf16) > 0.1, "the control"
