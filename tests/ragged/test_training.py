"""`data.ragged=true` trains on the same rows, and without dropout to the same adapter, as the padded run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from ragged_texts import LENGTHS, adapted, texts
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

from lightning_lora import RunConfig, RunRecord, read_predictions, run
from lightning_lora.backbone import load_backbone
from lightning_lora.config import DataConfig, LoggerConfig, LoraConfig, ModelConfig, TrainerConfig
from lightning_lora.data import TextDataModule
from lightning_lora.lora import adapter_parameters
from lightning_lora.ragged import CudaGraphs, runs_ragged
from lightning_lora.tasks import TASKS
from lightning_lora.training.callbacks import cuda_graph_replay
from lightning_lora.training.forward import batch_logits


def trained(folder: Path, encoder: Path, ragged: bool, cuda_graphs: bool = False) -> RunRecord:
    return run(
        RunConfig(
            epochs=1,
            model=ModelConfig(name=str(encoder)),
            data=DataConfig(
                task="toy_entailment", train_rows=160, ragged=ragged, cache_dir=str(folder.parent / "cache")
            ),
            trainer=TrainerConfig(
                accelerator="cpu",
                precision="32-true",
                progress_bar=False,
                limit_val_batches=8,
                cuda_graphs=cuda_graphs,
            ),
            logger=LoggerConfig(wandb="disabled"),
        ),
        folder,
    )


def test_without_dropout_it_is_the_padded_run_to_rounding(without_dropout: Path, tmp_path: Path) -> None:
    records = {ragged: trained(tmp_path / str(ragged), without_dropout, ragged) for ragged in (True, False)}
    one, two = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("True", "False"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=2e-4, rtol=1e-3, msg=name)
    logits = [read_predictions(tmp_path / name / "predictions.parquet").logits for name in ("True", "False")]
    torch.testing.assert_close(*(torch.from_numpy(values) for values in logits), atol=1e-3, rtol=1e-3)
    assert records[True].merge_check["changed_predictions"] == 0
    assert records[True].job_id != records[False].job_id


def with_checkpointing(encoder: Path) -> Path:
    """The encoder as a folder whose model trains with gradient checkpointing."""
    folder = Path(shutil.copytree(encoder, encoder.parent / "checkpointing"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"gradient_checkpointing": True}))
    return folder


def test_with_gradient_checkpointing_it_is_the_run_without(without_dropout: Path, tmp_path: Path) -> None:
    trained(tmp_path / "without", without_dropout, ragged=True)
    trained(tmp_path / "with", with_checkpointing(without_dropout), ragged=True)
    one, two = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("without", "with"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_checkpointed_steps_are_padded_and_have_the_gradients_of_those_without(
    architecture: str, reentrant: bool
) -> None:
    torch.manual_seed(0)
    model = adapted(architecture, hidden_dropout_prob=0.1).train()
    padded, ragged = texts(LENGTHS["mixed"], pairs=False)
    for inputs in (padded, ragged):
        inputs.pop("token_type_ids")

    def gradients() -> dict[str, Tensor]:
        torch.manual_seed(1)
        model.zero_grad()
        batch_logits(model, padded).square().sum().backward()
        return {name: factor.grad for name, factor in adapter_parameters(model) if factor.grad is not None}

    assert runs_ragged(model)
    expected = gradients()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    assert not runs_ragged(model)
    with pytest.raises(ValueError, match=r"gradient checkpointing runs its layers again .* give it padded batches"):
        batch_logits(model, ragged)
    torch.testing.assert_close(gradients(), expected, atol=1e-6, rtol=1e-5)
    model.activation_checkpointing_disable()
    assert runs_ragged(model)


def test_brought_to_few_shapes_as_on_a_gpu_it_is_the_same_run(
    without_dropout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training batches are; dev passes, of other shapes each, are not."""
    trained(tmp_path / "as it is", without_dropout, ragged=True)
    brought: list[int] = []
    logits = CudaGraphs.logits

    def counted(graphs: CudaGraphs, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        brought.append(len(inputs["lengths"]))
        return logits(graphs, inputs)

    monkeypatch.setattr(CudaGraphs, "logits", counted)
    monkeypatch.setattr(cuda_graph_replay, "why_not", lambda trainer, model: None)
    trained(tmp_path / "few shapes", without_dropout, ragged=True, cuda_graphs=True)
    assert brought == [32] * 5
    names = ("as it is", "few shapes")
    one, two = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in names)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=2e-4, rtol=1e-3, msg=name)
    assert not all(torch.equal(value, two[name]) for name, value in one.items()), "the shapes were others"


def test_a_batch_holds_the_rows_of_the_padded_one(tmp_path: Path) -> None:
    task = TASKS["toy_entailment"]
    tokenizer = load_backbone("tiny", task).tokenizer
    padded, ragged = (
        TextDataModule(task, tokenizer, train_rows=64, batch_size=8, cache_dir=tmp_path, padding=padding)
        for padding in ("longest", "none")
    )
    padded.setup()
    ragged.setup()
    for one, two in zip(padded.train_dataloader(), ragged.train_dataloader(), strict=True):
        longest_first = one["attention_mask"].sum(1).sort(descending=True, stable=True)
        assert torch.equal(two["lengths"], longest_first.values)
        one = {name: values[longest_first.indices] for name, values in one.items()}
        for name in ("input_ids", "token_type_ids"):
            assert torch.equal(two[name], one[name][one["attention_mask"].bool()][None])
        for name in ("labels", "idx"):
            assert torch.equal(two[name], one[name])


def test_a_model_that_needs_padding_is_trained_on_the_same_batches_with_little_of_it(tmp_path: Path) -> None:
    tokenizer = load_backbone("tiny", TASKS["toy_entailment"]).tokenizer
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    pad = tokenizer.pad_token_id
    mpnet = AutoConfig.for_model("mpnet", vocab_size=len(tokenizer), pad_token_id=pad, **sizes, **without)
    AutoModelForSequenceClassification.from_config(mpnet).save_pretrained(tmp_path / "mpnet")
    tokenizer.save_pretrained(tmp_path / "mpnet")
    for name, ragged in (("True", True), ("False", False)):
        trained(tmp_path / name, tmp_path / "mpnet", ragged)
    one, two = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("True", "False"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=2e-4, rtol=1e-3, msg=name)
    assert not all(torch.equal(value, two[name]) for name, value in one.items()), "the padding was another"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_trains_under_autocast_too(method: str, tmp_path: Path) -> None:
    record = run(
        RunConfig(
            epochs=1,
            lora=LoraConfig(method=method, roles=["query", "value"] if method == "lora" else []),
            data=DataConfig(task="toy_sentiment", train_rows=64),
            trainer=TrainerConfig(accelerator="cpu", precision="bf16-mixed", progress_bar=False, limit_val_batches=2),
            logger=LoggerConfig(wandb="disabled"),
        ),
        tmp_path,
    )
    assert record.status == "finished"
