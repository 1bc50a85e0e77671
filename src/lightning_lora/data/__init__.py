"""Rows, tokens, batches: from a hub name, a local file or the embedded toy data to what a model is called with.

`TextDataModule` is imported when first asked for, so that the toy data can be had without loading Lightning.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_lora.data.datamodule import TextDataModule

__all__ = ["TextDataModule"]


def __getattr__(name: str) -> Any:
    if name != "TextDataModule":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lightning_lora.data.datamodule import TextDataModule

    return TextDataModule
