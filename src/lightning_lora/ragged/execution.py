"""A classifier's logits for a ragged batch: the base model on one row of tokens, the head on one token of each text."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightning_lora.lora import run_again
from lightning_lora.ragged.attention import ragged_attention_in
from lightning_lora.ragged.frozen_blocks import beginning_at, hidden_states_before
from lightning_lora.ragged.last_block import LAST_BLOCKS, blocks_of, last_block_for
from lightning_lora.ragged.layout import Layout
from lightning_lora.ragged.turns import turn_in
from lightning_lora.targets import POSITIONS_BEHIND_PADDING

FIRST_TOKEN = frozenset({"albert", "bert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"})
"""Encoders whose head reads the first token."""
LAST_TOKEN = frozenset({"gemma2", "gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3"})
"""Decoders whose head, `score`, reads the last token of the text that is not the padding token."""
OF_TOKENS = ("input_ids", "token_type_ids")
"""What a batch holds for each token, and the model is given."""


def runs_ragged(model: nn.Module) -> bool:
    """Whether `ragged_logits` knows the model (its architecture, where its head reads, its attention), and it runs its
    layers once: in backward they are not what they were."""
    return _why_not(model) is None


def _why_not(model: nn.Module) -> str | None:
    known = FIRST_TOKEN | LAST_TOKEN
    if not isinstance(model, PreTrainedModel) or model.config.model_type not in known:
        return f"those that do: {', '.join(sorted(known))}, where the head reads one token"
    with turn_in(model):  # while another thread runs it, its attention is ours
        attention = model.config._attn_implementation
    # Asked at every batch: of all modules of BERT-base it takes 2 ms.
    layers = blocks_of(model) if model.config.model_type in LAST_BLOCKS else model.modules()
    reasons = {
        "its head reads all tokens": getattr(model.config, "classifier_pooling", "cls") != "cls",
        f"its attention is {attention}": attention not in ("sdpa", "eager"),
        # A padded batch is masked as causal all the same (Gemma 2 in transformers 5).
        "use_bidirectional_attention is set": bool(getattr(model.config, "use_bidirectional_attention", False)),
        "gradient checkpointing runs its layers again in backward; turn it off, or give it padded batches": (
            run_again(layers)
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def ragged_logits(model: nn.Module, inputs: Mapping[str, Any]) -> Float[Tensor, "texts outputs"]:
    """The logits that the padded model gives for the same texts, to rounding.

    Threads take turns in a model, which is changed while a batch runs; see `turns`.

    Args:
        model: One that `runs_ragged`.
        inputs: ``input_ids`` (1, T) int64, where the model takes them ``token_type_ids`` (1, T), and ``lengths``
            (texts,) int64, on the CPU: they are read, and another device would be waited for. Where there are
            ``hidden`` (1, T, width), what block number ``begin_at`` is given, the model begins there.

    Raises:
        ValueError: the model does not run ragged, or the lengths are not those of a row of T tokens.
    """
    known, layout, arguments = _prepared(model, inputs)
    with ExitStack() as within:
        if "hidden" in inputs:
            hidden = F.pad(inputs["hidden"], (0, 0, 0, layout.filler))
            within.enter_context(beginning_at(known, inputs["begin_at"], hidden))
        return logits_of(known, layout, arguments)


def logits_of(model: PreTrainedModel, layout: Layout, arguments: Mapping[str, Any]) -> Float[Tensor, "texts outputs"]:
    """The logits of texts that are laid out already.

    Args:
        model: One that `runs_ragged`.
        layout: Of the texts in the row.
        arguments: What the model is called with; see `arguments_for`.
    """
    reads_last = model.config.model_type in LAST_TOKEN
    wanted = _last_tokens(model, layout, arguments["input_ids"]) if reads_last else layout.starts
    with ExitStack() as within:
        within.enter_context(ragged_attention_in(model))
        alone = within.enter_context(last_block_for(model, layout, wanted))
        if reads_last:
            last = model.base_model(**arguments).last_hidden_state[0]
            found: Tensor = model.score(last.index_select(0, wanted))
            return found
        within.enter_context(_first_tokens_only(model, layout, alone))
        logits: Tensor = model(**arguments).logits
        return logits


def hidden_before(model: nn.Module, inputs: Mapping[str, Any], block: int) -> Float[Tensor, "T width"]:
    """What a block is given for the tokens of a ragged batch, without gradient.

    Args:
        model: One that `runs_ragged`, in eval mode.
        inputs: As of `ragged_logits`.
        block: Its number.

    Raises:
        ValueError: as `ragged_logits`.
    """
    known, layout, arguments = _prepared(model, inputs)
    return hidden_states_before(known, block, layout, arguments)


def _prepared(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[PreTrainedModel, Layout, dict[str, Any]]:
    """The model, where the texts lie, and what the base model is called with."""
    if not isinstance(model, PreTrainedModel) or (reason := _why_not(model)):
        raise ValueError(f"{type(model).__name__} does not run without padding; {reason}")
    given = inputs["input_ids"].shape[1]
    layout = Layout(inputs["lengths"], filled_to(given, model.dtype), inputs["input_ids"].device)
    if given != len(layout.positions) - layout.filler:
        raise ValueError(f"lengths sum to {len(layout.positions) - layout.filler}, in a row of {given} tokens")
    tokens = {name: F.pad(inputs[name], (0, layout.filler)) for name in OF_TOKENS if name in inputs}
    return model, layout, arguments_for(model, layout, tokens)


def arguments_for(model: PreTrainedModel, layout: Layout, tokens: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a model is called with for a row of tokens: `OF_TOKENS` (1, T), of those that it takes."""
    arguments = {**tokens, "position_ids": _positions(model, layout), "ragged": layout}
    if model.config.model_type in LAST_TOKEN:
        arguments["use_cache"] = False
    return arguments


def filled_to(tokens: int, dtype: torch.dtype) -> int:
    """What T is made a multiple of in a row of ``tokens`` tokens: but for fp32, oneDNN makes a kernel for every shape.

    A new T then costs 4 to 9 ms and some 4 MiB, and a token of filler 0.1 ms of a step (all-MiniLM-L6-v2, docs/LOG.md);
    and the T of long rows differ more.
    """
    if dtype == torch.float32:
        return 1
    return 32 if tokens < 1024 else 64


def _positions(model: PreTrainedModel, layout: Layout) -> Int64[Tensor, "1 tokens"]:
    offset = model.config.pad_token_id + 1 if model.config.model_type in POSITIONS_BEHIND_PADDING else 0
    return (layout.positions + offset).unsqueeze(0)


def _last_tokens(
    model: PreTrainedModel, layout: Layout, input_ids: Int64[Tensor, "1 tokens"]
) -> Int64[Tensor, " texts"]:
    """The place in the row of each text's last token that is not the padding token, as transformers finds it.

    A tokenizer may end every text with that token. Of a text that holds nothing else it is the first token.
    """
    padding = model.config.pad_token_id
    if padding is None:
        return layout.ends
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    last_so_far = torch.where(input_ids[0] == padding, 0, places).cummax(0).values
    return torch.maximum(last_so_far.index_select(0, layout.ends), layout.starts)


@contextmanager
def _first_tokens_only(model: PreTrainedModel, layout: Layout, alone: bool) -> Iterator[None]:
    """Within the block, what follows the blocks sees (texts, 1, width): pooler and head take its first token.

    Args:
        model: The classifier.
        layout: Of the batch.
        alone: Whether the blocks give the first tokens only.
    """
    base = model.base_model

    def gather(_module: nn.Module, _arguments: Any, output: Any) -> Any:
        hidden = output.last_hidden_state[0]
        output.last_hidden_state = (hidden if alone else hidden.index_select(0, layout.starts)).unsqueeze(1)
        return output

    # A pooler is part of the base model, behind its encoder.
    handle = getattr(base, "encoder", base).register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()
