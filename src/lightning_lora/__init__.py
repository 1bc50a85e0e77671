"""lightning-lora: train, compare and ship LoRA adapters on transformers.

The names below are the public interface; each is loaded when it is first asked for, so that importing the package, and
refusing a bad command line, costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_lora.adapters_io import (
        AdapterFacts,
        LoadedAdapter,
        load_loralib_file,
        load_peft_folder,
        save_model_folder,
        save_peft_folder,
    )
    from lightning_lora.atomic import CannotWriteError
    from lightning_lora.backbone import Backbone, load_backbone
    from lightning_lora.build import inspect
    from lightning_lora.config import RunConfig
    from lightning_lora.inject import (
        CombinationReport,
        InjectionReport,
        adapter_names,
        adapter_state,
        combine_adapters,
        compress_adapter,
        delete_adapter,
        disable,
        disabled,
        eject,
        enable,
        inject_adapter,
        merge,
        merged,
        mixed,
        mixed_logits,
        swap_merged,
        swap_values,
        train_adapters,
        train_baseline,
        unmerge,
    )
    from lightning_lora.lora import LoraSpec
    from lightning_lora.merging import merge_run
    from lightning_lora.predicting import evaluate, predict_rows
    from lightning_lora.reporting import RunRecord, SplitScores, read_predictions, read_record, records_below
    from lightning_lora.reporting.page import write_page
    from lightning_lora.reporting.plots import save_plots
    from lightning_lora.restoring import Trained, restore
    from lightning_lora.running import run
    from lightning_lora.targets import ROLE_SETS, Role
    from lightning_lora.tasks import TASKS, Task, custom_task, score

_HOMES = {
    "adapters_io": (
        "AdapterFacts",
        "LoadedAdapter",
        "load_loralib_file",
        "load_peft_folder",
        "save_model_folder",
        "save_peft_folder",
    ),
    "atomic": ("CannotWriteError",),
    "backbone": ("Backbone", "load_backbone"),
    "build": ("inspect",),
    "config": ("RunConfig",),
    "inject": (
        "CombinationReport",
        "InjectionReport",
        "adapter_names",
        "adapter_state",
        "combine_adapters",
        "compress_adapter",
        "delete_adapter",
        "disable",
        "disabled",
        "eject",
        "enable",
        "inject_adapter",
        "merge",
        "merged",
        "mixed",
        "mixed_logits",
        "swap_merged",
        "swap_values",
        "train_adapters",
        "train_baseline",
        "unmerge",
    ),
    "lora": ("LoraSpec",),
    "merging": ("merge_run",),
    "predicting": ("evaluate", "predict_rows"),
    "reporting": ("RunRecord", "SplitScores", "read_predictions", "read_record", "records_below"),
    "reporting.page": ("write_page",),
    "reporting.plots": ("save_plots",),
    "restoring": ("Trained", "restore"),
    "running": ("run",),
    "targets": ("ROLE_SETS", "Role"),
    "tasks": ("TASKS", "Task", "custom_task", "score"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ROLE_SETS",
    "TASKS",
    "AdapterFacts",
    "Backbone",
    "CannotWriteError",
    "CombinationReport",
    "InjectionReport",
    "LoadedAdapter",
    "LoraSpec",
    "Role",
    "RunConfig",
    "RunRecord",
    "SplitScores",
    "Task",
    "Trained",
    "adapter_names",
    "adapter_state",
    "combine_adapters",
    "compress_adapter",
    "custom_task",
    "delete_adapter",
    "disable",
    "disabled",
    "eject",
    "enable",
    "evaluate",
    "inject_adapter",
    "inspect",
    "load_backbone",
    "load_loralib_file",
    "load_peft_folder",
    "merge",
    "merge_run",
    "merged",
    "mixed",
    "mixed_logits",
    "predict_rows",
    "read_predictions",
    "read_record",
    "records_below",
    "restore",
    "run",
    "save_model_folder",
    "save_peft_folder",
    "save_plots",
    "score",
    "swap_merged",
    "swap_values",
    "train_adapters",
    "train_baseline",
    "unmerge",
    "write_page",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
