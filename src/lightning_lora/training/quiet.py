"""Which lines of Lightning's are not shown, each with the reason."""

import logging
import warnings

# Prefixes of messages to the console logger.
SILENCED_MESSAGES = (
    "💡 Tip:",  # an advertisement, twice per run
    "GPU available:",  # the record and the summary name the device
    "TPU available:",
    "You are using a CUDA device (",  # fp32 products stay in fp32: docs/decisions/0041
    "`Trainer.fit` stopped:",  # the summary says how far it got
    "`Trainer.fit` reached",
    "`Trainer(limit_",  # repeats the command line
    "Restoring states from the checkpoint",  # the command line says so
    "Restored all states from the checkpoint",
)

# (start of the message as a regular expression, category)
SILENCED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    # Lightning's own import of a name that torch is about to rename.
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    # Every process gathers all rows and computes the same dev metrics from them: there is nothing to average.
    (r"It is recommended to use `self\.log\('.+', \.\.\., sync_dist=True\)`", UserWarning),
    # Lightning's own way to gather them.
    (r"torch\.distributed\.nn\.functional\.all_gather is deprecated", FutureWarning),
    # The folder of a run that goes on; a new run clears it.
    (r"Checkpoint directory .+ exists and is not empty", UserWarning),
    # Rows are tokenised beforehand and a worker only pads: measured, workers do not pay for small encoders.
    (r"The '\w+' does not have many workers", UserWarning),
    # Small data sets have fewer batches than the logging interval; the last step is logged all the same.
    (r"The number of training batches \(\d+\) is smaller than the logging interval", UserWarning),
)


def quiet_lightning() -> None:
    """Hide the lines above, and no others, for the rest of the process."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    if not any(isinstance(existing, _Unhelpful) for existing in logger.filters):
        logger.addFilter(_Unhelpful())
    for message, category in SILENCED_WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=category)


class _Unhelpful(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(SILENCED_MESSAGES)
