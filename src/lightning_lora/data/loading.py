"""A loader that goes on in the midst of an epoch."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from lightning_lora.data.tokens import Row


class ResumableLoader(DataLoader[Row]):
    """A DataLoader whose state is the number of batches it has handed out in this epoch.

    Which batches an epoch has is up to the sampler, a function of (seed, epoch); Lightning keeps the epoch, and keeps
    and restores this state with its own. The sampler is not asked before the first batch is, because Lightning makes
    the iterator of a resumed run before it tells the sampler the epoch: stock workers would already have drawn batches
    of the wrong one.

    After a restart the batches that were done are drawn again and dropped, which takes as long as padding them.
    """

    _done = 0
    _first = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        first, self._first = self._first, 0  # only the epoch that was broken off starts late
        return self._batches_from(first)

    def _batches_from(self, first: int) -> Iterator[Any]:
        self._done = first
        for batch in islice(super().__iter__(), first, None):
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches handed out in this epoch."""
        return {"batches": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration begin behind so many batches."""
        self._first = self._done = state["batches"]
