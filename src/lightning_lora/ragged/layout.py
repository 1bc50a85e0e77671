"""Where the texts of a batch lie in its one row of tokens, and the padded views that attention needs."""

import copy
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lightning_lora.lengths import ATTENTION, ATTENTION_ON_GPU, cheapest_groups


class Texts:
    """Consecutive texts of a batch, and their padded view.

    Attributes:
        lengths: (texts,) int64, tokens of each.
        longest: Tokens of the longest.
        tokens: Where they lie in the batch's row.
        is_even: Whether all are known to be of one length, so that the padded view holds no padding.
        wanted: (texts,) int64, the place in each text of the one token whose output is needed; None for all tokens.
    """

    def __init__(
        self,
        lengths: Int64[Tensor, " texts"],
        longest: int,
        tokens: slice,
        is_even: bool,
        wanted: Int64[Tensor, " texts"] | None = None,
    ) -> None:
        self.lengths, self.longest, self.tokens, self.is_even, self.wanted = lengths, longest, tokens, is_even, wanted
        self._count: int = tokens.stop - tokens.start
        self._biases: dict[tuple[bool, int | None, torch.dtype], Tensor | None] = {}

    @cached_property
    def starts(self) -> Int64[Tensor, " texts"]:
        """Where each begins, counted from the first of them."""
        starts: Tensor = self.lengths.cumsum(0) - self.lengths
        return starts

    @cached_property
    def slots(self) -> Int64[Tensor, " tokens"]:
        """Each token's place in the padded view, counted row by row."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        moved = (rows * self.longest - self.starts).repeat_interleave(self.lengths, output_size=self._count)
        return torch.arange(self._count, device=self.lengths.device) + moved

    def padded(self, values: Float[Tensor, "tokens *rest"]) -> Float[Tensor, "texts longest *rest"]:
        """The padded view of the batch's values, zero where there is no token."""
        values = values[self.tokens]
        shape = (len(self.lengths), self.longest, *values.shape[1:])
        if self.is_even:
            return values.reshape(shape)
        empty = values.new_zeros(shape).flatten(0, 1)
        return empty.index_copy_(0, self.slots, values).view(shape)

    def unpadded(self, values: Float[Tensor, "texts longest *rest"]) -> Float[Tensor, "tokens *rest"]:
        """The tokens of a padded view, in one row."""
        flat = values.flatten(0, 1)
        return flat if self.is_even else flat.index_select(0, self.slots)

    def queries(self, values: Float[Tensor, "tokens *rest"]) -> Float[Tensor, "texts queries *rest"]:
        """The padded view, or of each text the one token that is wanted."""
        if self.wanted is None:
            return self.padded(values)
        return values[self.tokens].index_select(0, self.starts + self.wanted).unsqueeze(1)

    def bias(
        self, causal: bool, window: int | None, dtype: torch.dtype
    ) -> Float[Tensor, "texts 1 queries keys"] | None:
        """What is added to the scores of the padded view: minus infinity where a query does not see a key, else 0.

        None where every query sees every key; one query stands for all where all see the same keys. A query that is
        padding sees everything where it might else see nothing: a row without a key would be NaN, and so would its
        gradient.

        Args:
            causal: Only keys at or before the query are seen.
            window: Only keys less than this many places away are seen; None for no limit.
            dtype: Of the scores.
        """
        key = (causal, window, dtype)
        if key not in self._biases:
            seen = self._seen(causal, None if window is None or window >= self.longest else window)
            if seen is not None and self.wanted is not None and seen.shape[2] > 1:
                seen = seen[torch.arange(len(self.lengths), device=seen.device), :, self.wanted].unsqueeze(2)
            self._biases[key] = (
                None if seen is None else torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, float("-inf"))
            )
        return self._biases[key]

    def _seen(self, causal: bool, window: int | None) -> Tensor | None:
        places = torch.arange(self.longest, device=self.lengths.device)
        real = places < self.lengths[:, None]
        if not causal and window is None:
            return None if self.is_even else real[:, None, None, :]
        distance = places[:, None] - places[None, :]
        near = torch.ones_like(distance, dtype=torch.bool) if window is None else distance.abs() < window
        if causal:
            near = near & (distance >= 0)
        return (real[:, None, None, :] & near) | ~real[:, None, :, None]


class Layout:
    """Texts one after another in a row of T tokens, without padding between them.

    Behind the texts there may be filler, so that batches have fewer different T. It is seen by no token and sees none.

    Attributes:
        filler: Tokens behind the last text.
        lengths: (texts,) int64, tokens of each text, on the device of the tokens.
        starts: (texts,) int64, where each begins.
        ends: (texts,) int64, the last token of each.
        positions: (T,) int64, each token's place in its text, from 0; 0 for filler.
        wanted: (texts,) int64, the one token of each text whose output is needed; None for all tokens.
        shared: What is made of it once for all layers of a model, by whoever needs it.
    """

    def __init__(self, lengths: Int64[Tensor, " texts"], multiple: int = 1, device: torch.device | None = None) -> None:
        """Lay them out.

        Args:
            lengths: Tokens of each text. They are read: on a GPU, once it has done all that it was asked to.
            multiple: T is a multiple of this.
            device: Of the tokens; None for that of the lengths.

        Raises:
            ValueError: there is no text, or one without tokens.
        """
        self._counts: list[int] = lengths.tolist()
        if not self._counts or min(self._counts) < 1:
            raise ValueError("a ragged batch needs at least one text, and every text at least one token")
        total = sum(self._counts)
        self._lay_out(lengths.to(device, non_blocking=True), total, filler=-total % multiple)

    @classmethod
    def of_shape(cls, lengths: Int64[Tensor, " texts"], tokens: int, longest: int) -> "Layout":
        """One whose lengths are not read, so that it is made by the same operations for all batches of its shape.

        Args:
            lengths: Tokens of each text, on the device of the tokens; at least one.
            tokens: Their sum.
            longest: None has more. Attention pads all of them to so many.
        """
        layout = cls.__new__(cls)
        layout._lay_out(lengths, tokens, filler=0)
        layout.__dict__["groups"] = (Texts(lengths, longest, slice(0, tokens), is_even=False),)
        return layout

    def _lay_out(self, lengths: Int64[Tensor, " texts"], total: int, filler: int) -> None:
        self.lengths, self.filler = lengths, filler
        self.ends = lengths.cumsum(0) - 1
        self.starts = self.ends - lengths + 1
        firsts = self.starts.repeat_interleave(lengths, output_size=total)
        self.positions = F.pad(torch.arange(total, device=lengths.device) - firsts, (0, filler))
        self.wanted: Tensor | None = None
        self.shared: dict[Any, Any] = {}

    @cached_property
    def groups(self) -> tuple[Texts, ...]:
        """Neighbours of like length, whose padded views together hold all texts."""
        cost = ATTENTION if self.lengths.device.type == "cpu" else ATTENTION_ON_GPU
        groups, start = [], 0
        for part in cheapest_groups(self._counts, cost):
            counts = self._counts[part]
            tokens = slice(start, start + sum(counts))
            groups.append(Texts(self.lengths[part], max(counts), tokens, is_even=min(counts) == max(counts)))
            start = tokens.stop
        return tuple(groups)

    def only(self, wanted: Int64[Tensor, " texts"]) -> "Layout":
        """The same texts, where of each only one token's output is needed.

        Args:
            wanted: Its place in the row, for each text.
        """
        narrowed = copy.copy(self)
        narrowed.shared = {}
        narrowed.wanted = wanted
        places = wanted - self.starts
        groups, first = [], 0
        for group in self.groups:
            last = first + len(group.lengths)
            groups.append(Texts(group.lengths, group.longest, group.tokens, group.is_even, places[first:last]))
            first = last
        narrowed.__dict__["groups"] = tuple(groups)
        return narrowed
