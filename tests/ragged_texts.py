"""Texts in one row and padded, and adapted tiny models to run them on."""

from typing import Any

import torch
from tiny_models import PAD, TINY, VOCABULARY
from torch import Tensor, nn

from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec, adapter_parameters
from lightning_lora.targets import ROLE_SETS

LENGTHS = {"mixed": [7, 1, 12, 3], "even": [5, 5, 5], "alone": [9], "one token": [1, 1]}


def texts(lengths: list[int], pairs: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same texts padded on the right, and in one row; in pairs the second half is of the second type."""
    rows = [torch.randint(3, VOCABULARY, (length,)) for length in lengths]
    kinds = [(torch.arange(length) >= length // 2).long() * pairs for length in lengths]
    pad = nn.utils.rnn.pad_sequence
    padded = {"input_ids": pad(rows, True, PAD), "token_type_ids": pad(kinds, True, 0)}
    padded["attention_mask"] = pad([torch.ones(length, dtype=torch.int64) for length in lengths], True, 0)
    ragged = {"input_ids": torch.cat(rows)[None], "token_type_ids": torch.cat(kinds)[None]}
    return padded, ragged | {"lengths": torch.tensor(lengths)}


def adapted(architecture: str, attention: str | None = None) -> Any:
    model = TINY[architecture]().double()
    if attention:
        model.set_attn_implementation(attention)
    inject_adapter(model, LoraSpec(rank=2, dtype=torch.float64), roles=ROLE_SETS["all"])
    for _, parameter in adapter_parameters(model):
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def takes_types(model: Any) -> bool:
    return model.config.model_type in {"albert", "bert", "electra", "roberta", "xlm-roberta"}
