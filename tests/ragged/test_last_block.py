"""The last block computes what follows the attention for one token of each text only."""

from typing import Any

import pytest
import torch
from tiny_models import TINY, VOCABULARY
from torch import Tensor, nn

from lightning_lora.ragged import ragged_logits
from lightning_lora.ragged.execution import FIRST_TOKEN, LAST_TOKEN
from lightning_lora.ragged.last_block import LAST_BLOCKS
from lightning_lora.targets import Role, match, projections_for

LENGTHS = [7, 3, 5]


def rows_through_the_last(model: Any, role: Role) -> tuple[list[int], list[int]]:
    """Tokens that reach each of the last block's layers of this role, forward and backward."""
    forward: list[int] = []
    backward: list[int] = []

    def count(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        forward.append(arguments[0].flatten(0, -2).shape[0])

    # The gradient of the layer's own output, before the hook that puts it among zeros.
    def count_back(_module: nn.Module, _arguments: Any, output: Tensor) -> None:
        output.register_hook(lambda gradient: backward.append(gradient.flatten(0, -2).shape[0]))

    projections = projections_for(model.config.model_type)
    last = model.config.num_hidden_layers - 1
    for name, module in model.named_modules():
        found = match(name, projections)
        if found and found.block == last and role in found.roles:
            module.register_forward_pre_hook(count)
            module.register_forward_hook(count_back)
    ids = torch.randint(3, VOCABULARY, (1, sum(LENGTHS)))
    ragged_logits(model.eval(), {"input_ids": ids, "lengths": torch.tensor(LENGTHS)}).sum().backward()
    return forward, backward


@pytest.mark.parametrize("role", [Role.DOWN, Role.OUTPUT, Role.QUERY])
@pytest.mark.parametrize("architecture", sorted(LAST_BLOCKS))
def test_it_is_given_one_token_of_each_text(architecture: str, role: Role) -> None:
    """Queries too, where they are a projection of their own: keys and values are needed of every token."""
    everything = role is Role.QUERY and architecture in {"gpt2", "gpt_neox", "modernbert"}
    tokens = sum(LENGTHS) if everything else len(LENGTHS)
    assert rows_through_the_last(TINY[architecture](), role) == ([tokens], [tokens])


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_keys_are_computed_for_every_token(architecture: str) -> None:
    """The control of the count above."""
    every = [sum(LENGTHS)]
    assert rows_through_the_last(TINY[architecture](), Role.KEY) == (every, every)


def test_every_architecture_with_blocks_of_its_own_is_there() -> None:
    assert set(LAST_BLOCKS) == (FIRST_TOKEN | LAST_TOKEN) - {"albert"}


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama"])
def test_no_hook_is_left(architecture: str) -> None:
    model = TINY[architecture]().eval()
    ids = torch.randint(3, VOCABULARY, (1, sum(LENGTHS)))
    ragged_logits(model, {"input_ids": ids, "lengths": torch.tensor(LENGTHS)})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
