"""Carry out one run: train, score, merge, and write the run's folder with its record."""

import importlib.metadata
import platform
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only

from lightning_lora.adapters_io import AdapterFacts, save_model_folder, save_peft_folder
from lightning_lora.atomic import clear_leftovers
from lightning_lora.backbone import quiet_transformers
from lightning_lora.build import Run, assemble
from lightning_lora.config import RunConfig
from lightning_lora.fingerprints import Fingerprints, fingerprints
from lightning_lora.inject import merged
from lightning_lora.locking import held
from lightning_lora.merging import merge_run
from lightning_lora.reporting import PredictionTable, RunRecord, print_summary, write_predictions, write_record
from lightning_lora.run_folder import ADAPTER, MERGED, clear_results, refuse_other_folder
from lightning_lora.settings import first_line
from lightning_lora.sweeping import ARITHMETIC, job_id
from lightning_lora.sweeping.reuse import earlier_record, may_go_on, set_aside, take_over
from lightning_lora.training import GuardedWandbLogger, Interrupted, NonFiniteError
from lightning_lora.training.peak_memory import peak_bytes, reset_peak
from lightning_lora.training.precision import going_on_in

CODE_VERSION = f"{importlib.metadata.version('lightning-lora')}+{ARITHMETIC}"
REPORTED_VERSIONS = ("torch", "lightning", "transformers", "hydra-core", "torchmetrics")


def run(config: RunConfig, output_dir: Path, resume: bool = False) -> RunRecord:
    """Train, score, merge, write the run's folder and print the summary.

    Args:
        config: A checked configuration.
        output_dir: The run's folder; made if it is not there.
        resume: Whether to go on from the folder's last checkpoint. The result is then, to the bit on a CPU, what it
            would have been without a stop; where there is no checkpoint yet, training starts.

    Returns:
        The record, as it stands in ``output_dir/result.json``; of a trial (``trainer.fast_dev_run``) it stands nowhere.

    Raises:
        ValueError: a mistake of the user's that only shows with the model or the data at hand; another process is
            writing to the folder; or the folder is no run's and holds what a run would replace.
        CannotWriteError: the folder cannot be written to, or the disk is full.
        NonFiniteError: a loss or gradient was not finite. The record and the last good checkpoint are there.
        Interrupted: SIGTERM or SIGINT came, or a job manager's SIGUSR2, which is then handed on to the manager. The
            record and a checkpoint of the last step are there.
    """
    with _claimed(output_dir):
        if not (_further_process() or config.trainer.fast_dev_run):  # neither writes there
            refuse_other_folder(output_dir)
        before, record = earlier_record(output_dir), None
        try:
            record = _carry_out(config, output_dir, resume)
            return record
        finally:
            record = record or earlier_record(output_dir)
            if not _further_process() and record is not None and record != before:
                print_summary(record, output_dir)


def run_once(config: RunConfig, output_dir: Path) -> tuple[RunRecord, bool]:
    """`run` as a job of a sweep: what an earlier start of the same job has done is not done again.

    A finished job is left alone, here or in another sweep beside this one, from where its files are copied. An
    unfinished one goes on from its last checkpoint. What another job has left in the folder (the data, the base model
    or this package have changed since) is set aside. Where another process is at work on the job, this one waits.

    Args:
        config: A checked configuration.
        output_dir: The job's folder, ``SWEEPS/SWEEP/JOB``; made if it is not there.

    Returns:
        The record, and whether it was there before.

    Raises:
        ValueError, CannotWriteError, NonFiniteError, Interrupted: as `run`. The record says what failed.
    """
    with _claimed(output_dir, wait=True):
        identity = _identity(config, fingerprints(config))
        earlier = earlier_record(output_dir)
        done = earlier if earlier and earlier.job_id == identity and earlier.status == "finished" else None
        if done is None:
            if earlier is not None and earlier.job_id and earlier.job_id != identity:
                set_aside(output_dir, earlier)
            needs_merged = bool(config.merge.save) and config.lora.method != "lora"
            done = take_over(output_dir, identity, needs_merged=needs_merged)
        if done is not None:
            _merge_if_asked(config, output_dir)
            return done, True
        return _carry_out(config, output_dir, resume=may_go_on(earlier, identity)), False


def _merge_if_asked(config: RunConfig, folder: Path) -> None:
    """The merged model of a job that finished when none was asked for."""
    if not config.merge.save or (folder / MERGED).exists():
        return
    if config.lora.method != "lora":
        raise ValueError(
            f"{folder}: this job finished with merge.save=false, and {config.lora.method} leaves no adapter to merge; "
            "move the folder away to train again"
        )
    merge_run(folder, folder / MERGED)


@contextmanager
def _claimed(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold the folder while the run lasts.

    A job manager's signal that stopped the run is handed on to its handler when all is written, and not before: the
    handler requeues the job, which ends the process.
    """
    if _further_process():
        yield
        return
    refusal = "" if wait else f"{folder}: another process is at work on this run; stop it first, or wait"
    waiting = f"{folder}: another process is at work on this job; waiting for it"
    with held(folder / ".lock", refusal=refusal, waiting=waiting):
        try:
            yield
        except Interrupted as interrupted:
            if interrupted.number == signal.SIGUSR2:
                signal.raise_signal(signal.SIGUSR2)
            raise


def _carry_out(config: RunConfig, output_dir: Path, resume: bool) -> RunRecord:
    started = time.perf_counter()
    # One that Lightning starts finds a checkpoint only where the first process goes on from it; others start together.
    from_lightning = _further_process() and not (SLURMEnvironment.detect() or TorchElasticEnvironment.detect())
    resume = resume or from_lightning
    if resume and (earlier := earlier_record(output_dir)):
        config = going_on_in(config, earlier.precision)
    assembled = assemble(config, output_dir, resume)
    reset_peak(assembled.trainer.strategy.root_device)
    record = _opening_record(config, assembled)
    writes = assembled.trainer.is_global_zero and not config.trainer.fast_dev_run  # one batch's score is no result
    if writes:
        clear_leftovers(output_dir)
        if assembled.checkpoint is None:
            clear_results(output_dir)
        write_record(record, output_dir)
    try:
        with assembled.stop:
            for logger in assembled.trainer.loggers:
                logger.log_hyperparams(asdict(config))
            start_up = time.perf_counter() - started
            fit(assembled)
            seconds = {"start_up": start_up, "fit": assembled.time.seconds}
            record = _scored(record, assembled, seconds)
            if writes:
                save(config, assembled, output_dir)
        seconds["total"] = assembled.time.before + time.perf_counter() - started
        record = replace(record, status="finished", seconds=seconds)
    except BaseException as error:
        seconds = {"total": assembled.time.before + time.perf_counter() - started}
        record = replace(record, status=_status_after(error), error=reason_of(error), seconds=seconds)
        raise
    finally:
        if writes:
            write_record(record, output_dir)
        _close_loggers(assembled.trainer, 0 if record.status == "finished" else 1)
    return record


def fit(assembled: Run) -> None:
    """Train, and score the dev splits at the very end, also where the last step fell inside an epoch."""
    trainer, module, data = assembled.trainer, assembled.module, assembled.data
    trainer.fit(module, datamodule=data, ckpt_path=assembled.checkpoint, weights_only=True)
    if module.dev_pass_step != trainer.global_step:
        trainer.validate(module, datamodule=data, verbose=False)


def save(config: RunConfig, assembled: Run, output_dir: Path) -> None:
    """Write the adapter, the merged model and the predictions, each atomically.

    Weights are in the type in which they trained and were compared, under 64-true in fp64; what reads them computes in
    fp32.
    """
    task, backbone, module = assembled.task, assembled.backbone, assembled.module
    tables = {
        split: PredictionTable(found.idx.numpy(), found.labels.numpy(), found.logits.numpy())
        for split, found in module.predictions.items()
    }
    write_predictions(tables, output_dir)
    adapted = config.lora.method == "lora"
    if adapted:
        save_peft_folder(
            backbone.model,
            output_dir / ADAPTER,
            base_name=backbone.source,
            revision=backbone.revision,
            new_parameters=backbone.new_parameters,
            facts=AdapterFacts(task.name, task.labels, backbone.fingerprint, backbone.digests),
        )
    if not config.merge.at_end or config.merge.save is False:
        return
    with quiet_transformers(), merged(backbone.model) if adapted else nullcontext():
        save_model_folder(backbone.model, backbone.tokenizer, output_dir / MERGED)


def _opening_record(config: RunConfig, assembled: Run) -> RunRecord:
    """What is known before the first step."""
    backbone, data, trainer = assembled.backbone, assembled.data, assembled.trainer
    settings = asdict(config)
    start = assembled.start.fingerprint if assembled.start else None
    return RunRecord(
        job_id=_identity(config, Fingerprints(backbone.fingerprint, data.fingerprint, assembled.precision, start)),
        status="running",
        config=settings,
        task=assembled.task.name,
        metric=assembled.task.headline,
        parameters=assembled.report.totals.as_dict(),
        device=_device(trainer),
        precision=assembled.precision,
        versions={"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in REPORTED_VERSIONS}
        | {"lightning-lora": CODE_VERSION},
        base={
            "name": backbone.name,
            "revision": backbone.revision,
            "fingerprint": backbone.fingerprint,
            "warm_start": asdict(assembled.start) if assembled.start else None,
        },
        data={"name": assembled.task.name, **data.facts},
    )


def _identity(config: RunConfig, found: Fingerprints) -> str:
    trainer = asdict(config.trainer) | {"precision": found.precision}
    return job_id(
        asdict(config) | {"warm_start": found.start, "trainer": trainer},
        base_fingerprint=found.base,
        data_fingerprint=found.data,
        code_version=CODE_VERSION,
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
        peak_memory_bytes=peak_bytes(trainer.strategy.root_device),
        merge_check=asdict(check) if check else None,
    )


def _further_process() -> bool:
    """Whether this is one of the processes for further devices of a run, which Lightning, Slurm or torchrun starts."""
    return bool(rank_zero_only.rank)  # type: ignore[attr-defined]  # set on the function


def reason_of(error: BaseException) -> str:
    """Why a run ended, in one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory on the device: halve batch_size and double trainer.accumulate_grad_batches"
    return first_line(error)


def _status_after(error: BaseException) -> str:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    return "diverged" if isinstance(error, NonFiniteError) else "failed"


def _device(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return f"{trainer.world_size} x {torch.cuda.get_device_name(device)}"
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def _close_loggers(trainer: Trainer, exit_code: int) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, GuardedWandbLogger):
            logger.close(exit_code)
