from pathlib import Path

import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lightning_lora.data.fingerprint import (
    data_fingerprint,
    examples_fingerprint,
    texts_fingerprint,
    token_key,
    tokenizer_fingerprint,
)
from lightning_lora.data.validation import Split

TEXTS = ["one", "", "three words here", "vier"]


def column(texts: list[str], kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(texts, kind or pa.large_string())


def split(texts: list[str], labels: list[int]) -> Split:
    return Split((column(texts),), torch.tensor(labels), torch.arange(len(labels)), "here")


def test_content_counts_and_storage_does_not() -> None:
    reference = texts_fingerprint((column(TEXTS),))
    assert texts_fingerprint((column(TEXTS, pa.string()),)) == reference
    assert texts_fingerprint((column(["zero", *TEXTS, "five"]).slice(1, 4),)) == reference
    assert texts_fingerprint((pa.chunked_array([TEXTS[:2], TEXTS[2:]]).combine_chunks(),)) == reference


@pytest.mark.parametrize(
    "others",
    [
        (["one", "", "three words here", "vieR"],),
        (["", "one", "three words here", "vier"],),
        (["on", "e", "three words here", "vier"],),
        (TEXTS[:3],),
        (TEXTS[:2], TEXTS[2:]),
    ],
)
def test_any_change_of_content_counts(others: tuple[list[str], ...]) -> None:
    assert texts_fingerprint(tuple(map(column, others))) != texts_fingerprint((column(TEXTS),))


def test_data_fingerprint_counts_texts_labels_and_names_but_no_row_ids() -> None:
    reference = data_fingerprint({"train": split(["a", "b"], [0, 1])})
    renumbered = Split((column(["a", "b"]),), torch.tensor([0, 1]), torch.tensor([7, 8]), "there")
    assert data_fingerprint({"train": renumbered}) == reference
    assert data_fingerprint({"train": split(["a", "b"], [1, 0])}) != reference
    assert data_fingerprint({"train": split(["a", "c"], [0, 1])}) != reference
    assert data_fingerprint({"validation": split(["a", "b"], [0, 1])}) != reference


def test_examples_are_the_same_in_any_order_of_the_file_and_others_with_any_other_text() -> None:
    reference = examples_fingerprint(split(["a", "b"], [0, 1]))
    turned = Split((column(["b", "a"]),), torch.tensor([1, 0]), torch.tensor([1, 0]), "there")
    assert examples_fingerprint(turned) == reference
    assert examples_fingerprint(split(["a", "c"], [0, 1])) != reference
    assert examples_fingerprint(split(["a", "b"], [0, 0])) != reference


def test_a_tokenizer_that_was_used_is_the_same_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    fresh = tokenizer_fingerprint(tokenizer)
    before = tokenizer.backend_tokenizer.to_str()
    tokenizer(["a text", "another longer text"], truncation=True, max_length=4, padding=True)
    assert tokenizer.backend_tokenizer.to_str() != before
    assert tokenizer_fingerprint(tokenizer) == fresh


def test_what_changes_the_tokens_changes_the_fingerprint(
    tokenizer: PreTrainedTokenizerBase, minilm_folder: Path
) -> None:
    fresh = tokenizer_fingerprint(tokenizer)
    left = AutoTokenizer.from_pretrained(minilm_folder, truncation_side="left")
    grown = AutoTokenizer.from_pretrained(minilm_folder)
    grown.add_tokens(["lightning-lora"])
    cased = AutoTokenizer.from_pretrained(minilm_folder, do_lower_case=False)
    assert cased.tokenize("Plane") != tokenizer.tokenize("Plane")
    split = AutoTokenizer.from_pretrained(minilm_folder, split_special_tokens=True)
    assert split.tokenize("a [SEP] b") != tokenizer.tokenize("a [SEP] b")
    assert len({fresh, *map(tokenizer_fingerprint, (left, grown, cased, split))}) == 5


def test_token_key_counts_each_of_its_parts() -> None:
    keys = {
        token_key((column(TEXTS),), "tokenizer", 128),
        token_key((column(TEXTS),), "tokenizer", 64),
        token_key((column(TEXTS),), "other", 128),
        token_key((column(TEXTS[:3]),), "tokenizer", 128),
    }
    assert len(keys) == 4
