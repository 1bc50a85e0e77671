"""Where a checkpoint says that training goes on: right after its last optimizer step, whenever it was written.

Lightning 2.6 counts differently in each hook, and goes on differently after each: saved at the end of the last batch of
an epoch it leaves out the dev pass, saved after the dev pass it numbers all later rows of the log one too low, saved by
an exception in the midst of gradient accumulation it takes the gradients that were lost for done. So the counts are
brought into one form before they are written.
"""

from typing import Any


def settle(fit_loop: dict[str, Any], *, step: int, batches: int | float, accumulate: int) -> None:
    """Rewrite the state of Lightning's fit loop, in place.

    Where steps remain in the epoch, what is written means: so many batches are done, the next one comes. After the
    last step of an epoch it means: the dev pass has begun and none of it is done.

    Args:
        fit_loop: ``checkpoint["loops"]["fit_loop"]``.
        step: Optimizer steps taken.
        batches: Training batches in an epoch.
        accumulate: Batches per optimizer step.
    """
    progress = fit_loop["epoch_loop.batch_progress"]
    done = progress["current"]["processed"]
    ended = done >= batches
    lost = 0 if ended else done % accumulate
    for counts in (progress["current"], progress["total"]):
        _set(counts, counts["processed"] - lost)
    progress["is_last_batch"] = ended
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = step - ended  # counted up after the dev pass
    for loader in fit_loop["state_dict"].get("combined_loader", []):
        loader["batches"] = done - lost
    dev = fit_loop["epoch_loop.val_loop.batch_progress"]
    for counts in (dev["current"], dev["total"]):
        _set(counts, 0)
    if ended:
        dev["total"] |= {"ready": 1, "started": 1}


def _set(counts: dict[str, int], number: int) -> None:
    counts |= dict.fromkeys(("ready", "started", "processed", "completed"), number)
