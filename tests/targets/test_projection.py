"""Matching module names against the rows of a table."""

import pytest

from lightning_lora.targets import ARCHITECTURES, Projection, Role, match, projections_for


def _role(model_type: str, name: str) -> tuple[Role, ...] | None:
    found = match(name, projections_for(model_type))
    return None if found is None else found.roles


def test_match_gives_block_and_roles() -> None:
    found = match("roberta.encoder.layer.11.attention.self.value", projections_for("roberta"))
    assert found is not None
    assert found.block == 11
    assert found.roles == found.projection.roles == (Role.VALUE,)


def test_roles_of_a_fused_layer_keep_the_order_of_its_parts() -> None:
    assert _role("gpt2", "transformer.h.3.attn.c_attn") == (Role.QUERY, Role.KEY, Role.VALUE)
    assert _role("modernbert", "model.layers.3.mlp.Wi") == (Role.GATE, Role.UP)


def test_only_layers_interleaved_per_head_name_their_groups() -> None:
    named = {row.pattern: row.groups for rows in ARCHITECTURES.values() for row in rows if row.groups is not None}
    assert named == {
        r"layer\.(?P<block>\d+)\.attention\.self\.in_proj": "num_attention_heads",
        r"layers\.(?P<block>\d+)\.attention\.query_key_value": "num_attention_heads",
    }


def test_output_dense_of_the_attention_and_of_the_block_are_told_apart() -> None:
    assert _role("bert", "bert.encoder.layer.0.attention.output.dense") == (Role.OUTPUT,)
    assert _role("bert", "bert.encoder.layer.0.output.dense") == (Role.DOWN,)


@pytest.mark.parametrize(
    ("model_type", "name", "role"),
    [
        ("bert", "layer.0.output.dense", Role.DOWN),
        ("gpt2", "h.0.mlp.c_proj", Role.DOWN),
        ("albert", "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn", Role.UP),
        ("albert", "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output", Role.DOWN),
        ("t5", "encoder.block.0.layer.1.DenseReluDense.wi", Role.UP),
        ("t5", "encoder.block.0.layer.1.DenseReluDense.wi_0", Role.GATE),
        ("t5", "encoder.block.0.layer.1.DenseReluDense.wi_1", Role.UP),
    ],
)
def test_a_bare_block_matches_too(model_type: str, name: str, role: Role) -> None:
    assert _role(model_type, name) == (role,)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("bert", "bert.encoder.sublayer.0.output.dense"),  # not at a dot boundary
        ("gpt2", "transformer.xh.0.attn.c_attn"),
        ("bert", "bert.encoder.layer.0.output.dense.adapters.default"),  # not to the end
        ("bert", "bert.encoder.layer.0.attention.self.query2"),
        ("bert", "bert.encoder.layer.0.crossattention.output.dense"),
        ("bert", "bertXencoder.layer.0XoutputXdense"),  # a dot is a dot
        ("bert", "bert.encoder.layer.0.output"),  # containers
        ("bert", "bert.encoder.layer.0"),
        ("bert", ""),
        ("bert", "bert.encoder.layer.0.output.LayerNorm"),
        ("bert", "bert.pooler.dense"),
        ("bert", "cls.predictions.transform.dense"),
        ("roberta", "classifier.dense"),
        ("roberta", "classifier.out_proj"),
        ("roberta", "lm_head.dense"),
        ("electra", "classifier.dense"),
        ("electra", "electra.embeddings_project"),
        ("albert", "albert.pooler"),
        ("albert", "albert.encoder.embedding_hidden_mapping_in"),
        ("mpnet", "classifier.dense"),
        ("deberta", "pooler.dense"),
        ("deberta", "deberta.encoder.layer.0.attention.self.pos_proj"),
        ("deberta-v2", "deberta.encoder.layer.0.attention.self.pos_query_proj"),
        ("modernbert", "head.dense"),
        ("opt", "model.decoder.project_out"),
        ("t5", "classification_head.dense"),
        ("t5", "transformer.encoder.block.0.layer.0.SelfAttention.relative_attention_bias"),
        ("llama", "lm_head"),
    ],
)
def test_names_that_are_no_projection(model_type: str, name: str) -> None:
    assert _role(model_type, name) is None


def test_encoder_and_decoder_of_t5_both_count_from_zero() -> None:
    blocks = [
        match(f"transformer.{stack}.block.0.layer.0.SelfAttention.q", projections_for("t5"))
        for stack in ("encoder", "decoder")
    ]
    assert [found.block for found in blocks if found is not None] == [0, 0]


@pytest.mark.parametrize(
    ("pattern", "roles", "groups", "message"),
    [
        (r"layer\.(?P<block>\d+\.q", (Role.QUERY,), None, "not a regular expression"),
        (r"layer\.\d+\.q", (Role.QUERY,), None, "no block number"),
        (r"(?P<block>\d+)\.q", (), None, "one or more different roles"),
        (r"(?P<block>\d+)\.q", (Role.QUERY, Role.QUERY), None, "one or more different roles"),
        (r"(?P<block>\d+)\.q", (Role.QUERY,), "num_attention_heads", "needs a fused layer"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(
    pattern: str, roles: tuple[Role, ...], groups: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Projection(pattern, roles, groups)
