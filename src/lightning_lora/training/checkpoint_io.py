"""Checkpoint files that are whole or not there, and that never run code when they are read."""

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from lightning_lora.atomic import atomic_file


class AtomicCheckpointIO(CheckpointIO):
    """Reads and writes Lightning's checkpoints on a local file system.

    Lightning's own plugin renames from the system's temporary folder, which across file systems is a plain copy: killed
    in the midst of it, it leaves half a file where a good one was. It also unpickles freely what comes from a URL.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``, replacing what is there in one step.

        Raises:
            ValueError: ``path`` is a URL, or there are storage options, which only remote storage has.
            CannotWriteError: the folder cannot be written to, or the disk is full; the old file is as it was.
        """
        if storage_options is not None:
            raise ValueError("checkpoints are written to local files; storage_options has no meaning here")
        # To a stream, since torch's own files do not say why a write failed.
        with atomic_file(_local(path)) as temporary, temporary.open("wb") as stream:
            torch.save(checkpoint, stream)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint: tensors and plain values only, whatever ``weights_only`` says.

        Raises:
            ValueError: ``path`` is a URL, or the file is cut short, is no checkpoint, or holds other than plain values.
            FileNotFoundError: there is no such file.
        """
        file = _local(path)
        if not file.is_file():
            raise FileNotFoundError(f"there is no checkpoint {file}")
        try:
            with file.open("rb") as stream:
                checkpoint = torch.load(stream, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(f"{file} is no checkpoint of tensors and plain values, and was not loaded") from error
        except PermissionError:
            raise
        except (RuntimeError, OSError, EOFError, KeyError) as error:  # torch raises any of these, by where the cut is
            raise ValueError(f"{file} is cut short or damaged, and was not loaded") from error
        if not isinstance(checkpoint, dict):
            raise ValueError(f"{file} is no checkpoint: it holds a {type(checkpoint).__name__}, not a dict")
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file, if it is there."""
        _local(path).unlink(missing_ok=True)


def _local(path: str | Path) -> Path:
    if "://" in str(path):
        raise ValueError(f"{path} is a URL; checkpoints are read from and written to local files only")
    return Path(path)
