"""Texts in one row and padded, and adapted tiny models to run them on."""

from collections.abc import Sequence
from typing import Any

import torch
from tiny_models import PAD, SETTINGS, VOCABULARY, build
from torch import Tensor, nn

from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec, adapter_parameters
from lightning_lora.targets import ROLE_SETS

LENGTHS = {"mixed": [7, 1, 12, 3], "even": [5, 5, 5], "alone": [9], "one token": [1, 1]}


PADDING_TOKENS = [2, 1, 0, 3]
"""Of the mixed texts: one ends in two of them, two consist of nothing else."""


def texts(
    lengths: list[int], pairs: bool, padding_tokens: Sequence[int] = ()
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same texts padded on the right, and in one row.

    Args:
        lengths: Tokens of each.
        pairs: Whether the second half of each is of the second type.
        padding_tokens: With how many of its own each ends, which the mask does not hide.
    """
    rows = [torch.randint(3, VOCABULARY, (length,)) for length in lengths]
    for row, count in zip(rows, padding_tokens, strict=False):
        row[len(row) - count :] = PAD
    kinds = [(torch.arange(length) >= length // 2).long() * pairs for length in lengths]
    pad = nn.utils.rnn.pad_sequence
    padded = {"input_ids": pad(rows, True, PAD), "token_type_ids": pad(kinds, True, 0)}
    padded["attention_mask"] = pad([torch.ones(length, dtype=torch.int64) for length in lengths], True, 0)
    ragged = {"input_ids": torch.cat(rows)[None], "token_type_ids": torch.cat(kinds)[None]}
    return padded, ragged | {"lengths": torch.tensor(lengths)}


def adapted(architecture: str, attention: str | None = None, **settings: Any) -> Any:
    model_type, usual = SETTINGS[architecture]
    model = build(model_type, usual | settings).double()
    if attention:
        model.set_attn_implementation(attention)
    inject_adapter(model, LoraSpec(rank=2, dtype=torch.float64), roles=ROLE_SETS["all"])
    for _, parameter in adapter_parameters(model):
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def takes_types(model: Any) -> bool:
    return model.config.model_type in {"albert", "bert", "electra", "roberta", "xlm-roberta"}
