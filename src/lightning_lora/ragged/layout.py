"""Where the texts of a batch lie in its one row of tokens, and the padded view that attention needs."""

from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Layout:
    """Texts one after another in a row of T tokens, without padding.

    Attributes:
        lengths: (texts,) int64, tokens of each text, on the device of the tokens.
        longest: Tokens of the longest.
        starts: (texts,) int64, where each begins.
        ends: (texts,) int64, the last token of each.
        positions: (T,) int64, each token's place in its text, from 0.
    """

    def __init__(self, lengths: Int64[Tensor, " texts"]) -> None:
        """Lay them out.

        Args:
            lengths: Tokens of each text, on the device of the tokens.

        Raises:
            ValueError: there is no text, or one without tokens.
        """
        counts: list[int] = lengths.tolist()  # the one time that a GPU is waited for
        if not counts or min(counts) < 1:
            raise ValueError("a ragged batch needs at least one text, and every text at least one token")
        self.lengths = lengths
        self.longest, self._tokens = max(counts), sum(counts)
        self.ends = lengths.cumsum(0) - 1
        self.starts = self.ends - lengths + 1
        self.positions = torch.arange(self._tokens, device=lengths.device) - self._for_each_token(self.starts)
        self._masks: dict[tuple[bool, int | None], Tensor | None] = {}

    @cached_property
    def slots(self) -> Int64[Tensor, " tokens"]:
        """Each token's place in the padded view, counted row by row."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        return self._for_each_token(rows) * self.longest + self.positions

    @cached_property
    def is_even(self) -> bool:
        """Whether all texts are of one length, so that the padded view holds no padding."""
        return self._tokens == len(self.lengths) * self.longest

    def padded(self, values: Float[Tensor, "tokens *rest"]) -> Float[Tensor, "texts longest *rest"]:
        """The padded view, zero where there is no token."""
        shape = (len(self.lengths), self.longest, *values.shape[1:])
        if self.is_even:
            return values.reshape(shape)
        empty = values.new_zeros(shape).flatten(0, 1)
        return empty.index_copy(0, self.slots, values).view(shape)

    def unpadded(self, values: Float[Tensor, "texts longest *rest"]) -> Float[Tensor, "tokens *rest"]:
        """The tokens of a padded view, in one row."""
        flat = values.flatten(0, 1)
        return flat if self.is_even else flat.index_select(0, self.slots)

    def mask(self, causal: bool, window: int | None) -> Bool[Tensor, "texts 1 longest longest"] | None:
        """Which keys each query of the padded view attends to; None for all.

        A query that is padding attends to everything: a row without a key would be NaN, and so would its gradient.

        Args:
            causal: Only to keys at or before the query.
            window: Only to keys less than this many places away; None for no limit.
        """
        if (causal, window) not in self._masks:
            self._masks[causal, window] = self._made(causal, window)
        return self._masks[causal, window]

    def _for_each_token(self, values: Int64[Tensor, " texts"]) -> Int64[Tensor, " tokens"]:
        return values.repeat_interleave(self.lengths, output_size=self._tokens)

    def _made(self, causal: bool, window: int | None) -> Tensor | None:
        window = None if window is None or window >= self.longest else window
        if self.is_even and not causal and window is None:
            return None
        places = torch.arange(self.longest, device=self.lengths.device)
        real = places < self.lengths[:, None]
        seen = real[:, None, None, :].expand(-1, 1, self.longest, -1)
        distance = places[:, None] - places[None, :]
        if causal:
            seen = seen & (distance >= 0)
        if window is not None:
            seen = seen & (distance.abs() < window)
        return seen | ~real[:, None, :, None]
