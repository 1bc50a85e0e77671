"""Reading files that somebody else made: JSON and safetensors, which cannot run code; one line for what is wrong."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lightning_lora.settings import shown

LARGEST_JSON = 4 * 2**20
# The types that a low-rank factor or a head can have; float8 and integers are a quantised model's.
FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@dataclass(frozen=True)
class Entry:
    """A tensor in a file, before it is read: its shape and type."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ValueError: the file is not there, larger than 4 MiB, not JSON, or holds something else.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"{path}: {path.stat().st_size} bytes; a file of settings has {LARGEST_JSON} at most")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file: {shown(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a JSON object, not {type(content).__name__}")
    return content


def tensor_name(name: str) -> str:
    """A tensor's name as a message shows it: printable, and its end where it is long, which tells most."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)
    return line if len(line) <= 160 else f"...{line[-157:]}"


class TensorFile:
    """An open safetensors file: what is in it is known before anything is read.

    Attributes:
        entries: Shape and type of each tensor, by name.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.entries: Mapping[str, Entry] = {name: self._entry(name) for name in handle.keys()}  # noqa: SIM118

    def _entry(self, name: str) -> Entry:
        view = self._handle.get_slice(name)
        dtype = view.get_dtype()
        if dtype not in FLOATS:
            raise ValueError(f"tensor {tensor_name(name)} is of type {dtype}; it must be one of {', '.join(FLOATS)}")
        return Entry(tuple(view.get_shape()), FLOATS[dtype])

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        """One tensor in the type asked for.

        Raises:
            ValueError: a value is not finite, in the file or in that type.
        """
        tensor: Tensor = self._handle.get_tensor(name).to(dtype)
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor {tensor_name(name)} holds values that are not finite in {dtype}")
        return tensor


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file. The format holds numbers only; a pickle under that name is refused, never opened.

    Raises:
        ValueError: the file is not there, is cut short, or is not a safetensors file.
    """
    if not path.is_file():
        raise ValueError(f"{path.name}: there is no such file")
    try:
        handle = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name}: not a whole safetensors file: {shown(error)}") from error
    with handle:
        yield TensorFile(handle)
