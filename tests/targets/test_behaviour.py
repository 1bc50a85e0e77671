"""A projection does what its role says: run the tiny models, disturb one part of one layer, watch what changes.

If the query of token t changes, row t of the attention changes and no other; if its key changes, so does every row
that sees t; if its value changes, the attention stays and what leaves it changes in the rows that see t. That tells
query, key and value apart in any architecture, plain or fused, without knowing its source.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from tiny_models import TINY, tiny_batch
from torch import Tensor, nn

from lightning_lora.targets import Match, Role, match, projections_for

TOKEN = 3
# Where the attention of a T5 layer is returned, by a piece of the layer's name.
T5_ATTENTIONS = {
    "encoder.block.0.layer.0.": "encoder_attentions",
    "decoder.block.0.layer.0.": "decoder_attentions",
    "decoder.block.0.layer.1.": "cross_attentions",
}


def _cases(*t5_pieces: str) -> pytest.MarkDecorator:
    plain = [(name, "") for name in sorted(TINY) if not name.startswith("t5")]
    return pytest.mark.parametrize(
        ("architecture", "piece"), plain + [(name, piece) for name in ("t5", "t5_gated") for piece in t5_pieces]
    )


EVERY_ATTENTION = _cases(*T5_ATTENTIONS)
EVERY_FEED_FORWARD = _cases("encoder.block.0.", "decoder.block.0.")


@cache
def _tiny(architecture: str) -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = TINY[architecture]()
    model.set_attn_implementation("eager")
    return model, tiny_batch(padded=False)


class Layer(NamedTuple):
    """A layer by its name, and what it is."""

    name: str
    match: Match


def _first_block(architecture: str, piece: str) -> dict[Role, Layer]:
    """The layers of block 0 by role; of T5, those whose names hold `piece`."""
    model, _ = _tiny(architecture)
    rows = projections_for(model.config.model_type)
    found = {name: match(name, rows) for name, _ in model.named_modules() if piece in name}
    return {role: Layer(name, one) for name, one in found.items() if one and one.block == 0 for role in one.roles}


def _groups(architecture: str, found: Layer) -> int:
    attribute = found.match.projection.groups
    return 1 if attribute is None else getattr(_tiny(architecture)[0].config, attribute)


def _run(
    architecture: str,
    watched: Layer,
    disturbed: Layer | None = None,
    role: Role | None = None,
    change: Callable[[Tensor], Any] | None = None,
    groups: int | None = None,
) -> tuple[Any, Tensor]:
    """Run a tiny model with the part of `role` in one layer's output, (batch, tokens, groups, width), changed in place.

    Returns:
        The model's outputs, attentions included, and what first entered the watched layer.
    """
    model, batch = _tiny(architecture)
    entered: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        entered.append(args[0])

    def disturb(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert disturbed is not None
        assert role is not None
        assert change is not None
        # DeBERTa-v3 sends its relative positions, a batch of one, through the same layer.
        if len(output) == 1:
            return output
        output = output.clone()
        parts = output.unflatten(-1, (groups or _groups(architecture, disturbed), len(disturbed.match.roles), -1))
        change(parts[..., disturbed.match.roles.index(role), :])
        return output

    handles = [model.get_submodule(watched.name).register_forward_pre_hook(keep)]
    if disturbed is not None:
        handles.append(model.get_submodule(disturbed.name).register_forward_hook(disturb))
    try:
        with torch.no_grad():
            outputs = model(**batch, output_attentions=True)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, entered[0]


def _attend(
    architecture: str, piece: str, role: Role | None = None, groups: int | None = None
) -> tuple[Tensor, Tensor]:
    """Attention (batch, heads, rows, columns) and context (batch, rows, width) of block 0, TOKEN changed in `role`."""
    block = _first_block(architecture, piece)
    output = block[Role.OUTPUT]
    if role is None:
        outputs, context = _run(architecture, output)
    else:
        outputs, context = _run(architecture, output, block[role], role, _shift_token, groups)
    return outputs[T5_ATTENTIONS.get(piece, "attentions")][0], context


def _shift_token(part: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    part[:, TOKEN] += torch.randn(part[:, TOKEN].shape, generator=generator)


def _rows(values: Tensor, row_dimension: int) -> set[int]:
    rows = values.abs().movedim(row_dimension, 0).flatten(1).amax(1)
    return {int(row) for row in (rows > 1e-6).nonzero()}


@EVERY_ATTENTION
def test_query_key_and_value_are_what_they_are_called(architecture: str, piece: str) -> None:
    attention, context = _attend(architecture, piece)
    seeing = _rows(attention[..., TOKEN : TOKEN + 1], 2)
    assert len(seeing) > 1, "query and key could not be told apart"

    by_query, _ = _attend(architecture, piece, Role.QUERY)
    assert _rows(by_query - attention, 2) == {TOKEN}
    by_key, _ = _attend(architecture, piece, Role.KEY)
    assert _rows(by_key - attention, 2) == seeing
    by_value, context_by_value = _attend(architecture, piece, Role.VALUE)
    torch.testing.assert_close(by_value, attention, rtol=0, atol=0)
    assert _rows(context_by_value - context, 1) == seeing


@pytest.mark.parametrize(("architecture", "wrong"), [("deberta", 1), ("gpt_neox", 1), ("gpt2", 4), ("modernbert", 4)])
def test_the_other_layout_of_a_fused_layer_would_be_noticed(architecture: str, wrong: int) -> None:
    attention, _ = _attend(architecture, "")
    by_query, _ = _attend(architecture, "", Role.QUERY, groups=wrong)
    by_value, _ = _attend(architecture, "", Role.VALUE, groups=wrong)
    assert _rows(by_query - attention, 2) != {TOKEN}
    assert _rows(by_value - attention, 2) != set()


@EVERY_FEED_FORWARD
def test_up_feeds_down(architecture: str, piece: str) -> None:
    block = _first_block(architecture, piece)
    _, activation = _run(architecture, block[Role.DOWN])
    _, without = _run(architecture, block[Role.DOWN], block[Role.UP], Role.UP, torch.Tensor.zero_)
    assert activation.abs().max() > 0
    assert without.abs().max() == 0


@EVERY_FEED_FORWARD
def test_up_is_linear_and_gate_goes_through_the_activation(architecture: str, piece: str) -> None:
    """down(activation(gate) * up) turns round with `up`; without a gate, `up` itself goes through the activation."""
    block = _first_block(architecture, piece)
    _, activation = _run(architecture, block[Role.DOWN])
    negated = {
        role: torch.equal(_run(architecture, block[Role.DOWN], block[role], role, torch.Tensor.neg_)[1], -activation)
        for role in (Role.UP, Role.GATE)
        if role in block
    }
    assert negated == ({Role.UP: True, Role.GATE: False} if Role.GATE in block else {Role.UP: False})
