"""What the target tables must find in the tiny models: module names written by hand, costs as closed formulas."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from lightning_lora.targets import Role

Q, K, V, O = Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT  # noqa: E741 - the paper's letters
UP, GATE, DOWN = Role.UP, Role.GATE, Role.DOWN


@dataclass(frozen=True)
class Stack:
    """Equal transformer blocks: the name of one, with {n} for its number, and its projections with their roles."""

    block: str
    blocks: int
    projections: dict[str, tuple[Role, ...]]


_BERT_FEED_FORWARD = {"intermediate.dense": (UP,), "output.dense": (DOWN,)}
_BERT = {
    "attention.self.query": (Q,),
    "attention.self.key": (K,),
    "attention.self.value": (V,),
    "attention.output.dense": (O,),
    **_BERT_FEED_FORWARD,
}
_LLAMA = {
    "self_attn.q_proj": (Q,),
    "self_attn.k_proj": (K,),
    "self_attn.v_proj": (V,),
    "self_attn.o_proj": (O,),
    "mlp.gate_proj": (GATE,),
    "mlp.up_proj": (UP,),
    "mlp.down_proj": (DOWN,),
}
_T5_SELF = {
    "layer.0.SelfAttention.q": (Q,),
    "layer.0.SelfAttention.k": (K,),
    "layer.0.SelfAttention.v": (V,),
    "layer.0.SelfAttention.o": (O,),
}
_T5_CROSS = {
    "layer.1.EncDecAttention.q": (Q,),
    "layer.1.EncDecAttention.k": (K,),
    "layer.1.EncDecAttention.v": (V,),
    "layer.1.EncDecAttention.o": (O,),
}


def _t5_stacks(feed_forward: dict[str, tuple[Role, ...]]) -> tuple[Stack, ...]:
    encoder = {f"layer.1.DenseReluDense.{name}": roles for name, roles in feed_forward.items()}
    decoder = {f"layer.2.DenseReluDense.{name}": roles for name, roles in feed_forward.items()}
    return (
        Stack("transformer.encoder.block.{n}", 2, {**_T5_SELF, **encoder}),
        Stack("transformer.decoder.block.{n}", 3, {**_T5_SELF, **_T5_CROSS, **decoder}),
    )


EXPECTED: dict[str, tuple[Stack, ...]] = {
    "albert": (
        Stack(
            "albert.encoder.albert_layer_groups.{n}.albert_layers.0",
            1,
            {
                "attention.query": (Q,),
                "attention.key": (K,),
                "attention.value": (V,),
                "attention.dense": (O,),
                "ffn": (UP,),
                "ffn_output": (DOWN,),
            },
        ),
    ),
    "bert": (Stack("bert.encoder.layer.{n}", 2, _BERT),),
    "deberta": (
        Stack(
            "deberta.encoder.layer.{n}",
            2,
            {"attention.self.in_proj": (Q, K, V), "attention.output.dense": (O,), **_BERT_FEED_FORWARD},
        ),
    ),
    "deberta-v2": (
        Stack(
            "deberta.encoder.layer.{n}",
            2,
            {
                "attention.self.query_proj": (Q,),
                "attention.self.key_proj": (K,),
                "attention.self.value_proj": (V,),
                "attention.output.dense": (O,),
                **_BERT_FEED_FORWARD,
            },
        ),
    ),
    "distilbert": (
        Stack(
            "distilbert.transformer.layer.{n}",
            2,
            {
                "attention.q_lin": (Q,),
                "attention.k_lin": (K,),
                "attention.v_lin": (V,),
                "attention.out_lin": (O,),
                "ffn.lin1": (UP,),
                "ffn.lin2": (DOWN,),
            },
        ),
    ),
    "electra": (Stack("electra.encoder.layer.{n}", 2, _BERT),),
    "gemma2": (Stack("model.layers.{n}", 2, _LLAMA),),
    "gpt2": (
        Stack(
            "transformer.h.{n}",
            2,
            {"attn.c_attn": (Q, K, V), "attn.c_proj": (O,), "mlp.c_fc": (UP,), "mlp.c_proj": (DOWN,)},
        ),
    ),
    "gpt_neox": (
        Stack(
            "gpt_neox.layers.{n}",
            2,
            {
                "attention.query_key_value": (Q, K, V),
                "attention.dense": (O,),
                "mlp.dense_h_to_4h": (UP,),
                "mlp.dense_4h_to_h": (DOWN,),
            },
        ),
    ),
    "llama": (Stack("model.layers.{n}", 2, _LLAMA),),
    "mistral": (Stack("model.layers.{n}", 2, _LLAMA),),
    "modernbert": (
        Stack(
            "model.layers.{n}",
            2,
            {"attn.Wqkv": (Q, K, V), "attn.Wo": (O,), "mlp.Wi": (GATE, UP), "mlp.Wo": (DOWN,)},
        ),
    ),
    "mpnet": (
        Stack(
            "mpnet.encoder.layer.{n}",
            2,
            {
                "attention.attn.q": (Q,),
                "attention.attn.k": (K,),
                "attention.attn.v": (V,),
                "attention.attn.o": (O,),
                **_BERT_FEED_FORWARD,
            },
        ),
    ),
    "opt": (
        Stack(
            "model.decoder.layers.{n}",
            2,
            {
                "self_attn.q_proj": (Q,),
                "self_attn.k_proj": (K,),
                "self_attn.v_proj": (V,),
                "self_attn.out_proj": (O,),
                "fc1": (UP,),
                "fc2": (DOWN,),
            },
        ),
    ),
    "qwen2": (Stack("model.layers.{n}", 2, _LLAMA),),
    "qwen3": (Stack("model.layers.{n}", 2, _LLAMA),),
    "roberta": (Stack("roberta.encoder.layer.{n}", 2, _BERT),),
    "t5": _t5_stacks({"wi": (UP,), "wo": (DOWN,)}),
    "t5_gated": _t5_stacks({"wi_0": (GATE,), "wi_1": (UP,), "wo": (DOWN,)}),
    "xlm-roberta": (Stack("roberta.encoder.layer.{n}", 2, _BERT),),
}

# Every linear layer that has no role. All of them lie outside the blocks, save the two of DeBERTa.
LEFTOVERS: dict[str, set[str]] = {
    "albert": {"albert.encoder.embedding_hidden_mapping_in", "albert.pooler", "classifier"},
    "bert": {"bert.pooler.dense", "classifier"},
    "deberta": {
        "deberta.encoder.layer.0.attention.self.pos_proj",
        "deberta.encoder.layer.0.attention.self.pos_q_proj",
        "deberta.encoder.layer.1.attention.self.pos_proj",
        "deberta.encoder.layer.1.attention.self.pos_q_proj",
        "pooler.dense",
        "classifier",
    },
    "deberta-v2": {"pooler.dense", "classifier"},
    "distilbert": {"pre_classifier", "classifier"},
    "electra": {"electra.embeddings_project", "classifier.dense", "classifier.out_proj"},
    "gemma2": {"score"},
    "gpt2": {"score"},
    "gpt_neox": {"score"},
    "llama": {"score"},
    "mistral": {"score"},
    "modernbert": {"head.dense", "classifier"},
    "mpnet": {"classifier.dense", "classifier.out_proj"},
    "opt": {"model.decoder.project_in", "model.decoder.project_out", "score"},
    "qwen2": {"score"},
    "qwen3": {"score"},
    "roberta": {"classifier.dense", "classifier.out_proj"},
    "t5": {"classification_head.dense", "classification_head.out_proj"},
    "t5_gated": {"classification_head.dense", "classification_head.out_proj"},
    "xlm-roberta": {"classifier.dense", "classifier.out_proj"},
}


def expected_modules(architecture: str, roles: Collection[Role]) -> dict[str, tuple[Role, ...]]:
    """The full names that a choice of roles must find in a tiny model, each with all of its roles."""
    return {
        f"{stack.block.format(n=n)}.{name}": parts
        for stack in EXPECTED[architecture]
        for n in range(stack.blocks)
        for name, parts in stack.projections.items()
        if set(parts) & set(roles)
    }


def _square(layers: int, d: int, f: int) -> dict[Role, int]:
    """Attention of width d, feed-forward of width f without a gate: (in + out) of every layer of a role."""
    return dict.fromkeys((Q, K, V, O), layers * 2 * d) | dict.fromkeys((UP, DOWN), layers * (d + f))


def _bert(c: Any) -> dict[Role, int]:
    return _square(c.num_hidden_layers, c.hidden_size, c.intermediate_size)


def _albert(c: Any) -> dict[Role, int]:
    return _square(c.num_hidden_groups * c.inner_group_num, c.hidden_size, c.intermediate_size)


def _distilbert(c: Any) -> dict[Role, int]:
    return _square(c.n_layers, c.dim, c.hidden_dim)


def _gpt2(c: Any) -> dict[Role, int]:
    return _square(c.n_layer, c.n_embd, c.n_inner or 4 * c.n_embd)


def _opt(c: Any) -> dict[Role, int]:
    return _square(c.num_hidden_layers, c.hidden_size, c.ffn_dim)


def _modernbert(c: Any) -> dict[Role, int]:
    return _bert(c) | {GATE: c.num_hidden_layers * (c.hidden_size + c.intermediate_size)}


def _llama(c: Any) -> dict[Role, int]:
    L, d, f = c.num_hidden_layers, c.hidden_size, c.intermediate_size
    head = getattr(c, "head_dim", None) or d // c.num_attention_heads
    queries, keys = d + c.num_attention_heads * head, d + c.num_key_value_heads * head
    attention = {Q: L * queries, K: L * keys, V: L * keys, O: L * queries}
    return attention | dict.fromkeys((GATE, UP, DOWN), L * (d + f))


def _t5(c: Any) -> dict[Role, int]:
    attentions = (c.num_layers + 2 * c.num_decoder_layers) * (c.d_model + c.num_heads * c.d_kv)
    feed_forward = (c.num_layers + c.num_decoder_layers) * (c.d_model + c.d_ff)
    gate = {GATE: feed_forward} if c.is_gated_act else {}
    return dict.fromkeys((Q, K, V, O), attentions) | dict.fromkeys((UP, DOWN), feed_forward) | gate


_COSTS: dict[str, Callable[[Any], dict[Role, int]]] = {
    "albert": _albert,
    "distilbert": _distilbert,
    "gemma2": _llama,
    "gpt2": _gpt2,
    "llama": _llama,
    "mistral": _llama,
    "modernbert": _modernbert,
    "opt": _opt,
    "qwen2": _llama,
    "qwen3": _llama,
    "t5": _t5,
}


def rank_cost(config: Any, roles: Collection[Role]) -> int:
    """Adapter parameters per unit of rank, from the sizes in a config: the sum of (in + out) over the chosen layers.

    A part of a fused layer costs what it would cost alone: it has its own A.
    """
    costs = _COSTS.get(config.model_type, _bert)(config)
    return sum(costs.get(role, 0) for role in roles)
