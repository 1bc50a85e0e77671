"""The products of a step, against a count by hand."""

import torch
from step_floor import products
from tiny_models import TINY

from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec
from lightning_lora.ragged import ragged_logits
from lightning_lora.targets import ROLE_SETS

WIDTH, FEED_FORWARD = 16, 40


def counted(lengths: list[int], *, roles: str) -> int:
    model = TINY["bert"]()
    inject_adapter(model, LoraSpec(rank=2), roles=ROLE_SETS[roles])
    batch = {"input_ids": torch.randint(3, 99, (1, sum(lengths))), "lengths": torch.tensor(lengths)}
    with products(model.base_model.encoder) as sizes:
        ragged_logits(model, batch).sum().backward()
    ragged_logits(model, batch)
    assert len(sizes) == 12, "two blocks of six layers, and nothing after the end of counting"
    return sum(sizes)


def test_the_products_of_two_blocks() -> None:
    tokens, texts = 15, 3
    square, feed_forward = WIDTH**2, 2 * WIDTH * FEED_FORWARD
    # Block 0: forward of all, and backward of all but query, key and value, below which nothing trains.
    first = tokens * ((4 * square + feed_forward) + (square + feed_forward))
    # Block 1, the last: keys and values of all tokens, everything else of the first tokens; all of it both ways.
    last = 2 * (tokens * 2 * square + texts * (2 * square + feed_forward))
    assert counted([7, 3, 5], roles="all") == counted([7, 3, 5], roles="qv") == first + last


def test_a_block_below_the_first_adapted_one_has_no_backward() -> None:
    model = TINY["bert"]()
    inject_adapter(model, LoraSpec(rank=2), layers=[1])
    with products(model.base_model.encoder.layer[0]) as sizes:
        ragged_logits(model, {"input_ids": torch.randint(3, 99, (1, 15)), "lengths": torch.tensor([7, 3, 5])})
    assert sum(sizes) == 15 * (4 * WIDTH**2 + 2 * WIDTH * FEED_FORWARD)
