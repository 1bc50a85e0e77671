"""Rows to a batch: padded to its longest, padded among rows of like length, or in one row without padding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lightning_lora.data.encoding import TokenizerError
from lightning_lora.data.tokens import Row
from lightning_lora.lengths import WHOLE_MODEL, PaddingCost, cheapest_groups


@dataclass(frozen=True)
class Collator:
    """Pads each batch to its longest row, as `tokenizer.pad` does, without holding the tokenizer.

    Attributes:
        pad_values: What fills each tokenizer output.
        left: Pad on the left.
        attention_mask: Make one (1 for tokens, 0 for padding).
    """

    pad_values: dict[str, int]
    left: bool
    attention_mask: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Collator":
        """The collator with this tokenizer's padding.

        Raises:
            TokenizerError: the tokenizer has no padding token.
        """
        if tokenizer.pad_token_id is None:
            raise TokenizerError(
                f"the tokenizer {type(tokenizer).__name__} has no padding token; set one, as in "
                "tokenizer.pad_token = tokenizer.eos_token, and model.config.pad_token_id with it"
            )
        return cls(
            {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id},
            tokenizer.padding_side == "left",
            "attention_mask" in tokenizer.model_input_names,
        )

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """A batch: int64 tokenizer outputs (rows, longest), ``labels`` and ``idx`` (rows,) in their own dtypes."""
        lengths = [len(row["input_ids"]) for row in rows]
        batch = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            batch[name] = self._pad(name, values, lengths) if name in self.pad_values else torch.stack(values)
        if self.attention_mask:
            ones = [torch.ones(length, dtype=torch.int64) for length in lengths]
            batch["attention_mask"] = self._pad("attention_mask", ones, lengths)
        return batch

    def _pad(self, name: str, values: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
        longest = max(lengths)
        padded = torch.full((len(values), longest), self.pad_values.get(name, 0), dtype=torch.int64)
        for target, row, length in zip(padded, values, lengths, strict=True):
            start = longest - length if self.left else 0
            target[start : start + length] = row
        return padded


class InGroups:
    """Pads only rows of like length together, in batches of the same rows.

    A batch is ``groups``, each as `Collator` makes it without labels, the longest rows first; ``labels`` and ``idx``
    (rows,) are those of all groups, one after another.
    """

    def __init__(self, collator: Collator, cost: PaddingCost = WHOLE_MODEL) -> None:
        """Keep what pads a group, and what a group costs."""
        self._collator, self._cost = collator, cost

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        rows = longest_first(rows)
        whole = [name for name, value in rows[0].items() if value.ndim == 0]
        tokens = [{name: value for name, value in row.items() if name not in whole} for row in rows]
        parts = cheapest_groups([len(row["input_ids"]) for row in rows], self._cost)
        groups = [self._collator(tokens[part]) for part in parts]
        return {"groups": groups} | {name: torch.stack([row[name] for row in rows]) for name in whole}


def longest_first(rows: Sequence[Row]) -> list[Row]:
    """Rows in order of length, so that neighbours are of like length; those of one length in the order given."""
    return sorted(rows, key=lambda row: len(row["input_ids"]), reverse=True)


def in_one_row(rows: Sequence[Row], begin_at: int | None = None) -> dict[str, Any]:
    """A ragged batch: int64 tokenizer outputs (1, tokens of all rows); ``lengths``, ``labels`` and ``idx`` (rows,).

    Hidden states, where rows have them, are (1, tokens, width) in their own type, and ``begin_at`` is the number of the
    block that is given them.

    The longest rows come first, so that neighbours are of like length: attention pads those together.
    """
    rows = longest_first(rows)
    batch: dict[str, Any] = {"lengths": torch.tensor([len(row["input_ids"]) for row in rows])}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if values[0].ndim == 0:
            batch[name] = torch.stack(values)
        else:
            joined = torch.cat(values)[None]
            batch[name] = joined if joined.is_floating_point() else joined.long()
    if begin_at is not None:
        batch["begin_at"] = begin_at
    return batch


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch of rows on a device, but for `lengths`: the model reads them, and would wait for a GPU that has them."""
    return {name: values if name == "lengths" else values.to(device) for name, values in batch.items()}


Padding = Literal["longest", "like_lengths", "none"]


def collator_for(tokenizer: PreTrainedTokenizerBase, padding: Padding) -> Callable[[Sequence[Row]], dict[str, Any]]:
    """What makes a batch of rows with so much padding.

    Raises:
        TokenizerError: it takes padding, and the tokenizer has no padding token.
    """
    if padding == "none":
        return in_one_row
    collator = Collator.of(tokenizer)
    return InGroups(collator) if padding == "like_lengths" else collator
