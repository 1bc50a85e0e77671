"""What the frozen blocks of a model give for every token of a split, on disk, computed once for all epochs and jobs.

A file is as large as the split's tokens times the model's width; it is read through the operating system's cache, which
holds in memory what there is room for.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from lightning_lora.atomic import atomic_file, clear_abandoned
from lightning_lora.data.collation import in_one_row
from lightning_lora.data.tokens import Tokens
from lightning_lora.locking import held

ROWS_AT_ONCE = 64
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
    key: str,
    tokens: Tokens,
    width: int,
    compute: Callable[[dict[str, Tensor]], Float[Tensor, "tokens width"]],
    *,
    show: str = "",
) -> HiddenStates:
    """The hidden states of all tokens, in their order, mapped from the file under the key.

    Args:
        folder: Of the caches.
        key: See `hidden_states_key`.
        tokens: Of the split.
        width: Of the hidden states.
        compute: Gives those of a batch in one row (`in_one_row`).
        show: What the progress bar says; nothing is shown without.

    Raises:
        CannotWriteError: the folder cannot be written to, or there is no room for the file.
    """
    file = folder / "hidden_states" / f"{key}.npy"
    shape = (int(tokens.offsets[-1]), width)
    if (kept := _mapped(file, shape)) is not None:
        return kept
    # Of jobs that start side by side one computes; each of them would need the room, too.
    with held(file.with_suffix(".lock")):
        if _mapped(file, shape) is None:
            _compute(file, shape, tokens, compute, show)
    kept = _mapped(file, shape)
    assert kept is not None, "written just now"
    return kept


def _compute(
    file: Path,
    shape: tuple[int, int],
    tokens: Tokens,
    compute: Callable[[dict[str, Tensor]], Float[Tensor, "tokens width"]],
    show: str,
) -> None:
    clear_abandoned(file.parent)
    with atomic_file(file) as temporary:
        values = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            # A full disk must be an error here, not a bus error at some later write to the mapped file.
            with temporary.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, temporary.stat().st_size)
        with Progress(console=Console(stderr=True), transient=True, disable=not show) as progress:
            for rows in progress.track(tokens.longest_first().split(ROWS_AT_ONCE), description=show):
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


def _mapped(file: Path, shape: tuple[int, int]) -> HiddenStates | None:
    """None where there is no such file, or one that is cut short."""
    try:
        values = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == shape and values.dtype == np.float32 else None
