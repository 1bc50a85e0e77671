"""How many batches Lightning takes of those that there are."""

import math
from collections.abc import Iterable

from lightning import Trainer


def batches_per_epoch(trainer: Trainer, batch_size: int, train_rows: int, dev_rows: Iterable[int]) -> int:
    """Training batches that one process sees in an epoch, before accumulation.

    Args:
        trainer: With its limits on batches.
        batch_size: Rows per batch and device.
        train_rows: Of the training split.
        dev_rows: Of each dev split.

    Raises:
        ValueError: a limit is a share, and that of no batch. Lightning would refuse it, too, in a traceback.
    """

    def taken(rows: int, split: str) -> int:
        batches = math.ceil(math.ceil(rows / trainer.world_size) / batch_size)
        limit = getattr(trainer, f"limit_{split}_batches")
        some = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        if not some:
            key = "overfit_batches" if trainer.overfit_batches else f"limit_{split}_batches"  # type: ignore[attr-defined]
            raise ValueError(
                f"trainer.{key}={limit:g} is less than one of the {batches} {split} batches; "
                "give a larger share, or how many batches"
            )
        return some

    for rows in dev_rows:
        taken(rows, "val")
    return taken(train_rows, "train")
