"""Token ids of a whole split as flat tensors, and the data set that a loader reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64, Num
from torch import Tensor
from torch.utils.data import Dataset

# The tokenizer's outputs for one row, without padding; from a `TokenDataset` with labels, idx and hidden.
Row = dict[str, Tensor]


@dataclass(frozen=True)
class Tokens:
    """Tokenizer outputs of all rows, one behind the other.

    Attributes:
        columns: ``input_ids``, and ``token_type_ids`` where the tokenizer makes them; int32, (tokens,). The attention
            mask is all ones before padding and is not kept.
        offsets: Row r is ``[offsets[r]:offsets[r + 1]]``.
    """

    columns: dict[str, Int32[Tensor, " tokens"]]
    offsets: Int64[Tensor, " rows_and_one"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, number: int) -> Row:
        start, end = self.offsets[number : number + 2].tolist()
        return {name: values[start:end] for name, values in self.columns.items()}

    def longest_first(self) -> Int64[Tensor, " rows"]:
        """Row numbers in order of length, those of one length in the order given: batches of them pad little."""
        return torch.argsort(self.offsets.diff(), descending=True, stable=True)


class TokenDataset(Dataset[Row]):
    """Rows of a tokenised split with ``labels`` and ``idx`` (scalars), and ``hidden`` (tokens, width) where given."""

    def __init__(
        self,
        tokens: Tokens,
        labels: Num[Tensor, " rows"],
        idx: Int64[Tensor, " rows"],
        hidden: Float32[np.ndarray, "tokens width"] | None = None,
    ) -> None:
        assert len(tokens) == len(labels) == len(idx)
        self.tokens, self.labels, self.idx, self.hidden = tokens, labels, idx, hidden

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is not forked. NumPy would send it all that is in a mapped file, here goes the name."""
        hidden = self.hidden
        return self.__dict__ | ({"hidden": Path(str(hidden.filename))} if isinstance(hidden, np.memmap) else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        hidden = state["hidden"]
        self.__dict__ |= state | ({"hidden": np.load(hidden, mmap_mode="r")} if isinstance(hidden, Path) else {})

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> Row:
        row = {**self.tokens.row(number), "labels": self.labels[number], "idx": self.idx[number]}
        if self.hidden is not None:
            start, end = self.tokens.offsets[number : number + 2].tolist()
            row["hidden"] = torch.from_numpy(np.array(self.hidden[start:end]))
        return row
