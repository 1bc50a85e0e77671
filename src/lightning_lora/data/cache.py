"""Tokens on disk, so that a data set is tokenised once for all jobs of a sweep.

A file is written beside its final name, flushed to the disk and renamed: a reader, or another process filling the same
cache, sees a whole file or none. Every file carries the digest of its content; a damaged one is made again.
"""

import hashlib
import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lightning_lora.atomic import CannotWriteError, atomic_file, clear_abandoned
from lightning_lora.data.tokens import Tokens
from lightning_lora.file_stamps import Stamp, stamps

CACHE_VARIABLE = "LIGHTNING_LORA_CACHE"
OFFSETS = "offsets"


def cache_folder(given: str | Path | None = None) -> Path:
    """``given``, else the environment's LIGHTNING_LORA_CACHE, else ~/.cache/lightning-lora."""
    chosen = given or os.environ.get(CACHE_VARIABLE) or Path("~/.cache/lightning-lora")
    return Path(chosen).expanduser()


def load_or_build(folder: Path, key: str, rows: int, build: Callable[[], Tokens]) -> Tokens:
    """The tokens cached under the key, else those that ``build`` makes, which are then cached.

    A damaged file is replaced, and a folder that cannot be written is done without; each gives one warning.
    """
    file = folder / "tokens" / f"{key}.safetensors"
    cached = _load(file, rows)
    if cached is not None:
        return cached
    tokens = build()
    try:
        _write(file, tokens)
    except CannotWriteError as error:
        # Without the file's name, so that Python shows the warning once and not for every split.
        warnings.warn(f"the cache {folder} cannot be written ({error.reason}); going on without it", stacklevel=2)
    return tokens


def _load(file: Path, rows: int) -> Tokens | None:
    try:
        tokens = _read(file, stamps([file])[0])
    except SafetensorError as error:
        _warn_damaged(file, str(error))
        return None
    except OSError:
        return None
    assert len(tokens) == rows
    return tokens


@lru_cache(maxsize=16)  # two splits of each of GLUE's tasks are some 0.3 GB
def _read(file: Path, found: Stamp) -> Tokens:
    """Read once in a process, for all jobs of a sweep, unless the file changes."""
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no iterator)
        digest = (stored.metadata() or {}).get("sha256")
    if digest != _digest(tensors):
        raise SafetensorError("its content does not match its digest")
    return Tokens({name: tensor for name, tensor in tensors.items() if name != OFFSETS}, tensors[OFFSETS])


def _warn_damaged(file: Path, reason: str) -> None:
    warnings.warn(f"the cached tokens {file} are damaged ({reason}); tokenising again", stacklevel=4)


def _write(file: Path, tokens: Tokens) -> None:
    tensors = {**tokens.columns, OFFSETS: tokens.offsets}
    clear_abandoned(file.parent)
    with atomic_file(file) as temporary:
        temporary.write_bytes(save(tensors, metadata={"sha256": _digest(tensors)}))


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].numpy()
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
