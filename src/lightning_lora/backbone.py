"""Loading a Hugging Face sequence classifier: the only place that does.

What the loader reports as not in the checkpoint (a classifier, a pooler) is what must be trained and saved, whatever
its name. PEFT goes by the names ``classifier`` and ``score``, and leaves the heads of T5, BART and XLNet frozen.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lightning_lora.digests import fingerprint_of, tensor_digests
from lightning_lora.file_stamps import Stamp, stamps
from lightning_lora.inject import token_embedding
from lightning_lora.model_names import folder_of, is_path, is_saved_model
from lightning_lora.settings import first_line
from lightning_lora.targets import ARCHITECTURES, POSITIONS_BEHIND_PADDING
from lightning_lora.tasks import Task

# What a process knows of the bases that it has loaded.
_commits: dict[tuple[str, str | None], str] = {}
_digests: dict[tuple[tuple[Any, ...], tuple[str, ...]], Mapping[str, str]] = {}


@dataclass(frozen=True)
class Backbone:
    """A model with its tokenizer, and what is known of where they come from.

    Attributes:
        model: The sequence classifier, in fp32, with one output per label (one for regression).
        tokenizer: Its tokenizer, with a padding token, on the side where the model can have padding.
        name: The hub id, the folder or "tiny", as asked for.
        source: What it was loaded from: the folder, or the hub id.
        revision: The hub revision asked for.
        new_parameters: Names of the parameters that the checkpoint does not hold, freshly initialised.
        fingerprint: sha256 over names, types, shapes and bytes of all parameters and buffers that were loaded.
        max_length: The longest input, in tokens, that model and tokenizer allow; None where neither sets a limit.
        digests: sha256 of each tensor that was loaded; the fingerprint is made of them.
    """

    model: nn.Module
    tokenizer: Any
    name: str
    source: str
    revision: str | None
    new_parameters: tuple[str, ...]
    fingerprint: str
    max_length: int | None
    digests: Mapping[str, str]


def load_backbone(name: str, task: Task, revision: str | None = None) -> Backbone:
    """Load a model for a task: the embedded encoder, a local folder, a hub id, or its snapshot in the local cache.

    Weights are read from safetensors files only and always as fp32: transformers 5 would take the file's type, and a
    half-precision checkpoint would train in half precision without a word. A head for another number of labels than
    the task has is initialised anew, and counts as new.

    A process that loads the same base again, as the jobs of a sweep do, reads its files anew, which takes less than
    copying a model in memory (docs/decisions/0051). It does not work out the digests again, nor ask the hub for files:
    it takes the commit that it had, also where a branch has moved on.

    Args:
        name: "tiny", a folder, or a hub id.
        task: Gives the number of outputs and the label names.
        revision: Branch, tag or commit on the hub.

    Raises:
        ValueError: there is no such model, it is a folder and a revision is given, its weights are of another model
            than its config.json, or model and tokenizer do not fit together.
    """
    source = _source(name)
    if revision and Path(source).is_dir():
        raise ValueError(f"model.revision={revision} has no effect with a folder; leave it out, or give a hub id")
    labels = dict(enumerate(task.labels)) if task.labels else {0: "score"}
    options: dict[str, Any] = {
        "num_labels": task.num_outputs,
        "id2label": labels,
        "label2id": {label: number for number, label in labels.items()},
        # A pipeline that is given the merged model goes by it; of one output without it, it takes the sigmoid.
        "problem_type": "single_label_classification" if task.labels else "regression",
        "dtype": torch.float32,
        "use_safetensors": True,
        "ignore_mismatched_sizes": True,
        "output_loading_info": True,
    }
    found = base_stamps(name)
    with quiet_transformers():
        model, info = _first_that_loads(AutoModelForSequenceClassification, name, source, revision, options)
        tokenizer = _first_that_loads(AutoTokenizer, name, source, revision, {})
    _refuse_another_body(name, model, info)
    new = _new_parameters(model, info)
    if not found and (commit := _commit(source, revision)):
        _commits[source, revision] = commit
    _give_padding_token(model, tokenizer)
    if model.config.model_type in ARCHITECTURES:
        # Those whose positions are absolute count padding, and those that read the first token would read it.
        tokenizer.padding_side = "right"
    _check_vocabulary(name, model, tokenizer)
    digests = _digests_of(model, new, (source, _commits.get((source, revision)), found))
    longest = _max_length(model, tokenizer)
    return Backbone(model, tokenizer, name, source, revision, new, fingerprint_of(digests), longest, digests)


def base_stamps(name: str) -> tuple[Stamp, ...]:
    """Of the files of a base model's folder; none of a hub id, of which one process takes one commit."""
    folder = folder_of(name)
    return stamps(sorted(file for file in folder.iterdir() if file.is_file())) if folder.is_dir() else ()


def _commit(hub_id: str, revision: str | None) -> str | None:
    """The one that the local cache has for this revision, which is what was loaded; its folder is named after it."""
    file = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    return Path(file).parent.name if isinstance(file, str) else None


def _digests_of(model: nn.Module, new: tuple[str, ...], files: tuple[Any, ...]) -> Mapping[str, str]:
    """Of what was loaded from these files; for RoBERTa-large they take a second, five times what loading takes."""
    if (files, new) not in _digests:
        loaded = ((key, value) for key, value in model.state_dict().items() if key not in set(new))
        _digests[files, new] = tensor_digests(loaded)
    return _digests[files, new]


def _source(name: str) -> str:
    folder = folder_of(name)
    if folder.is_dir():
        if not is_saved_model(folder):
            raise ValueError(f"model.name={name}: the folder holds no config.json, so it is not a saved model")
        return str(folder)
    if is_path(name):
        raise ValueError(f"model.name={name}: there is no such folder")
    return name


def _first_that_loads(loader: Any, name: str, source: str, revision: str | None, options: dict[str, Any]) -> Any:
    """Try the folder or the hub, then what the local cache holds of it."""
    failures: list[Exception] = []
    attempts: list[dict[str, Any]] = [{}]
    if not Path(source).is_dir():
        attempts = [{"revision": revision}, {"revision": revision, "local_files_only": True}]
        if (source, revision) in _commits:
            attempts.insert(0, {"revision": _commits[source, revision], "local_files_only": True})
    for attempt in attempts:
        try:
            return loader.from_pretrained(source, **attempt, **options)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            failures.append(error)
    reason = first_line(failures[0])
    if Path(source).is_dir():
        raise ValueError(f"model.name={name}: the folder cannot be loaded: {reason}") from failures[0]
    if "use_safetensors" in options and _lacks_safetensors(source, revision):
        raise ValueError(
            f"model.name={name}: its repository on the hub has no .safetensors weights, and others are not read; give "
            "another model, or a folder in which save_pretrained has saved this one"
        ) from failures[0]
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
    raise ValueError(
        f"model.name={name}: not a local folder, not reachable on the hub{offline}, and not in the local cache. "
        f"Give a folder that holds a saved model, a hub id with network, or fetch it once while online. Hub: {reason}"
    ) from failures[0]


def _lacks_safetensors(hub_id: str, revision: str | None) -> bool:
    """Whether the hub has said so: the local cache keeps of a file, beside where it is, that there is none."""
    names = ("model.safetensors", "model.safetensors.index.json")
    try:
        known = [try_to_load_from_cache(hub_id, name, revision=revision) for name in names]
    except ValueError:  # nor can the hub have such an id
        return False
    return all(file is not None and not isinstance(file, str) for file in known)


def _new_parameters(model: nn.Module, info: dict[str, Any]) -> tuple[str, ...]:
    reported = set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}
    return tuple(name for name, _ in model.named_parameters(remove_duplicate=False) if name in reported)


def _refuse_another_body(name: str, model: Any, info: dict[str, Any]) -> None:
    """Raise ValueError where what lies below a head is not what the checkpoint holds: it would train from nothing.

    Single parameters that it lacks are new, as poolers are; a whole block is not, nor one of another shape.
    """
    prefix, missing = f"{model.base_model_prefix}.", set(info["missing_keys"])
    for key, given, expected in sorted(info["mismatched_keys"]):
        if key.startswith(prefix):
            shapes = f"{tuple(given)} where config.json makes it {tuple(expected)}"
            raise ValueError(f"model.name={name}: the checkpoint's {key} is {shapes}; they do not belong together")
    lists = ((path, found) for path, found in model.named_modules() if isinstance(found, nn.ModuleList))
    blocks = [f"{path}.{number}" for path, found in lists if path.startswith(prefix) for number in range(len(found))]
    for block in blocks:
        parameters = {f"{block}.{key}" for key, _ in model.get_submodule(block).named_parameters()}
        if parameters and parameters <= missing:
            raise ValueError(
                f"model.name={name}: the checkpoint holds nothing of {block}; it is of another model than config.json, "
                "or its parameters have other names"
            )


def _give_padding_token(model: Any, tokenizer: Any) -> None:
    """Decoders come without a padding token; the model's or the end-of-text token stands in, the mask hides it.

    A decoder's head reads the last token that is not the model's padding token. So it is the tokenizer's one, but where
    positions are counted from it.
    """
    config = model.config
    of_model = getattr(config, "pad_token_id", None)
    if tokenizer.pad_token is None and isinstance(of_model, int) and 0 <= of_model < len(tokenizer):
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(of_model)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ValueError(f"the tokenizer of {type(model).__name__} has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    if config.model_type not in POSITIONS_BEHIND_PADDING:
        config.pad_token_id = tokenizer.pad_token_id


def _check_vocabulary(name: str, model: Any, tokenizer: Any) -> None:
    embedding = token_embedding(model)
    if embedding is not None and len(tokenizer) > (rows := embedding.get_parameter("weight").shape[0]):
        raise ValueError(
            f"model.name={name}: the tokenizer has {len(tokenizer)} tokens, the model's embedding {rows} rows; "
            "they do not belong together"
        )


def _max_length(model: Any, tokenizer: Any) -> int | None:
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions and model.config.model_type in POSITIONS_BEHIND_PADDING:
        positions -= model.config.pad_token_id + 1
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit and 0 < limit < 10**9]
    return min(limits) if limits else None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' load report and its bars off the terminal: what is new stands in our own report."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
