"""Configurations of runs that take seconds: the embedded encoder, few rows, no W&B."""

from lightning_lora.config import DataConfig, LoggerConfig, MergeConfig, RunConfig, TrainerConfig


def configuration(**changes: object) -> RunConfig:
    """Six steps of eight rows, without W&B."""
    settings: dict[str, object] = {
        "epochs": 2,
        "batch_size": 8,
        "lr": 5e-3,
        "data": DataConfig(task="toy_sentiment", train_rows=24),
        "trainer": TrainerConfig(accelerator="cpu", progress_bar=False),
        "logger": LoggerConfig(wandb="disabled"),
        **changes,
    }
    return RunConfig(**settings)  # type: ignore[arg-type]


def short_configuration(**changes: object) -> RunConfig:
    """Three steps and sixteen dev rows, for what needs no score."""
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False, limit_val_batches=2)
    merge = MergeConfig(at_end=False, save=False)
    return configuration(**{"epochs": 1, "trainer": trainer, "merge": merge, **changes})
