import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from lightning_lora.data.cache import CACHE_VARIABLE, cache_folder, load_or_build
from lightning_lora.data.tokens import Tokens

FILL = """
import sys, time
from pathlib import Path
import torch
from lightning_lora.data.cache import load_or_build
from lightning_lora.data.tokens import Tokens

folder, me, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def build():
    # Both processes are inside build() at once: each waits here for the other.
    (folder / me).touch()
    last = time.monotonic() + 300
    while not (folder / other).exists():
        if time.monotonic() > last:
            sys.exit("waited five minutes for the other process")
        time.sleep(0.01)
    ids = torch.arange(2_000_000, dtype=torch.int32)
    return Tokens({"input_ids": ids}, torch.tensor([0, 1_000_000, 2_000_000]))

tokens = load_or_build(folder, "key", 2, build)
print(int(tokens.columns["input_ids"].sum(dtype=torch.int64)), len(tokens))
"""


def some_tokens() -> Tokens:
    ids = torch.tensor([101, 7, 102, 101, 8, 9, 102], dtype=torch.int32)
    return Tokens({"input_ids": ids, "token_type_ids": torch.zeros_like(ids)}, torch.tensor([0, 3, 7]))


def never() -> Tokens:
    raise AssertionError("the cache should have been used")


def equal(left: Tokens, right: Tokens) -> bool:
    same = left.columns.keys() == right.columns.keys() and left.offsets.equal(right.offsets)
    return same and all(values.equal(right.columns[name]) for name, values in left.columns.items())


def test_the_second_time_nothing_is_built(tmp_path: Path) -> None:
    built = load_or_build(tmp_path, "key", 2, some_tokens)
    assert equal(load_or_build(tmp_path, "key", 2, never), built)
    assert equal(built, some_tokens())
    with pytest.raises(AssertionError, match="should have been used"):
        load_or_build(tmp_path, "another", 2, never)


def test_what_a_killed_process_left_is_removed_at_the_next_filling(tmp_path: Path) -> None:
    leftover = tmp_path / "tokens" / ".key.safetensors.0a1b2c3d4e5f.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    load_or_build(tmp_path, "key", 2, some_tokens)
    assert [file.name for file in leftover.parent.iterdir()] == ["key.safetensors"]


def test_two_processes_fill_it_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FILL, str(tmp_path)]
    both = [subprocess.Popen([*command, *names], stdout=subprocess.PIPE, text=True) for names in ("ab", "ba")]
    outputs = [process.communicate()[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs == [[str(sum(range(2_000_000))), "2"]] * 2
    assert [file.name for file in (tmp_path / "tokens").iterdir()] == ["key.safetensors"]
    assert load_or_build(tmp_path, "key", 2, never).offsets.tolist() == [0, 1_000_000, 2_000_000]


def damage_by_cutting(content: bytes) -> bytes:
    return content[: len(content) - 5]


def damage_one_bit(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize("damage", [damage_by_cutting, damage_one_bit, lambda _: b"", lambda _: b"not safetensors" * 9])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage) -> None:
    load_or_build(tmp_path, "key", 2, some_tokens)
    (file,) = (tmp_path / "tokens").iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match=r"cached tokens .* are damaged .*; tokenising again"):
        assert equal(load_or_build(tmp_path, "key", 2, some_tokens), some_tokens())
    assert file.read_bytes() == whole
    assert equal(load_or_build(tmp_path, "key", 2, never), some_tokens())


def test_a_read_only_folder_is_done_without_and_said_once(read_only_folder: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for key in ("train", "validation"):
            assert equal(load_or_build(read_only_folder, key, 2, some_tokens), some_tokens())
    assert [str(warning.message) for warning in caught] == [
        f"the cache {read_only_folder} cannot be written (Permission denied); going on without it"
    ]
    assert list(read_only_folder.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be written"):
        assert equal(load_or_build(tmp_path / "file", "key", 2, some_tokens), some_tokens())


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lightning-lora"
    monkeypatch.setenv("LIGHTNING_LORA_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
