"""Writing the model itself as a plain Hugging Face folder, without a trace of LoRA in it."""

from pathlib import Path
from typing import Any

from lightning_lora.atomic import atomic_folder
from lightning_lora.inject import adapter_names, merged_adapter, outputs_of
from lightning_lora.lora import adapter_keys


def save_model_folder(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the weights as they are now, with config and tokenizer, atomically, as safetensors.

    With an adapter merged, ``from_pretrained`` of the folder is the merged model. Tensor names are the base model's.

    Args:
        model: A transformers model; where it has adapters, one of them must be merged.
        tokenizer: Its tokenizer, which is written as it stands: one that was called with ``truncation`` or ``padding``
            cuts or pads so ever after, in ``tokenizer.json`` too. What this package does with it leaves no trace.
        folder: Where to write; replaced if it is there.

    Raises:
        RuntimeError: the model has adapters, and none is merged: what would be written is the base model.
        ValueError: the head of the merged adapter has another number of outputs than the config has labels.
        CannotWriteError: the folder cannot be written to, or the disk is full; what was there is as it was.
    """
    if (names := adapter_names(model)) and merged_adapter(model) is None:
        raise RuntimeError(
            f"none of the adapters {names} is merged, so the folder would hold the base model; call merge() before "
            "saving it, or eject() where the base model is meant"
        )
    outputs = outputs_of(model, None)
    if outputs is not None and outputs != model.config.num_labels:
        raise ValueError(
            f"the head in place has {outputs} outputs, the config {model.config.num_labels} labels; set "
            "model.config.id2label to the labels of the merged adapter's task first"
        )
    with atomic_folder(folder) as temporary:
        write_model(model, tokenizer, temporary)


def write_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """`save_model_folder` without its checks, into a folder that is there, and that the caller makes whole."""
    adapters = adapter_keys(model)
    model.save_pretrained(folder, state_dict={k: v for k, v in model.state_dict().items() if k not in adapters})
    tokenizer.save_pretrained(folder)
