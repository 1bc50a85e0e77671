"""A tiny random classifier of every architecture in the target tables, and a batch to run it on.

The sizes tell dimensions apart: feed-forward, attention and embeddings differ in width wherever the architecture lets
them, and keys and values have fewer heads than queries where it can share them. The caller seeds torch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

VOCABULARY = 99
PAD, EOS = 0, 2

# Weights of the usual 0.02 would make such small attentions almost uniform, and the tests almost blind.
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 24,
    "initializer_range": 0.2,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": EOS,
}
_SHARED_KEYS = _COMMON | {"num_key_value_heads": 2}
_DEBERTA = _COMMON | {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "max_relative_positions": 8,
    "type_vocab_size": 0,
}
_T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "d_kv": 6,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "decoder_start_token_id": PAD,
}

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("albert", _COMMON | {"num_hidden_layers": 3, "embedding_size": 12}),
    "bert": ("bert", _COMMON),
    "deberta": ("deberta", _DEBERTA),
    # As the published v3: positions go through the content projections.
    "deberta-v2": (
        "deberta-v2",
        _DEBERTA | {"share_att_key": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"},
    ),
    "distilbert": (
        "distilbert",
        {
            "vocab_size": VOCABULARY,
            "dim": 16,
            "hidden_dim": 40,
            "n_layers": 2,
            "n_heads": 4,
            "max_position_embeddings": 24,
            "initializer_range": 0.2,
            "pad_token_id": PAD,
        },
    ),
    "electra": ("electra", _COMMON | {"embedding_size": 12}),
    "gemma2": ("gemma2", _SHARED_KEYS | {"head_dim": 6, "query_pre_attn_scalar": 6}),
    "gpt2": (
        "gpt2",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 16,
            "n_inner": 40,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 24,
            "initializer_range": 0.2,
            "pad_token_id": PAD,
            "bos_token_id": 1,
            "eos_token_id": EOS,
        },
    ),
    "gpt_neox": ("gpt_neox", _COMMON),
    "llama": ("llama", _SHARED_KEYS),
    "mistral": ("mistral", _SHARED_KEYS),
    "modernbert": ("modernbert", _COMMON | {"cls_token_id": 1, "sep_token_id": EOS, "local_attention": 8}),
    "mpnet": ("mpnet", _COMMON),
    # As the published 350m: narrower embeddings, with a projection in and one out.
    "opt": (
        "opt",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "ffn_dim": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 24,
            "word_embed_proj_dim": 12,
            "do_layer_norm_before": False,
            "init_std": 0.2,
            "pad_token_id": PAD,
            "bos_token_id": 1,
            "eos_token_id": EOS,
        },
    ),
    "qwen2": ("qwen2", _SHARED_KEYS),
    "qwen3": ("qwen3", _SHARED_KEYS | {"head_dim": 6}),
    "roberta": ("roberta", _COMMON),
    "t5": ("t5", _T5),
    "t5_gated": ("t5", _T5 | {"feed_forward_proj": "gated-gelu"}),
    "xlm-roberta": ("xlm-roberta", _COMMON),
}


def build(model_type: str, settings: dict[str, Any]) -> PreTrainedModel:
    """Build a random classifier of two classes, in evaluation mode, float32."""
    config = AutoConfig.for_model(model_type, **settings)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    return model.eval()


TINY: dict[str, Callable[[], PreTrainedModel]] = {
    name: partial(build, model_type, settings) for name, (model_type, settings) in SETTINGS.items()
}


def tiny_batch(padded: bool = True) -> dict[str, torch.Tensor]:
    """Make a batch that every tiny model accepts, drawn from torch's generator.

    Args:
        padded: Whether the second row is two tokens shorter.

    Returns:
        `input_ids` and `attention_mask`, int64, (2, 7); every row ends in the one end-of-sequence token T5 wants.
    """
    input_ids = torch.randint(3, VOCABULARY, (2, 7))
    input_ids[:, -1] = EOS
    if padded:
        input_ids[1, 4] = EOS
        input_ids[1, 5:] = PAD
    return {"input_ids": input_ids, "attention_mask": (input_ids != PAD).long()}
