"""Seeded orders of rows. Each is a pure function of its seed, the same on every machine and with any worker count."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Sampler

# Streams keep the subset, the shuffling and the dropout of one seed unrelated.
_SUBSET, _SHUFFLE, _BATCH, _HELD_OUT = 0, 1, 2, 3


def epoch_order(rows: int, seed: int, epoch: int) -> Int64[Tensor, " rows"]:
    """The order in which an epoch visits the rows."""
    return _permutation(rows, seed, _SHUFFLE, epoch)


def random_subset(rows: int, wanted: int, seed: int) -> Int64[Tensor, " wanted"]:
    """``wanted`` of ``rows`` row numbers, ascending; a smaller subset of the same seed lies within a larger one.

    Raises:
        ValueError: more wanted than there are, or none.
    """
    if not 1 <= wanted <= rows:
        raise ValueError(
            f"data.train_rows={wanted}: the training split has {rows} rows; give 1 to {rows}, or null for all"
        )
    return _permutation(rows, seed, _SUBSET, 0)[:wanted].sort().values


def hold_out(rows: int, share: float) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held_out"]]:
    """Row numbers to train on and to measure on, each ascending; the same whatever a run's seed.

    Raises:
        ValueError: so small a share leaves nothing to measure on, or so large a one nothing to train on.
    """
    wanted = round(share * rows)
    if not 1 <= wanted < rows:
        raise ValueError(
            f"data.holdout={share:g} of {rows} training rows is {wanted} rows; at least one must be on each side"
        )
    order = _permutation(rows, 0, _HELD_OUT, 0)
    return order[wanted:].sort().values, order[:wanted].sort().values


def batch_seed(seed: int, epoch: int, batch: int, process: int = 0) -> int:
    """A seed for what is drawn while a training batch is computed, above all dropout.

    Of its 64 bits torch's generator on a CPU takes the lower 32.

    Args:
        seed: Of the run.
        epoch: From 0.
        batch: Number of the batch in its epoch, from 0.
        process: Rank among the processes of the run; each has masks of its own.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(_BATCH, epoch, batch, process))
    return int(sequence.generate_state(1, np.uint64)[0])


class EpochOrder(Sampler[int]):
    """Visits all rows in ``epoch_order(rows, seed, epoch)``; Lightning calls `set_epoch` before each epoch.

    It samples rows, not batches, because Lightning replaces only a row sampler rightly: by the sequential one for
    overfit_batches, and by shards of this one's order (with set_epoch passed on) on several devices.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed, self.epoch = rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self.rows, self.seed, self.epoch).tolist())


def _permutation(rows: int, seed: int, stream: int, epoch: int) -> Int64[Tensor, " rows"]:
    if seed < 0:
        raise ValueError(f"seed={seed} must be 0 or more")
    # NumPy promises the raw stream of PCG64 for ever, but not what `permutation` makes of it.
    keys = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream, epoch))).random_raw(rows)
    return torch.from_numpy(np.argsort(keys, kind="stable").astype(np.int64))
