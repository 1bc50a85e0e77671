"""Every key of the schema, off its default, is found again in what a run is put together from."""

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback

from lightning_lora.build import Run, assemble
from lightning_lora.config import RunConfig, schema_settings, with_settings
from lightning_lora.inject import adapted_layers
from lightning_lora.lora import LowRankDelta
from lightning_lora.model_names import EMBEDDED_FOLDER
from lightning_lora.training import CudaGraphReplay, GuardedWandbLogger
from lightning_lora.training.callbacks import AdapterCheckpoint, AdapterSpectrum, BatchSeed, DevScoreStopping

Reading = Callable[[Run], Any]


def callback(run: Run, kind: type[Callback]) -> Any:
    return next((found for found in run.trainer.callbacks if type(found) is kind), None)


def wandb(run: Run) -> Any:
    return next((found for found in run.trainer.loggers if isinstance(found, GuardedWandbLogger)), None)


def adapted(run: Run) -> list[str]:
    return list(adapted_layers(run.backbone.model, "default"))


def of_each_delta(read: Callable[[LowRankDelta], Any]) -> Reading:
    def found(run: Run) -> set[Any]:
        return {read(layer.delta("default")) for layer in adapted_layers(run.backbone.model, "default").values()}

    return found


BLOCK = "bert.encoder.layer"
KEYS_AND_ONE_UP = [
    f"{BLOCK}.1.attention.self.key",
    f"{BLOCK}.1.intermediate.dense",
    f"{BLOCK}.3.attention.self.key",
]
# Of each group, whose keys are set together: the value of a key, where it is read in the run, and what is there.
GROUPS: dict[str, dict[str, tuple[Any, Reading, Any]]] = {
    "together": {
        "rank": (4, of_each_delta(lambda delta: delta.spec.rank), {4}),
        "alpha": (6.0, of_each_delta(lambda delta: delta.spec.effective_alpha), {6.0}),
        "lr": (0.02, lambda run: run.module.optim.lr, 0.02),
        "seed": (7, lambda run: (run.data.seed, callback(run, BatchSeed)._seed, torch.initial_seed()), (7, 7, 7)),
        "epochs": (4, lambda run: run.trainer.max_epochs, 4),
        "batch_size": (3, lambda run: run.data.batch_size, 3),
        "lora.roles": (["key", "up"], adapted, KEYS_AND_ONE_UP),
        "lora.layers": ([1, 3], adapted, KEYS_AND_ONE_UP),
        "lora.exclude": (["layer.3.intermediate.dense"], adapted, KEYS_AND_ONE_UP),
        # 6 over the root of 4.
        "lora.scaling": ("alpha_over_sqrt_rank", of_each_delta(lambda delta: delta.scale), {3.0}),
        "lora.initialisation": ("gaussian", of_each_delta(lambda delta: delta.spec.initialisation), {"gaussian"}),
        "lora.dropout": (0.25, of_each_delta(lambda delta: delta.dropout.p), {0.25}),
        "data.task": ("toy_acceptability", lambda run: run.module.task.name, "toy_acceptability"),
        "data.train_rows": (100, lambda run: run.data.train_size, 100),
        # A quarter of the 5,000 training rows.
        "data.holdout": (0.25, lambda run: run.data.dev_sizes, {"held_out": 1250}),
        "data.max_length": (24, lambda run: run.data.max_length, 24),
        "data.num_workers": (1, lambda run: run.data.train_dataloader().num_workers, 1),
        "data.cache_dir": ("tokens", lambda run: run.data.cache_dir, "tokens"),
        "optim.weight_decay": (0.125, lambda run: run.module.optim.weight_decay, 0.125),
        "optim.betas": ([0.8, 0.95], lambda run: run.module.optim.betas, (0.8, 0.95)),
        "optim.eps": (1e-4, lambda run: run.module.optim.eps, 1e-4),
        "optim.warmup_ratio": (0.3, lambda run: run.module.optim.warmup_ratio, 0.3),
        "optim.schedule": ("cosine", lambda run: run.module.optim.schedule, "cosine"),
        "optim.lora_plus_ratio": (16.0, lambda run: run.module.optim.lora_plus_ratio, 16.0),
        "optim.head_lr": (0.5, lambda run: run.module.optim.head_lr, 0.5),
        "optim.clip_norm": (0.3, lambda run: run.trainer.gradient_clip_val, 0.3),
        "trainer.devices": (2, lambda run: run.trainer.num_devices, 2),
        "trainer.num_nodes": (3, lambda run: run.trainer.num_nodes, 3),
        "trainer.strategy": (
            "ddp_find_unused_parameters_true",
            lambda run: getattr(run.trainer.strategy, "_ddp_kwargs", None),
            {"find_unused_parameters": True},
        ),
        "trainer.precision": ("64-true", lambda run: run.precision, "64-true"),
        # A sixth of 100 rows is 17, in batches of 3 six, of which 4 are taken, in 2 steps, 4 times over.
        "trainer.accumulate_grad_batches": (
            2,
            lambda run: (run.trainer.accumulate_grad_batches, run.module.total_steps),
            (2, 8),
        ),
        "trainer.limit_train_batches": (4, lambda run: run.trainer.limit_train_batches, 4),
        "trainer.limit_val_batches": (5, lambda run: run.trainer.limit_val_batches, 5),
        "trainer.profiler": ("simple", lambda run: type(run.trainer.profiler).__name__, "SimpleProfiler"),
        "trainer.early_stopping_patience": (
            3,
            lambda run: getattr(callback(run, DevScoreStopping), "patience", None),
            3,
        ),
        "trainer.checkpoint_every": (5, lambda run: callback(run, AdapterCheckpoint)._every, 5),
        "trainer.deterministic": (True, lambda run: torch.are_deterministic_algorithms_enabled(), True),
        "trainer.cuda_graphs": (True, lambda run: callback(run, CudaGraphReplay) is not None, True),
        "trainer.progress_bar": (False, lambda run: run.trainer.progress_bar_callback, None),
        "logger.wandb": ("offline", lambda run: wandb(run)._mode, "offline"),
        "logger.project": ("mine", lambda run: wandb(run)._project, "mine"),
        "logger.group": ("ranks", lambda run: wandb(run)._group, "ranks"),
        "logger.name": ("four", lambda run: wandb(run)._run_name, "four"),
        "logger.tags": (["a", "b"], lambda run: wandb(run)._tags, ("a", "b")),
        "logger.spectrum": (False, lambda run: callback(run, AdapterSpectrum), None),
        "merge.at_end": (False, lambda run: run.merge_at_end, None),
    },
    "layers by name": {
        "lora.modules": (
            ["attention.output.dense"],
            adapted,
            [f"{BLOCK}.{number}.attention.output.dense" for number in range(4)],
        ),
    },
    "a budget": {
        # Query and value cost 2 · (128 + 128) a rank and block, all projections 18 · 128.
        "lora.same_parameters_as": ("all", of_each_delta(lambda delta: delta.spec.rank), {8 * 18 // 4}),
    },
    "a baseline": {
        "lora.method": ("head", lambda run: (run.report.method, run.report.totals.adapter), ("head", 0)),
    },
    "frozen blocks": {
        "lora.layers": ([2, 3], lambda run: len(adapted(run)), 4),
        "lora.cache_frozen_blocks": (True, lambda run: next(iter(run.data.train_dataloader())).get("begin_at"), 2),
        "data.train_rows": (40, lambda run: run.data.train_size, 40),
    },
    "padded": {"data.ragged": (False, lambda run: "lengths" in next(iter(run.data.train_dataloader())), False)},
    "another model": {
        "model.name": ("encoder", lambda run: (run.backbone.name, run.backbone.source), ("encoder", "encoder")),
    },
    "the user's own task": {
        "data.task": ("custom", lambda run: run.module.task.name, "custom"),
        "data.path": ("texts", lambda run: (run.data.path, run.data.train_size), ("texts", 6)),
        "data.text_columns": (["review"], lambda run: run.task.text_columns, ("review",)),
        "data.label_column": ("verdict", lambda run: run.task.label_column, "verdict"),
        "data.labels": (["bad", "good"], lambda run: run.task.labels, ("bad", "good")),
        "data.metrics": (["matthews", "f1"], lambda run: run.task.metrics, ("matthews", "f1")),
        "data.headline": ("f1", lambda run: run.task.headline, "f1"),
        "data.train_split": ("first", lambda run: run.task.train_split, "first"),
        "data.dev_splits": (["second"], lambda run: run.data.dev_sizes, {"second": 4}),
    },
    "few steps": {
        "trainer.max_steps": (2, lambda run: (run.trainer.max_steps, run.module.total_steps), (2, 2)),
    },
    "few batches": {
        # In each of three epochs.
        "trainer.overfit_batches": (2, lambda run: (run.trainer.overfit_batches, run.module.total_steps), (2, 6)),
    },
    "a trial": {"trainer.fast_dev_run": (True, lambda run: run.trainer.fast_dev_run, True)},
    "no W&B": {"logger.wandb": ("disabled", lambda run: wandb(run), None)},
    "no clipping": {"optim.clip_norm": (0.0, lambda run: run.trainer.gradient_clip_val, None)},
}
ELSEWHERE = {
    "trainer.accelerator": "without a GPU every one that is not refused is the CPU: training/test_devices.py",
    "model.revision": "needs a hub: test_hub_model.py",
    "warm_start": "needs a run to start from: test_running_on.py",
    "resume": "read by the command line alone: cli/test_resume.py",
    "resume_anyway": "needs a run to go on with: test_running_on.py",
    "merge.save": "read when the run has ended: test_running.py",
}


def read(run: Run, group: str) -> dict[str, Any]:
    return {key: reading(run) for key, (_, reading, _) in GROUPS[group].items()}


def assembled(values: dict[str, Any], folder: Path) -> Run:
    return assemble(with_settings(RunConfig(), {"trainer.accelerator": "cpu", **values}), folder)


@pytest.fixture
def _a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With an encoder and texts; and whatever is set for the whole process is as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    shutil.copytree(EMBEDDED_FOLDER, "encoder")
    Path("texts").mkdir()
    for split, rows in {"first": 6, "second": 4}.items():
        with Path("texts", f"{split}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["review", "verdict"])
            writer.writerows([f"the film number {row}", ("bad", "good")[row % 2]] for row in range(rows))
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def by_default(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is read where nothing is set; at once, for some of it is the process's."""
    run = assembled({}, tmp_path_factory.mktemp("default"))
    return {group: read(run, group) for group in GROUPS}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.usefixtures("_a_folder_of_ones_own")
def test_what_is_set_is_what_the_run_is_made_of(group: str, by_default: dict[str, dict[str, Any]]) -> None:
    run = assembled({key: value for key, (value, _, _) in GROUPS[group].items()}, Path("run"))
    found = read(run, group)
    assert found == {key: expected for key, (_, _, expected) in GROUPS[group].items()}
    same = [key for key, value in by_default[group].items() if value == found[key]]
    assert not same, "the control: by default it is something else"


def test_no_key_is_forgotten() -> None:
    covered = {key for group in GROUPS.values() for key in group}
    assert not covered & set(ELSEWHERE)
    assert covered | set(ELSEWHERE) == set(schema_settings()), "a key needs a row above, or a reason here"
