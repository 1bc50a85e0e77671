"""The loader goes on where it was, in the order of its epoch."""

from typing import Any

import pytest
import torch

from lightning_lora.data.loading import ResumableLoader
from lightning_lora.data.sampling import EpochOrder, batch_seed


def loader(workers: int = 0) -> ResumableLoader:
    rows: Any = [{"idx": torch.tensor(i)} for i in range(22)]
    return ResumableLoader(
        rows, batch_size=4, sampler=EpochOrder(22, 0), num_workers=workers, persistent_workers=workers > 0
    )


def numbers(batches: Any) -> list[list[int]]:
    return [batch["idx"].tolist() for batch in batches]


def epoch(one: ResumableLoader, number: int) -> list[list[int]]:
    one.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return numbers(one)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [0, 1, 5, 6])
def test_it_goes_on_behind_the_batches_that_were_done_and_then_begins_anew(done: int, workers: int) -> None:
    whole, again = loader(), loader(workers)
    again.load_state_dict({"batches": done})
    iterator = iter(again)
    again.sampler.set_epoch(3)  # type: ignore[attr-defined]  # as Lightning does it: after the iterator is made
    assert numbers(iterator) == epoch(whole, 3)[done:]
    assert epoch(again, 4) == epoch(whole, 4)
    assert epoch(whole, 3) != epoch(whole, 4)


def test_its_state_counts_what_was_handed_out() -> None:
    one = loader()
    assert one.state_dict() == {"batches": 0}
    iterator = iter(one)
    next(iterator), next(iterator)
    assert one.state_dict() == {"batches": 2}
    again = loader()
    again.load_state_dict(one.state_dict())
    assert again.state_dict() == {"batches": 2}
    assert numbers(iter(again)) == numbers(iterator)
    assert one.state_dict() == {"batches": 6}
    next(iter(one))
    assert one.state_dict() == {"batches": 1}


def test_every_batch_of_every_process_has_a_seed_of_its_own() -> None:
    seeds = {
        batch_seed(seed, epoch, batch, process)
        for seed in range(3)
        for epoch in range(3)
        for batch in range(5)
        for process in range(2)
    }
    assert len(seeds) == 90
    assert all(0 <= seed < 2**64 for seed in seeds)
    # Recorded once: any change of this number changes every result of every run with dropout.
    assert batch_seed(0, 1, 2, 0) == 4464213788598509541
    torch.manual_seed(max(seeds))  # which takes 64 bits
