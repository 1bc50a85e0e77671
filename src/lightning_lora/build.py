"""The composition root: from a configuration to a model, data, callbacks and a trainer, and from those to a record.

Read this file to know a whole run. Nothing is instantiated by name from the configuration.
"""

import importlib.metadata
import platform
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from lightning import Trainer, seed_everything

from lightning_lora.adapters_io import save_model_folder, save_peft_folder
from lightning_lora.backbone import Backbone, load_backbone
from lightning_lora.config import RunConfig
from lightning_lora.data import TextDataModule
from lightning_lora.inject import InjectionReport, inject, merged, train_baseline
from lightning_lora.lora import LoraSpec
from lightning_lora.reporting import PredictionTable, RunRecord, print_summary, write_predictions, write_record
from lightning_lora.sweeping import job_id
from lightning_lora.targets import Role
from lightning_lora.tasks import Task, custom_task, find_task
from lightning_lora.training import (
    AtomicCheckpointIO,
    GuardedWandbLogger,
    JsonlLogger,
    LoRAClassifier,
    MergeAtEnd,
    NonFiniteError,
    OptimSettings,
    callbacks_for,
    optimizer_steps,
    quiet_lightning,
)

CODE_VERSION = importlib.metadata.version("lightning-lora")
REPORTED_VERSIONS = ("lightning-lora", "torch", "lightning", "transformers", "hydra-core", "torchmetrics")


@dataclass(frozen=True)
class Run:
    """Everything of one run, wired together and ready to fit."""

    task: Task
    backbone: Backbone
    report: InjectionReport
    data: TextDataModule
    module: LoRAClassifier
    trainer: Trainer
    merge_at_end: MergeAtEnd | None


def run(config: RunConfig, output_dir: Path) -> RunRecord:
    """Train, score, merge, write the run's folder and print the summary.

    Args:
        config: A checked configuration.
        output_dir: The run's folder; made if it is not there.

    Returns:
        The record, as it stands in ``output_dir/result.json``.

    Raises:
        ValueError: a mistake of the user's that only shows with the model or the data at hand.
        NonFiniteError: a loss or gradient was not finite. The record and the last good checkpoint are there.
    """
    started = time.perf_counter()
    assembled = assemble(config, output_dir)
    record = _opening_record(config, assembled)
    try:
        fit_started = time.perf_counter()
        fit(assembled)
        seconds = {"start_up": fit_started - started, "fit": time.perf_counter() - fit_started}
        record = _scored(record, assembled, seconds)
        if assembled.trainer.is_global_zero:
            save(config, assembled, output_dir)
        seconds["total"] = time.perf_counter() - started
        record = replace(record, status="finished", seconds=seconds)
    except BaseException as error:
        status = "diverged" if isinstance(error, NonFiniteError) else "failed"
        reason = (str(error) or type(error).__name__).splitlines()[0]
        record = replace(record, status=status, error=reason, seconds={"total": time.perf_counter() - started})
        raise
    finally:
        if assembled.trainer.is_global_zero:
            write_record(record, output_dir)
            print_summary(record, output_dir)
        _close_loggers(assembled.trainer, 0 if record.status == "finished" else 1)
    return record


def assemble(config: RunConfig, output_dir: Path) -> Run:
    """Load, adapt and wire; the same configuration gives the same weights and the same order of rows."""
    quiet_lightning()
    seed_everything(config.seed, workers=True, verbose=False)
    task = task_of(config)
    backbone = load_backbone(config.model.name, task, config.model.revision)
    report = adapt(config, backbone)
    data = _data(config, task, backbone)
    data.setup()
    trainer, merge_at_end = _trainer(config, report, output_dir)
    steps = optimizer_steps(
        _batches_per_epoch(config, data, trainer),
        config.epochs,
        config.trainer.accumulate_grad_batches,
        config.trainer.max_steps,
    )
    module = LoRAClassifier(backbone.model, task, _optim_settings(config), steps, backbone.new_parameters)
    return Run(task, backbone, report, data, module, trainer, merge_at_end)


def task_of(config: RunConfig) -> Task:
    """The task by name, or the user's own."""
    data = config.data
    if data.task != "custom":
        return find_task(data.task)
    return custom_task(
        text_columns=data.text_columns or (),
        labels=data.labels or (),
        metrics=data.metrics or (),
        headline=data.headline,
        label_column=data.label_column or "label",
        train_split=data.train_split or "train",
        dev_splits=data.dev_splits or ("validation",),
    )


def adapt(config: RunConfig, backbone: Backbone) -> InjectionReport:
    """Inject adapters, or freeze as the baseline asks."""
    if config.lora.method != "lora":
        return train_baseline(backbone.model, config.lora.method, backbone.new_parameters)
    lora = config.lora
    spec = LoraSpec(config.rank, config.alpha, lora.dropout, lora.scaling, lora.initialisation)
    return inject(
        backbone.model,
        spec,
        roles={Role(role) for role in lora.roles},
        modules=lora.modules,
        layers=lora.layers,
        exclude=lora.exclude,
        new=backbone.new_parameters,
    )


def inspect(config: RunConfig) -> InjectionReport:
    """What `run` would adapt and train, without data and without training."""
    seed_everything(config.seed, verbose=False)
    backbone = load_backbone(config.model.name, task_of(config), config.model.revision)
    return adapt(config, backbone)


def fit(assembled: Run) -> None:
    """Train, and score the dev splits at the very end, also where the last step fell inside an epoch."""
    trainer, module, data = assembled.trainer, assembled.module, assembled.data
    trainer.fit(module, datamodule=data)
    if module.dev_pass_step != trainer.global_step:
        trainer.validate(module, datamodule=data, verbose=False)


def save(config: RunConfig, assembled: Run, output_dir: Path) -> None:
    """Write the adapter, the merged model and the predictions, each atomically."""
    backbone, module = assembled.backbone, assembled.module
    tables = {
        split: PredictionTable(found.idx.numpy(), found.labels.numpy(), found.logits.numpy())
        for split, found in module.predictions.items()
    }
    write_predictions(tables, output_dir)
    adapted = config.lora.method == "lora"
    if adapted:
        save_peft_folder(
            backbone.model,
            output_dir / "adapter",
            base_name=backbone.source,
            revision=backbone.revision,
            new=backbone.new_parameters,
        )
    if not config.merge.at_end or config.merge.save is False:
        return
    if adapted:
        with merged(backbone.model):
            save_model_folder(backbone.model, backbone.tokenizer, output_dir / "merged")
    else:
        save_model_folder(backbone.model, backbone.tokenizer, output_dir / "merged")


def _data(config: RunConfig, task: Task, backbone: Backbone) -> TextDataModule:
    return TextDataModule(
        task,
        backbone.tokenizer,
        path=config.data.path,
        train_rows=config.data.train_rows,
        max_length=config.data.max_length,
        batch_size=config.batch_size,
        seed=config.seed,
        num_workers=config.data.num_workers,
        cache_dir=config.data.cache_dir,
        max_positions=backbone.max_length,
    )


def _optim_settings(config: RunConfig) -> OptimSettings:
    optim = config.optim
    return OptimSettings(
        lr=config.lr,
        weight_decay=optim.weight_decay,
        betas=(optim.betas[0], optim.betas[1]),
        eps=optim.eps,
        warmup_ratio=optim.warmup_ratio,
        schedule=optim.schedule,
        lora_plus_ratio=optim.lora_plus_ratio,
        head_lr=optim.head_lr,
        clip_norm=optim.clip_norm,
    )


def _trainer(config: RunConfig, report: InjectionReport, output_dir: Path) -> tuple[Trainer, MergeAtEnd | None]:
    settings = config.trainer
    merge_at_end = MergeAtEnd() if config.merge.at_end and config.lora.method == "lora" else None
    callbacks = callbacks_for(
        output_dir / "checkpoints",
        totals=report.totals.as_dict(),
        early_stopping_patience=settings.early_stopping_patience,
        progress_bar=settings.progress_bar,
    )
    loggers = [JsonlLogger(output_dir / "metrics.jsonl"), _wandb(config, output_dir)]
    trainer = Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=settings.precision,  # type: ignore[arg-type]  # the schema has checked the name
        max_epochs=config.epochs,
        max_steps=settings.max_steps,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=config.optim.clip_norm or None,
        limit_train_batches=settings.limit_train_batches,
        limit_val_batches=settings.limit_val_batches,
        overfit_batches=settings.overfit_batches,
        fast_dev_run=settings.fast_dev_run,
        profiler=settings.profiler,
        deterministic=settings.deterministic,
        enable_progress_bar=settings.progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        callbacks=[*callbacks, *([merge_at_end] if merge_at_end else [])],
        logger=[logger for logger in loggers if logger is not None],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=output_dir,
    )
    for logger in trainer.loggers:
        logger.log_hyperparams(asdict(config))
    return trainer, merge_at_end


def _wandb(config: RunConfig, output_dir: Path) -> GuardedWandbLogger | None:
    settings = config.logger
    if settings.wandb == "disabled" or config.trainer.fast_dev_run:
        return None
    return GuardedWandbLogger(
        output_dir,
        mode=settings.wandb,
        project=settings.project,
        group=settings.group,
        name=settings.name,
        tags=settings.tags,
    )


def _batches_per_epoch(config: RunConfig, data: TextDataModule, trainer: Trainer) -> int:
    """Training batches that one process sees in an epoch, before accumulation."""
    rows_per_process = -(-data.train_size // trainer.world_size)
    batches = -(-rows_per_process // config.batch_size)
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _opening_record(config: RunConfig, assembled: Run) -> RunRecord:
    """What is known before the first step."""
    backbone, data, trainer = assembled.backbone, assembled.data, assembled.trainer
    settings = asdict(config)
    rows = {assembled.task.train_split: data.train_size, **data.dev_sizes}
    return RunRecord(
        job_id=job_id(
            settings,
            base_fingerprint=backbone.fingerprint,
            data_fingerprint=data.fingerprint,
            code_version=CODE_VERSION,
        ),
        status="failed",
        config=settings,
        task=assembled.task.name,
        metric=assembled.task.headline,
        parameters=assembled.report.totals.as_dict(),
        device=_device(trainer),
        precision=str(trainer.precision),
        versions={"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in REPORTED_VERSIONS},
        base={"name": backbone.name, "revision": backbone.revision, "fingerprint": backbone.fingerprint},
        data={"name": assembled.task.name, "fingerprint": data.fingerprint, "rows": rows},
    )


def _scored(record: RunRecord, assembled: Run, seconds: Mapping[str, float]) -> RunRecord:
    """The record with what training gave."""
    module, trainer = assembled.module, assembled.trainer
    first_split = assembled.task.dev_splits[0]
    check = assembled.merge_at_end.check if assembled.merge_at_end else None
    metrics: dict[str, dict[str, float | None]] = {split: dict(values) for split, values in module.dev_metrics.items()}
    return replace(
        record,
        score=module.dev_metrics.get(first_split, {}).get(assembled.task.headline),
        best_score=module.best_score,
        metrics=metrics,
        examples_per_second=module.rows_seen * trainer.world_size / seconds["fit"],
        peak_memory_bytes=_peak_memory(trainer),
        merge_check=asdict(check) if check else None,
    )


def _device(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return f"{trainer.world_size} x {torch.cuda.get_device_name(device)}"
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def _peak_memory(trainer: Trainer) -> int:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if platform.system() == "Darwin" else 1024  # getrusage counts bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _close_loggers(trainer: Trainer, exit_code: int) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, GuardedWandbLogger):
            logger.close(exit_code)
