"""The last block for the tokens that the head reads: what it would compute for the others, nothing reads.

Keys and values are needed of every token, queries and all that follows of one token in each text. Forward and backward
are exact: the other tokens' outputs have no path to the loss.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightning_lora.ragged.layout import Layout


@dataclass(frozen=True)
class LastBlock:
    """Names within a base model and its last block.

    Attributes:
        blocks: The list of blocks, in the base model.
        alone: Modules that are given the wanted tokens only, and whose output stands among zeros.
        cut: The module from which on, in the block and behind it, there are only the wanted tokens. None where the
            block adds its own input behind it; then what follows computes on zeros at the other tokens.
    """

    blocks: str
    alone: tuple[str, ...]
    cut: str | None = None


_BERT = LastBlock("encoder.layer", ("attention.self.query",), "attention.output")
_LLAMA = LastBlock("layers", ("self_attn.q_proj", "self_attn.o_proj", "mlp"))
# ALBERT has one block, which is its first too.
LAST_BLOCKS = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "distilbert": LastBlock("transformer.layer", ("attention.q_lin", "attention.out_lin"), "sa_layer_norm"),
    "modernbert": LastBlock("layers", ("attn.Wo", "mlp")),
    "gpt2": LastBlock("h", ("attn.c_proj", "mlp")),
    "opt": LastBlock("decoder.layers", ("self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2")),
    "gpt_neox": LastBlock("layers", ("attention.dense", "mlp")),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _LLAMA,
}


def blocks_of(model: PreTrainedModel) -> nn.ModuleList:
    """The blocks of a model whose architecture is in the table."""
    blocks = model.base_model.get_submodule(LAST_BLOCKS[model.config.model_type].blocks)
    assert isinstance(blocks, nn.ModuleList)
    return blocks


@contextmanager
def last_block_for(model: PreTrainedModel, layout: Layout, wanted: Int64[Tensor, " texts"]) -> Iterator[bool]:
    """Within the block, the model's last block computes for the wanted tokens.

    Args:
        model: A model that runs ragged.
        layout: Of the batch; the model is called with it.
        wanted: Places of the tokens in the batch's row, one for each text.

    Yields:
        Whether the base model's blocks then give (1, texts, width), of the wanted tokens alone.
    """
    parts = LAST_BLOCKS.get(model.config.model_type)
    if parts is None:
        yield False
        return
    block = blocks_of(model)[-1]
    narrowed = layout.only(wanted)

    def with_queries(_module: nn.Module, arguments: Any, keywords: dict[str, Any]) -> Any:
        return arguments, {**keywords, "ragged": narrowed}

    def select(_module: nn.Module, arguments: tuple[Any, ...]) -> Any:
        return tuple(part.index_select(-2, wanted) if isinstance(part, Tensor) else part for part in arguments)

    def among_zeros(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        zeros = output.new_zeros(*output.shape[:-2], len(layout.positions), output.shape[-1])
        return zeros.index_copy_(-2, wanted, output)

    with ExitStack() as hooks:
        hooks.enter_context(_held(block.register_forward_pre_hook(with_queries, with_kwargs=True)))
        for name in parts.alone:
            module = block.get_submodule(name)
            # Around the hooks of others, to which the module is what it always was.
            hooks.enter_context(_held(module.register_forward_pre_hook(select, prepend=True)))
            hooks.enter_context(_held(module.register_forward_hook(among_zeros)))
        if parts.cut is not None:
            hooks.enter_context(_held(block.get_submodule(parts.cut).register_forward_pre_hook(select, prepend=True)))
        yield parts.cut is not None


@contextmanager
def _held(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
