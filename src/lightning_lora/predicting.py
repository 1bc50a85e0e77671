"""Using a trained model: logits of texts, predictions for rows as they come, scores on labelled data."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_lora.backbone import Backbone
from lightning_lora.data.collation import collator_for, to_device
from lightning_lora.data.encoding import check_not_empty, tokenise
from lightning_lora.data.files import DataError
from lightning_lora.data.fingerprint import examples_fingerprint
from lightning_lora.data.sources import load_labelled
from lightning_lora.data.splits import scored_splits
from lightning_lora.data.validation import Split, validate
from lightning_lora.ragged import runs_ragged
from lightning_lora.recorded_paths import found_from
from lightning_lora.reporting import SplitScores
from lightning_lora.restoring import Trained
from lightning_lora.spelling import did_you_mean
from lightning_lora.tasks import Task, score
from lightning_lora.training.forward import batch_logits

PREDICTION = "prediction"
PROBABILITY = "probability_"
BATCHES_AT_ONCE = 32


@torch.inference_mode()
def logits_of(
    backbone: Backbone, texts: tuple[pa.Array, ...], *, max_length: int, batch_size: int = 64, first_row: int = 1
) -> Float[Tensor, "rows outputs"]:
    """The model's fp32 logits for texts, on the CPU, in the order of the texts.

    They are computed as in a run: without padding where the model runs so. Rows go through in order of length, so that
    else little of a batch is padding. The model runs where its parameters are.

    Args:
        backbone: Model and tokenizer; the model is put in eval mode.
        texts: One or two string arrays of equal length.
        max_length: Tokens at which a text is cut.
        batch_size: Rows per batch.
        first_row: What the first row is called in errors.

    Raises:
        DataError: the tokenizer makes no token of a row.
    """
    model: nn.Module = backbone.model.eval()
    config: Any = model.config
    device = next(model.parameters()).device
    tokens = tokenise(texts, backbone.tokenizer, max_length)
    check_not_empty(tokens, texts, lambda row: f"row {first_row + row}")
    collate = collator_for(backbone.tokenizer, "none" if runs_ragged(model) else "longest")
    found = torch.empty(len(tokens), config.num_labels)
    # Of no rows torch.split makes one part.
    for rows in torch.split(tokens.longest_first(), batch_size)[: len(tokens)]:  # an order that no collator changes
        batch = collate([tokens.row(row) for row in rows.tolist()])
        found[rows] = batch_logits(model, to_device(batch, device)).cpu()
    return found


def predict_rows(
    trained: Trained, rows: Iterable[Mapping[str, Any]], *, batch_size: int = 64
) -> Iterator[dict[str, Any]]:
    """Every row with what the model says about it, in the rows' order; a few thousand rows are in memory at a time.

    A row gets ``prediction``, the name of the likeliest label, and ``probability_<label>`` for each label; in
    regression ``prediction`` is the number.

    Args:
        trained: What `restore` gave.
        rows: Mappings with at least the task's text columns.
        batch_size: Rows per batch.

    Raises:
        DataError: a row lacks a text column, its text is no text or one of which the tokenizer makes no token, or a
            column has the name of one that is added.
        ValueError: ``batch_size`` is below 1.
    """
    _check_batch_size(batch_size)
    task = trained.task
    source = enumerate(rows, start=1)
    while chunk := list(islice(source, batch_size * BATCHES_AT_ONCE)):
        for number, row in chunk:
            _check_row(task, row, number)
        texts = tuple(pa.array([row[column] for _, row in chunk], pa.large_string()) for column in task.text_columns)
        first, _ = chunk[0]
        logits = logits_of(
            trained.backbone, texts, max_length=trained.max_length, batch_size=batch_size, first_row=first
        )
        for (_, row), told in zip(chunk, _told(task, logits), strict=True):
            yield {**row, **told}


def evaluate(trained: Trained, data: str | Path | None = None, *, batch_size: int = 64) -> dict[str, SplitScores]:
    """The task's metrics over whole labelled splits.

    Args:
        trained: What `restore` gave.
        data: One labelled file, or a folder with the task's dev splits; None takes what the run itself was scored on.
        batch_size: Rows per batch.

    Raises:
        DataError: there are no such data, or a row is not labelled as the task says.
        ValueError: ``batch_size`` is below 1.
    """
    _check_batch_size(batch_size)
    if data is None:
        splits = own_splits(trained)
    else:
        splits = {name: validate(raw, trained.task) for name, raw in load_labelled(trained.task, data).items()}
    found = {}
    for name, split in splits.items():
        logits = logits_of(trained.backbone, split.texts, max_length=trained.max_length, batch_size=batch_size)
        found[name] = SplitScores(len(split), score(trained.task, logits, split.labels))
    return found


def own_splits(trained: Trained) -> dict[str, Split]:
    """What the run itself was scored on, read anew from where it had it.

    Raises:
        DataError: it is not there any more, or other examples are (which older records cannot tell).
    """
    data = trained.record.config["data"]
    path = found_from(trained.folder, data["path"]) if data["path"] else None
    splits = scored_splits(trained.task, path, data["holdout"])
    recorded = trained.record.data.get("examples", {})
    for name, split in splits.items():
        if name in recorded and examples_fingerprint(split) != recorded[name]:
            raise DataError(
                f"{split.origin}: not the {name} examples that the run was scored on; put those back, or score others "
                "with `evaluate RUN --data <folder or file>`"
            )
    return splits


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be 1 or more")


def _told(task: Task, logits: Float[Tensor, "rows outputs"]) -> Iterator[dict[str, Any]]:
    if task.is_regression:
        yield from ({PREDICTION: value} for value in logits[:, 0].tolist())
        return
    for probabilities in logits.double().softmax(1):
        named = dict(zip(task.labels, probabilities.tolist(), strict=True))
        best = task.labels[int(probabilities.argmax())]
        yield {PREDICTION: best} | {f"{PROBABILITY}{label}": value for label, value in named.items()}


def _check_row(task: Task, row: Mapping[str, Any], number: int) -> None:
    for column in task.text_columns:
        if column not in row:
            raise DataError(
                f"row {number}: no column {column!r}{did_you_mean(column, row)}; it has {', '.join(map(str, row))}"
            )
        if not isinstance(row[column], str):
            raise DataError(f"row {number}, column {column!r}: {row[column]!r} is no text")
    for column in row:
        if column == PREDICTION or str(column).startswith(PROBABILITY):
            raise DataError(f"row {number}: the column {column!r} is one that prediction adds; rename it")
