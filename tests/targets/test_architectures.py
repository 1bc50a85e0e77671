"""The tables against a tiny instance of every architecture, and against published sizes."""

import pickle
from collections.abc import Collection
from functools import cache

import pytest
import torch
from expected_targets import LEFTOVERS, expected_modules, rank_cost
from tiny_models import SETTINGS, TINY, build
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from lightning_lora.targets import (
    ARCHITECTURES,
    POSITIONS_BEHIND_PADDING,
    ROLE_SETS,
    Match,
    Role,
    UnknownArchitecture,
    match,
    projections_for,
)

EVERYWHERE = pytest.mark.parametrize("architecture", sorted(TINY))


@cache
def _tiny(architecture: str) -> nn.Module:
    torch.manual_seed(0)
    return TINY[architecture]()


def _matches(model: nn.Module) -> dict[str, Match]:
    rows = projections_for(model.config.model_type)
    return {name: found for name, _ in model.named_modules() if (found := match(name, rows)) is not None}


def _linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}


def _adapter_parameters(model: nn.Module, roles: Collection[Role], rank: int) -> int:
    """Count rank * (in + out of the slice) over the chosen parts, from the shapes of the weights."""
    total = 0
    for name, found in _matches(model).items():
        weight = model.get_submodule(name).weight
        features_in, features_out = weight.shape if isinstance(model.get_submodule(name), Conv1D) else weight.T.shape
        width, remainder = divmod(features_out, len(found.roles))
        assert remainder == 0
        total += sum(rank * (features_in + width) for role in found.roles if role in roles)
    return total


def test_every_architecture_has_a_tiny_instance() -> None:
    assert {model_type for model_type, _ in SETTINGS.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_every_row_matches_a_module(model_type: str) -> None:
    instances = [name for name, (kind, _) in SETTINGS.items() if kind == model_type]
    used = {found.projection for name in instances for found in _matches(_tiny(name)).values()}
    assert used == set(projections_for(model_type))


@EVERYWHERE
def test_positions_begin_behind_the_padding_where_their_table_has_a_row_for_it(architecture: str) -> None:
    model = _tiny(architecture)
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    has_row = any(isinstance(table, nn.Embedding) and table.padding_idx is not None for table in tables)
    assert has_row == (model.config.model_type in POSITIONS_BEHIND_PADDING)


@EVERYWHERE
@pytest.mark.parametrize("roles", sorted(ROLE_SETS))
def test_roles_hit_exactly_the_expected_modules(architecture: str, roles: str) -> None:
    chosen = ROLE_SETS[roles]
    hit = {name: found.roles for name, found in _matches(_tiny(architecture)).items() if chosen & set(found.roles)}
    assert hit == expected_modules(architecture, chosen)


@EVERYWHERE
def test_a_name_belongs_to_one_row(architecture: str) -> None:
    model = _tiny(architecture)
    rows = projections_for(model.config.model_type)
    for name, _ in model.named_modules():
        assert sum(match(name, [row]) is not None for row in rows) <= 1, name


@EVERYWHERE
def test_all_covers_every_linear_layer_but_the_known_leftovers(architecture: str) -> None:
    linear, hit = set(_linear_layers(_tiny(architecture))), set(_matches(_tiny(architecture)))
    assert hit <= linear
    assert linear - hit == LEFTOVERS[architecture]


def test_own_position_projections_of_deberta_v2_have_no_role() -> None:
    model_type, settings = SETTINGS["deberta-v2"]
    model = build(model_type, settings | {"share_att_key": False})
    leftovers = set(_linear_layers(model)) - set(_matches(model)) - LEFTOVERS["deberta-v2"]
    assert leftovers == {
        f"deberta.encoder.layer.{block}.attention.self.{name}"
        for block in (0, 1)
        for name in ("pos_key_proj", "pos_query_proj")
    }


@EVERYWHERE
def test_blocks_are_numbered_as_in_the_name(architecture: str) -> None:
    blocks = {found.block for found in _matches(_tiny(architecture)).values()}
    assert blocks == set(range({"albert": 1, "t5": 3, "t5_gated": 3}.get(architecture, 2)))


@EVERYWHERE
@pytest.mark.parametrize("roles", sorted(ROLE_SETS))
def test_adapter_parameters_follow_the_formula(architecture: str, roles: str) -> None:
    model = _tiny(architecture)
    counted = _adapter_parameters(model, ROLE_SETS[roles], rank=3)
    assert counted == 3 * rank_cost(model.config, ROLE_SETS[roles]) > 0


@pytest.mark.parametrize(
    ("model_type", "sizes", "rank", "expected"),
    [
        ("roberta", {}, 8, 294_912),
        ("roberta", {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096}, 8, 786_432),
        ("gpt2", {"n_layer": 24, "n_embd": 1024}, 4, 393_216),
        ("gpt2", {"n_layer": 36, "n_embd": 1280}, 4, 737_280),
        ("deberta-v2", {"num_hidden_layers": 48, "hidden_size": 1536, "intermediate_size": 6144}, 16, 4_718_592),
    ],
    ids=["roberta-base", "roberta-large", "gpt2-medium", "gpt2-large", "deberta-v2-xxlarge"],
)
def test_published_sizes_of_query_and_value(model_type: str, sizes: dict[str, int], rank: int, expected: int) -> None:
    """The counts behind the LoRA paper's 0.3M, 0.8M, 0.35M, 0.77M and 4.7M."""
    heads = {"n_head" if model_type == "gpt2" else "num_attention_heads": 16} if sizes else {}
    config = AutoConfig.for_model(model_type, **sizes, **heads)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    assert _adapter_parameters(model, ROLE_SETS["qv"], rank) == rank * rank_cost(config, ROLE_SETS["qv"]) == expected


@pytest.mark.parametrize(
    ("asked", "nearest"), [("robert", "roberta"), ("Deberta-V2", "deberta-v2"), ("gpt-neox", "gpt_neox")]
)
def test_unknown_architecture_names_the_nearest(asked: str, nearest: str) -> None:
    with pytest.raises(UnknownArchitecture) as raised:
        projections_for(asked)
    assert raised.value.model_type == asked
    assert raised.value.known == tuple(sorted(ARCHITECTURES))
    message = str(raised.value)
    assert repr(asked) in message
    assert f"did you mean {nearest!r}" in message
    assert "\n" not in message


def test_unknown_architecture_like_no_other_lists_the_known() -> None:
    message = str(UnknownArchitecture("whisper"))
    assert "did you mean" not in message
    assert all(name in message for name in ARCHITECTURES)


def test_unknown_architecture_survives_pickling() -> None:
    error = UnknownArchitecture("robert")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.model_type) == (str(error), "robert")
