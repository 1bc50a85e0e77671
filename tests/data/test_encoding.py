import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from transformers import BertTokenizer, GPT2Tokenizer, PreTrainedTokenizerBase

from lightning_lora.data import encoding
from lightning_lora.data.encoding import TokenizerError, check_max_length, encode, tokenise

FIRST = ["A plane is taking off.", "A man is playing a large flute, slowly and with care.", "No."]
SECOND = ["An air plane is taking off.", "Yes.", "A dog runs through a wide green field in the early morning light."]


def column(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


@pytest.mark.parametrize("texts", [(FIRST,), (FIRST, SECOND)])
@pytest.mark.parametrize("max_length", [128, 9])
def test_tokens_are_those_of_one_call_per_row(
    tokenizer: PreTrainedTokenizerBase, texts: tuple[list[str], ...], max_length: int
) -> None:
    tokens = encode(tuple(map(column, texts)), tokenizer, max_length)
    assert len(tokens) == 3
    for number, row in enumerate(zip(*texts, strict=True)):
        alone = tokenizer(*row, truncation="longest_first", max_length=max_length)
        stored = {name: values.tolist() for name, values in tokens.row(number).items()}
        assert stored == {name: alone[name] for name in ("input_ids", "token_type_ids")}
        assert len(stored["input_ids"]) <= max_length


def test_the_longer_text_of_a_pair_is_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = encode((column(FIRST), column(SECOND)), tokenizer, 12)
    kept = [tokenizer.decode(tokens.row(number)["input_ids"], skip_special_tokens=False) for number in (1, 2)]
    assert kept[0].endswith("[SEP] yes. [SEP]")
    assert kept[1].startswith("[CLS] no. [SEP]")


@pytest.mark.parametrize("own", [False, True], ids=["none of its own", "its own"])
def test_the_tokenizer_cuts_and_pads_afterwards_as_it_did(tokenizer: PreTrainedTokenizerBase, own: bool) -> None:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    if own:
        backend.enable_truncation(7, stride=2)
        backend.enable_padding(length=11, pad_to_multiple_of=4)
    before = backend.to_str()
    encode((column(FIRST),), tokenizer, 16)
    assert backend.to_str() == before
    with pytest.raises(TypeError):
        tokenise((pa.array([1, 2]),), tokenizer, 16)
    assert backend.to_str() == before
    tokenizer(FIRST, truncation=True, max_length=16)
    assert backend.to_str() != before, "the control"


def test_threads_that_cut_at_other_lengths_do_not_cut_each_others_texts(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = (column(FIRST * 20),)
    alone = {length: encode(texts, tokenizer, length).offsets for length in (6, 9)}
    with ThreadPoolExecutor(4) as pool:
        for length, found in pool.map(lambda length: (length, encode(texts, tokenizer, length)), [6, 9] * 100):
            assert found.offsets.equal(alone[length])


def test_chunks_do_not_show(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = (column(FIRST * 5).slice(1, 12),)
    whole = encode(texts, tokenizer, 16)
    monkeypatch.setattr(encoding, "CHUNK_ROWS", 5)
    parts = encode(texts, tokenizer, 16)
    assert parts.offsets.equal(whole.offsets)
    assert all(parts.columns[name].equal(whole.columns[name]) for name in whole.columns)


def test_only_large_sets_show_a_progress_bar(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    encode((column(FIRST),), tokenizer, 16)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(encoding, "PROGRESS_ROWS", 3)
    encode((column(FIRST),), tokenizer, 16)
    assert "Tokenising" in capfd.readouterr().err


def test_the_bert_tokenizer_trap_of_transformers_5(minilm_folder: Path) -> None:
    trapped = BertTokenizer(vocab_file=str(minilm_folder / "vocab.txt"))
    assert len(trapped) == 5
    with pytest.raises(TokenizerError, match=r"BertTokenizer.* with 5 tokens does not know 100% of the text: 'A plane"):
        encode((column(FIRST),), trapped, 128)
    right = BertTokenizer(vocab=str(minilm_folder / "vocab.txt"))
    assert len(encode((column(FIRST),), right, 128)) == 3


def test_a_tokenizer_that_makes_nothing_of_its_text_is_caught(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "<|endoftext|>": 1}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    trapped = GPT2Tokenizer(vocab_file=str(tmp_path / "vocab.json"), merges_file=str(tmp_path / "merges.txt"))
    assert trapped(["words"])["input_ids"] == [[]]
    with pytest.raises(TokenizerError, match=r"GPT2Tokenizer.*100% of the text: 'A plane.*' becomes 'nothing'"):
        encode((column(FIRST),), trapped, 128)


def test_a_few_unknown_words_are_no_error(tokenizer: PreTrainedTokenizerBase) -> None:
    mostly_known = ["𓂀 a plane is taking off", "𓂀 𓃠 the man"]
    tokens = encode((column(mostly_known),), tokenizer, 128)
    assert int((tokens.columns["input_ids"] == tokenizer.unk_token_id).sum()) == 3
    with pytest.raises(TokenizerError, match=r"does not know 75% of the text: '𓂀 𓃠 𓆏 man' becomes '\[CLS\] \[UNK\]"):
        encode((column(["𓂀 𓃠 𓆏 man"]),), tokenizer, 128)


@pytest.mark.parametrize(
    ("max_length", "pairs", "max_positions", "allowed"),
    [
        (513, False, None, "3 to 512"),
        (2, False, None, "3 to 512"),
        (4, True, None, "5 to 512"),
        (200, False, 128, "3 to 128"),
    ],
)
def test_max_length_must_fit(
    tokenizer: PreTrainedTokenizerBase, max_length: int, pairs: bool, max_positions: int | None, allowed: str
) -> None:
    with pytest.raises(TokenizerError, match=rf"data.max_length={max_length} does not fit .*; give {allowed} tokens"):
        check_max_length(tokenizer, max_length, pairs=pairs, max_positions=max_positions)


def test_max_length_at_the_limits_is_fine(tokenizer: PreTrainedTokenizerBase) -> None:
    check_max_length(tokenizer, 512, pairs=True, max_positions=512)
    check_max_length(tokenizer, 5, pairs=True)
    tokens = encode((column(FIRST), column(SECOND)), tokenizer, 5)
    assert tokens.offsets.tolist() == [0, 5, 10, 15]
    tokenizer.model_max_length = int(1e30)
    check_max_length(tokenizer, 100_000, pairs=False)
