"""The composition root: from a configuration to a model, data, callbacks and a trainer, wired together.

Read this file to know what a run is made of, and running.py to know what is done with it. Nothing is instantiated by
name from the configuration.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer, seed_everything
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.loggers import Logger

from lightning_lora.adapters_io import WarmStart, warm_start
from lightning_lora.backbone import Backbone, load_backbone
from lightning_lora.config import RunConfig
from lightning_lora.data import TextDataModule
from lightning_lora.data.collation import Padding, to_device
from lightning_lora.inject import InjectionReport, inject_adapter, train_baseline
from lightning_lora.lora import LoraSpec, use_cheap_dropout
from lightning_lora.ragged import frozen_blocks, hidden_before, runs_ragged
from lightning_lora.reporting import read_record
from lightning_lora.run_folder import CHECKPOINTS, LAST_CHECKPOINT, LOG
from lightning_lora.sweeping.starts import origin_of
from lightning_lora.targets import ROLE_SETS, Role
from lightning_lora.tasks import Task
from lightning_lora.training import (
    AtomicCheckpointIO,
    CudaGraphReplay,
    FrozenBaseInBf16,
    GuardedWandbLogger,
    JsonlLogger,
    LoRAClassifier,
    MergeAtEnd,
    OptimSettings,
    SameOrigin,
    StopOnSignal,
    TrainingTime,
    batches_per_epoch,
    callbacks_for,
    check_devices,
    optimizer_steps,
    profiler_for,
    quiet_lightning,
)
from lightning_lora.training.precision import BF16_FROZEN, FP32, precision_of


@dataclass(frozen=True)
class Run:
    """Everything of one run, wired together and ready to fit.

    Attributes:
        precision: What it trains in, as `precision_of` names it.
        merge_at_end: Compares the merged model with the adapted one; None where there is none, or it is off.
        checkpoint: What training goes on from; None where it starts.
        stop: Answers signals while it is entered.
        time: How long it has trained.
        start: Where the adapter started; None where it is new.
    """

    task: Task
    backbone: Backbone
    report: InjectionReport
    data: TextDataModule
    module: LoRAClassifier
    trainer: Trainer
    precision: str
    merge_at_end: MergeAtEnd | None
    stop: StopOnSignal
    time: TrainingTime
    checkpoint: Path | None
    start: WarmStart | None


def assemble(config: RunConfig, output_dir: Path, resume: bool = False) -> Run:
    """Load, adapt and wire; the same configuration gives the same weights and the same order of rows.

    Nothing is written to the run's folder yet: whatever refuses the run leaves it as it was.

    Args:
        config: A checked configuration.
        output_dir: The run's folder.
        resume: Whether to go on from the folder's last checkpoint, if it has one.

    Raises:
        ValueError: a mistake of the user's that only shows with the machine, the model or the data at hand.
    """
    check_devices(config.trainer.accelerator, config.trainer.devices)
    quiet_lightning()
    seed_everything(config.seed, workers=True, verbose=False)
    task = config.data.find_task()
    backbone = load_backbone(config.model.name, task, config.model.revision)
    base = {name: digest[:16] for name, digest in backbone.digests.items()}
    report = adapt(config, backbone)
    data = data_module(config, task, backbone)
    data.setup()
    task = data.task
    last = output_dir / CHECKPOINTS / LAST_CHECKPOINT
    checkpoint = last if resume and last.exists() else None
    start = _start(config, backbone, output_dir, from_start=checkpoint is None)
    merge_at_end = MergeAtEnd() if config.merge.at_end and config.lora.method == "lora" else None
    stop, time = StopOnSignal(), TrainingTime()
    precision = precision_of(config)
    origin = SameOrigin(base, data.fingerprint, precision, check=not config.resume_anyway)
    # The first to see a checkpoint refuses it before the others have done anything with it.
    callbacks: list[Callback] = [origin, time]
    # A signal ends the run behind a step whose row is in the log: the run that goes on does not write it.
    callbacks += [*_callbacks(config, report, output_dir), stop]
    frozen_in_bf16 = FrozenBaseInBf16() if precision == BF16_FROZEN else None
    replay = CudaGraphReplay() if config.trainer.cuda_graphs else None
    # The graphs' memory is given back before the base is restored, and that is done before it is merged.
    callbacks += [callback for callback in (replay, frozen_in_bf16, merge_at_end) if callback]
    loggers = _loggers(config, output_dir, resume)
    trainer = _trainer(config, precision, callbacks, loggers, output_dir)
    if config.lora.cache_frozen_blocks:
        _keep_frozen_blocks(config, backbone, data, trainer)
    steps = optimizer_steps(
        batches_per_epoch(trainer, config.batch_size, data.train_size, data.dev_sizes.values()),
        config.epochs,
        config.trainer.accumulate_grad_batches,
        config.trainer.max_steps,
    )
    module = LoRAClassifier(backbone.model, task, _optim_settings(config), steps, backbone.new_parameters)
    return Run(task, backbone, report, data, module, trainer, precision, merge_at_end, stop, time, checkpoint, start)


def adapt(config: RunConfig, backbone: Backbone) -> InjectionReport:
    """Inject adapters, or freeze as the baseline asks; dropout becomes the one that is cheap on a CPU."""
    use_cheap_dropout(backbone.model)
    if config.lora.method != "lora":
        return train_baseline(backbone.model, config.lora.method, backbone.new_parameters)
    lora = config.lora
    spec = LoraSpec(config.rank, config.alpha, lora.dropout, lora.scaling, lora.initialisation)
    return inject_adapter(
        backbone.model,
        spec,
        roles={Role(role) for role in lora.roles},
        modules=lora.modules,
        layers=lora.layers,
        exclude=lora.exclude,
        same_parameters_as=ROLE_SETS[lora.same_parameters_as] if lora.same_parameters_as else None,
        new_parameters=backbone.new_parameters,
    )


def _start(config: RunConfig, backbone: Backbone, output_dir: Path, from_start: bool) -> WarmStart | None:
    """Where the adapter starts; of a run that goes on from a checkpoint where it did, whatever is there now."""
    if config.warm_start is None:
        return None
    if not from_start:
        return WarmStart(**read_record(output_dir).base["warm_start"])
    run = Path(config.warm_start)
    start = warm_start(backbone.model, run, base_fingerprint=backbone.fingerprint)
    return replace(start, **origin_of(run))


def inspect(config: RunConfig) -> InjectionReport:
    """What `run` would adapt and train, without data and without training."""
    seed_everything(config.seed, verbose=False)
    backbone = load_backbone(config.model.name, config.data.find_task(), config.model.revision)
    return adapt(config, backbone)


def data_module(config: RunConfig, task: Task, backbone: Backbone) -> TextDataModule:
    """The run's batches, nothing read yet."""
    return TextDataModule(
        task,
        backbone.tokenizer,
        path=config.data.path,
        holdout=config.data.holdout,
        train_rows=config.data.train_rows,
        max_length=config.data.max_length,
        batch_size=config.batch_size,
        seed=config.seed,
        num_workers=config.data.num_workers,
        cache_dir=config.data.cache_dir,
        max_positions=backbone.max_length,
        padding=_padding(config, backbone),
    )


def _padding(config: RunConfig, backbone: Backbone) -> Padding:
    if not config.data.ragged:
        return "longest"
    return "none" if runs_ragged(backbone.model) else "like_lengths"


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
    )


def _keep_frozen_blocks(config: RunConfig, backbone: Backbone, data: TextDataModule, trainer: Trainer) -> None:
    """Training begins at the first adapted block; what the blocks below give is computed now, or was before."""
    device = trainer.strategy.root_device
    model: Any = backbone.model.to(device).eval()
    block = frozen_blocks(model)
    data.begin_at(
        block,
        {"base": backbone.fingerprint, "config": model.config.to_json_string(), "block": block},
        model.config.hidden_size,
        lambda batch: hidden_before(model, to_device(batch, device), block),
        show_progress=config.trainer.progress_bar and trainer.is_global_zero,
    )


def _callbacks(config: RunConfig, report: InjectionReport, output_dir: Path) -> list[Callback]:
    return callbacks_for(
        output_dir / CHECKPOINTS,
        seed=config.seed,
        totals=report.totals.as_dict(),
        checkpoint_every=config.trainer.checkpoint_every,
        early_stopping_patience=config.trainer.early_stopping_patience,
        spectrum=config.logger.spectrum and config.lora.method == "lora",
        progress_bar=config.trainer.progress_bar,
    )


def _loggers(config: RunConfig, output_dir: Path, resume: bool) -> list[Logger]:
    wandb = _wandb(config, output_dir, resume)
    return [JsonlLogger(output_dir / LOG), *([wandb] if wandb else [])]


def _trainer(
    config: RunConfig, precision: str, callbacks: list[Callback], loggers: list[Logger], output_dir: Path
) -> Trainer:
    settings = config.trainer
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=FP32 if precision == BF16_FROZEN else precision,  # type: ignore[arg-type]  # the schema has checked the name
        max_epochs=config.epochs,
        max_steps=settings.max_steps,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=config.optim.clip_norm or None,
        limit_train_batches=settings.limit_train_batches,
        limit_val_batches=settings.limit_val_batches,
        overfit_batches=settings.overfit_batches,
        fast_dev_run=settings.fast_dev_run,
        profiler=profiler_for(settings.profiler),
        deterministic=settings.deterministic,
        enable_progress_bar=settings.progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO(), *_cluster()],
        default_root_dir=output_dir,
    )


def _cluster() -> list[ClusterEnvironment]:
    """Slurm without Lightning's requeueing, which goes by SIGUSR1 and writes a checkpoint in the midst of a step."""
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        return [SLURMEnvironment(auto_requeue=False)]
    return []


def _wandb(config: RunConfig, output_dir: Path, resume: bool) -> GuardedWandbLogger | None:
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
        resume=resume,
    )
