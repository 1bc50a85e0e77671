"""A tiny model with two adapters: "a" for two labels, "b" for three, each with a head of its own."""

from typing import Any

import torch
from tiny_models import EOS, PAD, TINY, VOCABULARY
from torch import Tensor, nn

from lightning_lora.inject import adapter_state, inject_adapter
from lightning_lora.lora import LoraSpec
from lightning_lora.targets import ROLE_SETS

# An encoder with a pooler, one with a head of two layers, a fused one, one with grouped keys, encoder and decoder.
ARCHITECTURES = ["bert", "gpt2", "llama", "roberta", "t5"]
ROWS = 5


def new_names(model: Any) -> list[str]:
    """Parameters that a checkpoint of the bare model lacks; for BERT its pooler too, as with a checkpoint of MLM."""
    inside = f"{model.base_model_prefix}."
    names = [name for name, _ in model.named_parameters() if ".adapters." not in name]
    return [name for name in names if not name.startswith(inside) or name.startswith("bert.pooler.")]


def two_tasks(
    architecture: str, outputs: int = 3, dtype: torch.dtype = torch.float64, choice: str = "all"
) -> tuple[Any, list[str]]:
    """The model in evaluation mode, all of both adapters random, "b" in force; and the names of what is new."""
    torch.manual_seed(0)
    model: Any = TINY[architecture]().to(dtype)
    new = new_names(model)
    for adapter, rank, wanted in (("a", 2, None), ("b", 3, outputs)):
        spec = LoraSpec(rank=rank, dtype=dtype)
        inject_adapter(model, spec, roles=ROLE_SETS[choice], adapter=adapter, new_parameters=new, outputs=wanted)
        randomise(model, adapter, new)
    return model, new


def randomise(model: nn.Module, adapter: str, new: list[str]) -> None:
    """Draw every value of an adapter, its head included."""
    for value in adapter_state(model, adapter, new).values():
        nn.init.normal_(value, std=0.3)


def batch(rows: int = ROWS) -> dict[str, Tensor]:
    """Random rows of seven tokens, the odd ones two shorter; each ends in the one end-of-text token."""
    ids = torch.randint(3, VOCABULARY, (rows, 7))
    ids[:, -1] = EOS
    ids[1::2, 4] = EOS
    ids[1::2, 5:] = PAD
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}
