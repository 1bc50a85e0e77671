from collections import Counter

import pytest
import torch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from scipy import stats

from lightning_lora.data.sampling import EpochOrder, epoch_order, random_subset


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
def test_an_order_visits_every_row_once(rows: int) -> None:
    assert sorted(epoch_order(rows, 3, 5).tolist()) == list(range(rows))


def test_an_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    torch.manual_seed(123)
    assert tuple(epoch_order(50, 2, 3).tolist()) in orders


def test_an_order_is_the_same_on_every_machine() -> None:
    # Recorded once: any change of these numbers changes every result of every run.
    assert epoch_order(12, 0, 0).tolist() == [6, 10, 4, 8, 9, 1, 3, 11, 2, 7, 5, 0]
    assert epoch_order(12, 7, 2).tolist() == [1, 3, 8, 5, 4, 7, 0, 10, 9, 2, 6, 11]
    assert random_subset(1000, 6, 0).tolist() == [78, 234, 295, 649, 865, 949]


def test_all_orders_are_equally_likely() -> None:
    counts = Counter(tuple(epoch_order(3, seed, 0).tolist()) for seed in range(3000))
    assert len(counts) == 6
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_a_subset_is_random_ascending_and_nested() -> None:
    small, large = random_subset(1000, 50, 4), random_subset(1000, 200, 4)
    assert small.equal(small.unique())
    assert set(small.tolist()) < set(large.tolist())
    assert not large.equal(random_subset(1000, 200, 5))
    # Not the first rows, and not those that the first epoch begins with.
    assert 350 < large.double().mean() < 650
    assert sorted(epoch_order(1000, 4, 0)[:200].tolist()) != large.tolist()
    assert random_subset(10, 10, 0).tolist() == list(range(10))


@pytest.mark.parametrize("wanted", [0, -1, 11])
def test_a_subset_must_be_there(wanted: int) -> None:
    with pytest.raises(ValueError, match=rf"train_rows={wanted}: the training split has 10 rows; give 1 to 10"):
        random_subset(10, wanted, 0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed=-1 must be 0 or more"):
        epoch_order(10, -1, 0)


def test_the_sampler_follows_set_epoch() -> None:
    sampler = EpochOrder(20, 1)
    first = list(sampler)
    assert first == list(sampler) == epoch_order(20, 1, 0).tolist()
    sampler.set_epoch(3)
    assert list(sampler) == epoch_order(20, 1, 3).tolist() != first


def test_lightnings_shards_make_up_the_order() -> None:
    sampler = EpochOrder(20, 1)
    shards = [DistributedSamplerWrapper(sampler, num_replicas=2, rank=rank, shuffle=False) for rank in (0, 1)]
    for shard in shards:
        shard.set_epoch(2)
    merged = [row for pair in zip(*shards, strict=True) for row in pair]
    assert merged == epoch_order(20, 1, 2).tolist()
