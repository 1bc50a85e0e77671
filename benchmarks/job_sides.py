"""The sides of `single_job.py`: one LoRA job here, with PEFT in two loops, with loralib, each measured."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import lightning
import loralib
import numpy as np
import torch
from glue_run import peft_model_from_the_same_start, the_same_start
from torch import nn
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from lightning_lora import build, running
from lightning_lora.backbone import Backbone
from lightning_lora.config import MergeConfig, RunConfig
from lightning_lora.tasks import TASKS, Task, score
from lightning_lora.training import LoRAClassifier, OptimSettings
from lightning_lora.training.peak_memory import peak_bytes, reset_peak


@dataclass
class Measured:
    """Of one side in one round, training with its dev passes.

    Attributes:
        seconds: Wall clock.
        peak_mib: Most memory taken: resident in the process (Linux), or allocated on the GPU.
        rise_mib: The same, less what was taken before the first step.
        score: The headline metric of the last epoch.
    """

    seconds: float = 0.0
    peak_mib: float = 0.0
    rise_mib: float = 0.0
    score: float = 0.0


@contextmanager
def measuring(measured: Measured, config: RunConfig, model: nn.Module) -> Iterator[None]:
    """Time of the block, and the peak of memory in it; the model is on its device before."""
    device = torch.device("cuda" if on_gpu(config) else "cpu")
    model.to(device)
    if on_gpu(config):
        torch.cuda.synchronize()
    reset_peak(device)
    before, started = peak_bytes(device), time.perf_counter()
    yield
    if on_gpu(config):
        torch.cuda.synchronize()
    measured.seconds = time.perf_counter() - started
    peak = peak_bytes(device)
    measured.peak_mib, measured.rise_mib = peak / 2**20, (peak - before) / 2**20


def on_gpu(config: RunConfig) -> bool:
    return config.trainer.accelerator == "gpu"


def ours(config: RunConfig, *, ragged: bool, precision: str, cuda_graphs: bool = False) -> Measured:
    """`python train.py`, from the first step to the end of the last dev pass."""
    measured = Measured()
    config = replace(
        config,
        data=replace(config.data, ragged=ragged),
        trainer=replace(config.trainer, precision=precision, cuda_graphs=cuda_graphs),
        merge=MergeConfig(at_end=False),
    )
    with tempfile.TemporaryDirectory() as folder:
        assembled = build.assemble(config, Path(folder))
        with measuring(measured, config, assembled.module):
            running.fit(assembled)
    measured.score = assembled.module.dev_metrics[assembled.task.dev_splits[0]][assembled.task.headline]
    return measured


def peft_in_trainer(config: RunConfig, padding: str, *, bf16: bool = False, base_in_bf16: bool = False) -> Measured:
    """PEFT's model in Hugging Face's Trainer: AdamW, linear schedule with our warm-up.

    Args:
        config: The settings that both sides share.
        padding: "dynamic" (to the longest of the batch, the Trainer's default), "grouped" (batches of like length) or
            "fixed" (to `data.max_length`, as the common scripts pad).
        bf16: Autocast to bf16, the Trainer's own option.
        base_in_bf16: Round the weights of frozen linear layers beforehand, which autocast does at every use.
    """
    task = TASKS[config.data.task]
    model, backbone = peft_model_from_the_same_start(config, task)
    if base_in_bf16:
        round_frozen_linear_layers(model)
    data = build.data_module(config, task, backbone)
    data.setup()
    sets = [data.train_dataloader().dataset, data.val_dataloader()[0].dataset]
    train, dev = (
        [{name: value for name, value in rows[row].items() if name != "idx"} for row in range(len(rows))]
        for rows in sets
    )
    fixed = {"padding": "max_length", "max_length": config.data.max_length} if padding == "fixed" else {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            per_device_eval_batch_size=config.batch_size,
            learning_rate=config.lr,
            weight_decay=config.optim.weight_decay,
            warmup_steps=config.optim.warmup_ratio,
            train_sampling_strategy="group_by_length" if padding == "grouped" else "random",
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=not on_gpu(config),
            seed=config.seed,
            bf16=bf16,
        )
        trainer = Trainer(
            model,
            arguments,
            DataCollatorWithPadding(backbone.tokenizer, **fixed),
            train,
            dev,
            compute_metrics=lambda told: score(
                task, torch.from_numpy(np.asarray(told.predictions)), torch.from_numpy(np.asarray(told.label_ids))
            ),
        )
        measured = Measured()
        with measuring(measured, config, model):
            trainer.train()
    (last,) = (row for row in trainer.state.log_history[-2:] if f"eval_{task.headline}" in row)
    measured.score = last[f"eval_{task.headline}"]
    return measured


def round_frozen_linear_layers(model: nn.Module) -> None:
    """To bf16; norms and embeddings stay in fp32, as autocast has them, and so does what trains."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and not any(parameter.requires_grad for parameter in layer.parameters()):
            layer.bfloat16()


def in_our_loop(config: RunConfig, model: nn.Module, backbone: Backbone) -> Measured:
    """Another library's model in this project's LightningModule, padded to the longest of the batch."""
    task = TASKS[config.data.task]
    data = build.data_module(config, task, backbone)
    data.setup()
    steps = len(data.train_dataloader()) * config.epochs
    optim = OptimSettings(lr=config.lr, weight_decay=config.optim.weight_decay, warmup_ratio=config.optim.warmup_ratio)
    module = LoRAClassifier(model, task, optim, steps)
    trainer = lightning.Trainer(
        accelerator=config.trainer.accelerator,
        max_epochs=config.epochs,
        gradient_clip_val=config.optim.clip_norm,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    measured = Measured()
    with measuring(measured, config, module):
        trainer.fit(module, datamodule=data)
    measured.score = module.dev_metrics[task.dev_splits[0]][task.headline]
    return measured


def peft_in_our_loop(config: RunConfig) -> Measured:
    """PEFT's layers in this project's loop."""
    return in_our_loop(config, *peft_model_from_the_same_start(config, TASKS[config.data.task]))


def loralib_in_our_loop(config: RunConfig) -> Measured:
    """Microsoft's layers in this project's loop; in eval mode they merge by themselves."""
    backbone = loralib_model_from_the_same_start(config, TASKS[config.data.task])
    return in_our_loop(config, backbone.model, backbone)


def loralib_model_from_the_same_start(config: RunConfig, task: Task) -> Backbone:
    """A backbone with loralib's layers: the pretrained weights, the new head and the A of our run with this seed."""
    backbone, adapted = the_same_start(config, task)
    for name, ours in adapted.items():
        base = backbone.model.get_submodule(name)
        layer = loralib.Linear(base.in_features, base.out_features, config.rank, 2 * config.rank, config.lora.dropout)
        layer.load_state_dict(base.state_dict(), strict=False)
        layer.lora_A.data.copy_(ours.adapters["default"].A.data)
        backbone.model.set_submodule(name, layer)
    loralib.mark_only_lora_as_trainable(backbone.model)
    for name, parameter in backbone.model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or name in backbone.new_parameters)
    return backbone


GRAPHS = "here, graphs"
"""The one side that a GPU is needed for."""
SIDES: dict[str, Callable[[RunConfig], Measured]] = {
    "here": lambda config: ours(config, ragged=True, precision="auto"),
    GRAPHS: lambda config: ours(config, ragged=True, precision="auto", cuda_graphs=True),
    "here, fp32": lambda config: ours(config, ragged=True, precision="32-true"),
    "here, fp32, padded": lambda config: ours(config, ragged=False, precision="32-true"),
    "PEFT + Trainer": lambda config: peft_in_trainer(config, "dynamic"),
    "PEFT + Trainer, grouped by length": lambda config: peft_in_trainer(config, "grouped"),
    "PEFT + Trainer, bf16, grouped by length": lambda config: peft_in_trainer(config, "grouped", bf16=True),
    "PEFT + Trainer, base in bf16, grouped by length": lambda config: peft_in_trainer(
        config, "grouped", bf16=True, base_in_bf16=True
    ),
    "PEFT + Trainer, padded to max_length": lambda config: peft_in_trainer(config, "fixed"),
    "PEFT in our loop": peft_in_our_loop,
    "loralib in our loop": loralib_in_our_loop,
}
