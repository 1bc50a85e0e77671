"""Identities by content: of texts, of a tokenizer, of a whole data set. All are sha256 in hexadecimal."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers
import transformers
from transformers import PreTrainedTokenizerBase

from lightning_lora.data.validation import Split

# Raised when the code makes other tokens of the same texts and tokenizer, or stores them otherwise.
FORMAT_VERSION = 1


def token_key(texts: tuple[pa.Array, ...], tokenizer_fingerprint: str, max_length: int) -> str:
    """Under which the tokens of these texts are cached."""
    facts = [FORMAT_VERSION, texts_fingerprint(texts), tokenizer_fingerprint, max_length]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def texts_fingerprint(texts: tuple[pa.Array, ...]) -> str:
    """Of the content of one or two string columns without nulls, whatever their chunks and offsets."""
    digest = hashlib.sha256()
    for text in texts:
        column = text.cast(pa.large_string())
        lengths = pc.binary_length(column).cast(pa.int64()).to_numpy(zero_copy_only=False)
        digest.update(np.int64(len(column)).tobytes() + lengths.astype("<i8").tobytes())
        _, offsets, data = column.buffers()
        ends = np.frombuffer(offsets, dtype=np.int64)[[column.offset, column.offset + len(column)]]
        digest.update(memoryview(data or b"")[ends[0] : ends[1]])
    return digest.hexdigest()


def data_fingerprint(splits: Mapping[str, Split]) -> str:
    """Of the names, texts and labels of all splits, in order. Row ids do not count: they do not change a result."""
    facts = [
        (name, texts_fingerprint(split.texts), hashlib.sha256(_little_endian(split)).hexdigest())
        for name, split in splits.items()
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def examples_fingerprint(split: Split) -> str:
    """Of the texts and labels of a split in the order of their row ids, which is that of its predictions."""
    return data_fingerprint({"examples": split.take(split.idx.argsort())})


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Of everything that decides which tokens a text becomes, but for max_length; library versions included."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        state = {"vocabulary": tokenizer.get_vocab(), "settings": repr(sorted(tokenizer.init_kwargs.items()))}
    else:
        state = json.loads(backend.to_str())
        # Left behind by the last call; a tokenizer that was used is still the same tokenizer.
        state["truncation"] = state["padding"] = None
    facts = {
        "class": type(tokenizer).__name__,
        "state": state,
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        # Whether "[SEP]" in a text is one token; the backend has it, and does not tell.
        "split_special": tokenizer.split_special_tokens,
        "truncation_side": tokenizer.truncation_side,
        "outputs": tokenizer.model_input_names,
        "versions": [transformers.__version__, tokenizers.__version__],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _little_endian(split: Split) -> bytes:
    labels = split.labels.numpy()
    return labels.astype(labels.dtype.newbyteorder("<")).tobytes()
