"""Texts to token ids, pure given a tokenizer, with the guards against a tokenizer that does not know its words."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lightning_lora.data.files import DataError
from lightning_lora.data.tokens import Tokens

CHUNK_ROWS = 2000
PROGRESS_ROWS = 50_000
MOST_UNKNOWN = 0.5
# A call sets how the tokenizer cuts, so that two threads must not make theirs at once.
_ONE_CALL = Lock()


class TokenizerError(ValueError):
    """The tokenizer does not fit the texts, or the wanted length."""


def encode(texts: tuple[pa.Array, ...], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Tokens:
    """Tokens of a data set, see `tokenise`.

    Raises:
        TokenizerError: more than half of the tokens are unknown.
    """
    tokens = tokenise(texts, tokenizer, max_length)
    check_known(tokens, texts, tokenizer)
    return tokens


def tokenise(texts: tuple[pa.Array, ...], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Tokens:
    """Token ids of one or two texts per row, special tokens included, not padded.

    Too long rows are cut to ``max_length`` tokens, of a pair always the longer text. From 50,000 rows a progress bar is
    shown on standard error. Threads take turns.

    Args:
        texts: One or two string arrays of equal length.
        tokenizer: The model's; what it cuts and pads by itself is afterwards as it was.
        max_length: In tokens, special tokens included.
    """
    rows = len(texts[0])
    parts: dict[str, list[Tensor]] = {}
    lengths = [torch.zeros(1, dtype=torch.int64)]
    with Progress(console=Console(stderr=True), transient=True, disable=rows < PROGRESS_ROWS) as progress:
        bar = progress.add_task("Tokenising", total=rows)
        for start in range(0, rows, CHUNK_ROWS):
            chunk = [text.slice(start, CHUNK_ROWS).to_pylist() for text in texts]
            outputs = _call(tokenizer, chunk, max_length)
            lengths.append(torch.tensor([len(ids) for ids in outputs["input_ids"]], dtype=torch.int64))
            for name, values in outputs.items():
                parts.setdefault(name, []).append(_flat(values))
            progress.advance(bar, len(chunk[0]))
    return Tokens({name: torch.cat(values) for name, values in parts.items()}, torch.cat(lengths).cumsum(0))


def check_max_length(
    tokenizer: PreTrainedTokenizerBase, max_length: int, *, pairs: bool, max_positions: int | None = None
) -> None:
    """Refuses a ``max_length`` that leaves no room for text or that the model cannot take.

    Args:
        tokenizer: Its ``model_max_length`` counts where it is set.
        max_length: In tokens.
        pairs: Whether the task has two texts.
        max_positions: Tokens the model takes, where that is known.

    Raises:
        TokenizerError: naming the value and the allowed range.
    """
    lowest = int(tokenizer.num_special_tokens_to_add(pair=pairs)) + (2 if pairs else 1)
    limits = [limit for limit in (tokenizer.model_max_length, max_positions) if limit is not None and limit < 1e9]
    if max_length < lowest or any(max_length > limit for limit in limits):
        highest = f"to {min(limits)}" if limits else "or more"
        raise TokenizerError(
            f"data.max_length={max_length} does not fit {_name(tokenizer)}; give {lowest} {highest} tokens"
        )


def check_known(tokens: Tokens, texts: tuple[pa.Array, ...], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses texts of which more than half of the tokens are unknown; a text without any token counts as one.

    transformers 5 builds an almost empty tokenizer from the argument names of version 4, without a word.

    Raises:
        TokenizerError: naming the tokenizer and giving an example.
    """
    ids = tokens.columns["input_ids"].numpy()
    unknown_id = tokenizer.unk_token_id
    special = [number for number in tokenizer.all_special_ids if number != unknown_id]
    content = ~np.isin(ids, special)
    per_row = _sums(content, tokens)
    unknown_per_row = _sums(content & (ids == (-1 if unknown_id is None else unknown_id)), tokens)
    unknown_per_row[per_row == 0] = 1
    per_row[per_row == 0] = 1
    share = unknown_per_row.sum() / per_row.sum()
    if share > MOST_UNKNOWN:
        worst = int(np.argmax(unknown_per_row / per_row))
        pieces = tokenizer.convert_ids_to_tokens(tokens.row(worst)["input_ids"].tolist())
        raise TokenizerError(
            f"{_name(tokenizer)} with {len(tokenizer)} tokens does not know {share:.0%} of the text: "
            f"{texts[0][worst].as_py()[:60]!r} becomes {' '.join(pieces[:12]) or 'nothing'!r}; "
            "was it loaded with the right files, and is it for this language?"
        )


def check_not_empty(tokens: Tokens, texts: tuple[pa.Array, ...], name_of: Callable[[int], str]) -> None:
    """Refuses a row without a token: a model has no answer to it. GPT-2's tokenizer makes none of an empty text.

    Args:
        tokens: Of the texts.
        texts: One or two string arrays.
        name_of: What a row is called in the message, given its position.

    Raises:
        DataError: naming the first such row, and its text.
    """
    empty = (tokens.offsets.diff() == 0).nonzero()
    if len(empty):
        row = int(empty[0])
        given = " and ".join(repr(text[row].as_py()[:60]) for text in texts)
        raise DataError(
            f"{name_of(row)}: this model's tokenizer makes no token of {given}; remove the row or give it a text"
        )


def _call(tokenizer: PreTrainedTokenizerBase, texts: Sequence[list[str]], max_length: int) -> dict[str, Any]:
    # The attention mask is all ones before padding; collation makes it.
    with _ONE_CALL, _left_as_it_was(tokenizer):
        outputs = tokenizer(*texts, truncation="longest_first", max_length=max_length, return_attention_mask=False)
    return dict(outputs)


@contextmanager
def _left_as_it_was(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Afterwards a fast tokenizer cuts and pads as before: calls change that for good, and saving keeps it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    truncation, padding = (None, None) if backend is None else (backend.truncation, backend.padding)
    try:
        yield
    finally:
        if backend is not None:
            backend.enable_truncation(**truncation) if truncation else backend.no_truncation()
            backend.enable_padding(**padding) if padding else backend.no_padding()


def _flat(rows: list[list[int]]) -> Tensor:
    return torch.from_numpy(np.fromiter((token for row in rows for token in row), dtype=np.int32))


def _sums(mask: "np.ndarray[Any, np.dtype[np.bool_]]", tokens: Tokens) -> "np.ndarray[Any, np.dtype[np.int64]]":
    total = np.concatenate([[0], np.cumsum(mask)])
    return np.diff(total[tokens.offsets.numpy()])


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return f"the tokenizer {type(tokenizer).__name__} of {tokenizer.name_or_path or 'no named model'}"
