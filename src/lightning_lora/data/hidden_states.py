"""What the frozen blocks of a model give for every token of a split, on disk, computed once for all epochs and jobs.

A file is as large as the split's tokens times the model's width, in fp32. It is read through the operating system's
page cache, which holds in memory what there is room for, once for all jobs of the machine.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress
from torch import Tensor

from lightning_lora.atomic import atomic_file, clear_abandoned, explained
from lightning_lora.data.collation import in_one_row
from lightning_lora.data.tokens import Tokens
from lightning_lora.locking import held

ROWS_AT_ONCE = 64
BYTES = 4
"""Of a number: fp32, for the run's last dev pass is of the fp32 model."""
FORMAT_VERSION = 1

HiddenStates = Float32[np.ndarray, "tokens width"]


def hidden_states_key(facts: Mapping[str, Any], token_key: str) -> str:
    """Under which the hidden states are kept.

    Args:
        facts: Everything of the model that decides them, fit for JSON.
        token_key: Of the tokens.
    """
    text = json.dumps([FORMAT_VERSION, dict(facts), token_key], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def load_or_compute(
    folder: Path,
    tokens: Mapping[str, Tokens],
    width: int,
    compute: Callable[[dict[str, Tensor]], Float[Tensor, "tokens width"]],
    *,
    show_progress: bool = False,
) -> dict[str, HiddenStates]:
    """The hidden states of all tokens of some splits, in their order, mapped from the files under the splits' keys.

    What is to be computed is announced on stderr with its size, before it is.

    Args:
        folder: Of the caches.
        tokens: Of each split, by its key; see `hidden_states_key`.
        width: Of the hidden states.
        compute: Gives those of a batch in one row (`in_one_row`).
        show_progress: While computing.

    Returns:
        The hidden states by key.

    Raises:
        ValueError: what is to be computed is larger than the disk's free room; nothing has been computed.
        CannotWriteError: the folder cannot be written to, or the room is gone in the meantime.
    """
    files = {folder / "hidden_states" / f"{key}.npy": of for key, of in tokens.items()}
    with ExitStack() as locks:
        # Of jobs that start side by side one computes; each of them would need the room, too. All take the locks in the
        # same order, so that no two wait for one another.
        for file in sorted(_absent(files, width)):
            locks.enter_context(held(file.with_suffix(".lock")))
        if absent := _absent(files, width):
            clear_abandoned(folder / "hidden_states")
            _announce(folder / "hidden_states", sum(BYTES * count * width for count, _ in absent.values()))
        with Progress(console=Console(stderr=True), transient=True, disable=not show_progress) as progress:
            for file, shape in absent.items():
                _compute(file, shape, files[file], compute, progress)
    found = {}
    for file, of in files.items():
        kept = _mapped(file, _shape(of, width))
        assert kept is not None, "it was there, or was written just now"
        found[file.stem] = kept
    return found


def _announce(folder: Path, needed: int) -> None:
    """Refuses where the disk has no room for so many bytes."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"lora.cache_frozen_blocks needs {decimal(needed)} in {folder}, where {decimal(free)} are free; free some "
            "space, choose a folder on another disk with data.cache_dir=DIR, or leave lora.cache_frozen_blocks out"
        )
    print(f"frozen blocks: computing {decimal(needed)}, kept in {folder} ({decimal(free)} free)", file=sys.stderr)


def _compute(
    file: Path,
    shape: tuple[int, int],
    tokens: Tokens,
    compute: Callable[[dict[str, Tensor]], Float[Tensor, "tokens width"]],
    progress: Progress,
) -> None:
    with atomic_file(file) as temporary:
        values = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            # A full disk must be an error here, not a bus error at some later write to the mapped file.
            with temporary.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, temporary.stat().st_size)
        for rows in progress.track(tokens.longest_first().split(ROWS_AT_ONCE), description="frozen blocks"):
            _put(values, tokens, rows.tolist(), compute)
        values.flush()


def _put(
    values: HiddenStates,
    tokens: Tokens,
    rows: Sequence[int],
    compute: Callable[[dict[str, Tensor]], Float[Tensor, "tokens width"]],
) -> None:
    """The rows come longest first, and so keep their order in a batch."""
    found = compute(in_one_row([tokens.row(row) for row in rows])).float().cpu().numpy()
    done = 0
    for row in rows:
        start, end = tokens.offsets[row : row + 2].tolist()
        values[start:end] = found[done : done + end - start]
        done += end - start


def _shape(tokens: Tokens, width: int) -> tuple[int, int]:
    return int(tokens.offsets[-1]), width


def _absent(files: Mapping[Path, Tokens], width: int) -> dict[Path, tuple[int, int]]:
    """Those that are to be computed, and their shapes."""
    shapes = {file: _shape(tokens, width) for file, tokens in files.items()}
    return {file: shape for file, shape in shapes.items() if _mapped(file, shape) is None}


def _mapped(file: Path, shape: tuple[int, int]) -> HiddenStates | None:
    """None where there is no such file, or one that is cut short."""
    try:
        values = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == shape and values.dtype == np.float32 else None
