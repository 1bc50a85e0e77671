"""What the scripts compare on a task of GLUE: our run, and PEFT's model from where it starts."""

import argparse
from pathlib import Path

import peft
from lightning import seed_everything
from records import max_length_of
from torch import nn

from lightning_lora import build
from lightning_lora.backbone import Backbone, load_backbone
from lightning_lora.config import DataConfig, LoggerConfig, MergeConfig, ModelConfig, RunConfig, TrainerConfig
from lightning_lora.lora import LoRALayer
from lightning_lora.tasks import TASKS, Task

VERSIONS = ("lightning-lora", "torch", "lightning", "transformers", "peft")
WITH_ONE_DEV_SPLIT = sorted(name for name, task in TASKS.items() if len(task.dev_splits) == 1)
"""All but MNLI, of which Hugging Face's Trainer would score one split where a run here scores two."""


def configuration(options: argparse.Namespace, task: str, *, seed: int, lr: float, epochs: int) -> RunConfig:
    """Our run: the defaults of `train.py data=TASK`, on this model and these data, padded and in fp32."""
    data = DataConfig(
        task=task,
        path=str(Path(options.data) / task),
        train_rows=options.train_rows,
        max_length=max_length_of(task),
        ragged=False,
    )
    return RunConfig(
        seed=seed,
        lr=lr,
        epochs=epochs,
        batch_size=options.batch_size,
        model=ModelConfig(name=options.model),
        data=data,
        trainer=TrainerConfig(accelerator="cpu", precision="32-true", progress_bar=False),
        logger=LoggerConfig(wandb="disabled"),
        merge=MergeConfig(save=False),
    )


def the_same_start(config: RunConfig, task: Task) -> tuple[Backbone, dict[str, LoRALayer]]:
    """What our run with this seed starts from: a backbone with its weights and new head, and its adapted layers.

    Another library's layers go into the backbone; the adapted layers, by name, are there to take A from.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    backbone = load_backbone(config.model.name, task)
    seed_everything(config.seed, workers=True, verbose=False)
    ours = load_backbone(config.model.name, task)
    build.adapt(config, ours)
    return backbone, {name: layer for name, layer in ours.model.named_modules() if isinstance(layer, LoRALayer)}


def peft_model_from_the_same_start(config: RunConfig, task: Task) -> tuple[nn.Module, Backbone]:
    """PEFT's model with the pretrained weights, the new head and the A of our run with this seed, and its backbone."""
    backbone, adapted = the_same_start(config, task)
    settings = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=config.rank,
        lora_alpha=2 * config.rank,
        lora_dropout=config.lora.dropout,
        target_modules=list(adapted),
    )
    model = peft.get_peft_model(backbone.model, settings)  # type: ignore[arg-type]
    for name, layer in adapted.items():
        peer = model.get_submodule(f"base_model.model.{name}.lora_A.default")
        peer.weight.data.copy_(layer.adapters["default"].A.data)
    return model, backbone
