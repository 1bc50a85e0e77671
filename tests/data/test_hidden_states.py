"""Hidden states on disk: each row's own, computed once, and again where the file is damaged."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_lora.data.hidden_states import hidden_states_key, load_or_compute
from lightning_lora.data.tokens import TokenDataset, Tokens

LENGTHS = [3, 5, 1, 5, 2]


def tokens() -> Tokens:
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    return Tokens({"input_ids": torch.arange(int(offsets[-1]), dtype=torch.int32)}, offsets)


class Doubling:
    """Hidden states that say of which token they are."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        self.batches.append(batch["lengths"].tolist())
        ids = batch["input_ids"][0].float()
        return torch.stack([ids, 2 * ids], 1)


def test_each_row_has_its_own_and_they_are_computed_once(tmp_path: Path) -> None:
    compute = Doubling()
    found = load_or_compute(tmp_path, "key", tokens(), 2, compute)
    assert compute.batches == [[5, 5, 3, 2, 1]], "longest first"
    assert np.array_equal(found, np.stack([np.arange(16), 2 * np.arange(16)], 1))
    data = TokenDataset(
        tokens(), torch.zeros(5), torch.arange(5), load_or_compute(tmp_path, "key", tokens(), 2, compute)
    )
    assert len(compute.batches) == 1
    assert data[2]["hidden"].tolist() == [[8, 16]]
    assert "hidden" not in TokenDataset(tokens(), torch.zeros(5), torch.arange(5))[2]


def files_in(folder: Path) -> list[str]:
    """Those with hidden states, or a part of them."""
    return [file.name for file in (folder / "hidden_states").iterdir() if file.suffix != ".lock"]


def test_of_two_that_start_side_by_side_one_computes(tmp_path: Path) -> None:
    second, found = Doubling(), []
    other = threading.Thread(target=lambda: found.append(load_or_compute(tmp_path, "key", tokens(), 2, second)))

    def first(batch: dict[str, Tensor]) -> Tensor:
        other.start()
        other.join(0.5)  # long enough for it to compute, were it not to wait
        return Doubling()(batch)

    computed = load_or_compute(tmp_path, "key", tokens(), 2, first)
    other.join()
    assert second.batches == []
    assert np.array_equal(found[0], computed)


def test_what_a_killed_process_left_is_removed_at_the_next_filling(tmp_path: Path) -> None:
    leftover = tmp_path / "hidden_states" / ".key.npy.0a1b2c.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    load_or_compute(tmp_path, "key", tokens(), 2, Doubling())
    assert files_in(tmp_path) == ["key.npy"]


@pytest.mark.parametrize(
    "damage", [lambda file: file.write_bytes(file.read_bytes()[:-9]), lambda file: file.write_bytes(b"")]
)
def test_a_file_cut_short_is_made_again(damage: object, tmp_path: Path) -> None:
    compute = Doubling()
    first = np.array(load_or_compute(tmp_path, "key", tokens(), 2, compute))
    file = tmp_path / "hidden_states" / "key.npy"
    damage(file)  # type: ignore[operator]
    assert np.array_equal(load_or_compute(tmp_path, "key", tokens(), 2, compute), first)
    assert len(compute.batches) == 2


def test_the_key_is_of_model_block_and_tokens() -> None:
    keys = [
        hidden_states_key(facts, tokens)
        for facts in ({"base": "a", "block": 1}, {"base": "b", "block": 1}, {"base": "a", "block": 2})
        for tokens in ("t", "u")
    ]
    assert len(set(keys)) == 6
    assert hidden_states_key({"block": 1, "base": "a"}, "t") == keys[0], "in any order"


def test_no_room_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk; without room set aside first, a mapped file ends in a signal."""
    program = (
        "import resource, signal, sys, torch; from pathlib import Path\n"
        "from lightning_lora.data.hidden_states import load_or_compute; from lightning_lora.data.tokens import Tokens\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "tokens = Tokens({'input_ids': torch.zeros(4000, dtype=torch.int32)}, torch.tensor([0, 4000]))\n"
        "load_or_compute(Path(sys.argv[1]), 'key', tokens, 64, lambda batch: torch.zeros(4000, 64))\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "CannotWriteError: cannot write" in result.stderr.splitlines()[-1]
    assert files_in(tmp_path) == []
