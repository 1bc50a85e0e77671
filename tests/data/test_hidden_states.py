"""Hidden states on disk: each row's own, computed once, and again where the file is damaged."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_lora.data.hidden_states import HiddenStates, hidden_states_key, load_or_compute
from lightning_lora.data.tokens import TokenDataset, Tokens

LENGTHS = [3, 5, 1, 5, 2]


def tokens() -> Tokens:
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    return Tokens({"input_ids": torch.arange(int(offsets[-1]), dtype=torch.int32)}, offsets)


def loaded(folder: Path, compute: Callable[[dict[str, Tensor]], Tensor]) -> HiddenStates:
    return load_or_compute(folder, {"key": tokens()}, 2, compute)["key"]


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
    found = loaded(tmp_path, compute)
    assert compute.batches == [[5, 5, 3, 2, 1]], "longest first"
    assert np.array_equal(found, np.stack([np.arange(16), 2 * np.arange(16)], 1))
    data = TokenDataset(tokens(), torch.zeros(5), torch.arange(5), loaded(tmp_path, compute))
    assert len(compute.batches) == 1
    assert data[2]["hidden"].tolist() == [[8, 16]]
    assert "hidden" not in TokenDataset(tokens(), torch.zeros(5), torch.arange(5))[2]


def test_a_worker_that_is_not_forked_maps_the_file_itself(tmp_path: Path) -> None:
    data = TokenDataset(tokens(), torch.zeros(5), torch.arange(5), loaded(tmp_path, Doubling()))
    (file,) = (tmp_path / "hidden_states").glob("*.npy")
    packed = pickle.dumps(data)
    assert data.hidden is not None
    assert file.name.encode() in packed
    assert data.hidden.tobytes() not in packed
    there = pickle.loads(packed)
    assert isinstance(there.hidden, np.memmap)
    assert all(there[row]["hidden"].equal(data[row]["hidden"]) for row in range(5))


def files_in(folder: Path) -> list[str]:
    """Those with hidden states, or a part of them."""
    return [file.name for file in (folder / "hidden_states").iterdir() if file.suffix != ".lock"]


def test_of_two_that_start_side_by_side_one_computes(tmp_path: Path) -> None:
    second, found = Doubling(), []
    other = threading.Thread(target=lambda: found.append(loaded(tmp_path, second)))

    def first(batch: dict[str, Tensor]) -> Tensor:
        other.start()
        other.join(0.5)  # long enough for it to compute, were it not to wait
        return Doubling()(batch)

    computed = loaded(tmp_path, first)
    other.join()
    assert second.batches == []
    assert np.array_equal(found[0], computed)


def test_two_jobs_with_splits_in_common_do_not_wait_for_one_another_for_ever(tmp_path: Path) -> None:
    """Each holds the locks of all that it computes; in one order, whatever the order of its splits."""
    names = ["a", "b"]
    jobs = [
        threading.Thread(target=load_or_compute, args=(tmp_path, dict.fromkeys(order, tokens()), 2, Doubling()))
        for order in (names, names[::-1])
        for _ in range(4)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(20)
    assert not any(job.is_alive() for job in jobs)
    assert sorted(files_in(tmp_path)) == ["a.npy", "b.npy"]


def test_their_size_is_said_before_and_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def silent(_: dict[str, Tensor]) -> Tensor:
        raise AssertionError("computed before a word")

    many = Tokens({"input_ids": torch.zeros(10_000_000, dtype=torch.int32)}, torch.tensor([0, 10_000_000]))
    with pytest.raises(AssertionError, match="before a word"):
        load_or_compute(tmp_path, {"key": many}, 2, silent)
    assert capsys.readouterr().err.startswith(
        f"frozen blocks: computing 80.0 MB, kept in {tmp_path / 'hidden_states'} ("
    )
    loaded(tmp_path, Doubling())
    assert "computing 128 bytes" in capsys.readouterr().err
    loaded(tmp_path, Doubling())
    assert capsys.readouterr().err == ""


def test_more_than_the_disk_has_room_for_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All splits are counted, but those that are there already."""
    every = {"key": tokens(), "other": tokens()}
    compute = Doubling()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * 16 * 2 * 4 - 1))
    with pytest.raises(
        ValueError, match=r"^lora\.cache_frozen_blocks needs 256 bytes in .*, where 255 bytes are free; free"
    ):
        load_or_compute(tmp_path, every, 2, compute)
    assert compute.batches == []
    assert files_in(tmp_path) == []
    loaded(tmp_path, compute)
    assert set(load_or_compute(tmp_path, every, 2, compute)) == set(every)


def test_what_a_killed_process_left_is_removed_at_the_next_filling(tmp_path: Path) -> None:
    leftover = tmp_path / "hidden_states" / ".key.npy.0a1b2c3d4e5f.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    loaded(tmp_path, Doubling())
    assert files_in(tmp_path) == ["key.npy"]


@pytest.mark.parametrize(
    "damage", [lambda file: file.write_bytes(file.read_bytes()[:-9]), lambda file: file.write_bytes(b"")]
)
def test_a_file_cut_short_is_made_again(damage: object, tmp_path: Path) -> None:
    compute = Doubling()
    first = np.array(loaded(tmp_path, compute))
    file = tmp_path / "hidden_states" / "key.npy"
    damage(file)  # type: ignore[operator]
    assert np.array_equal(loaded(tmp_path, compute), first)
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
        "load_or_compute(Path(sys.argv[1]), {'key': tokens}, 64, lambda batch: torch.zeros(4000, 64))\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "CannotWriteError: cannot write" in result.stderr.splitlines()[-1]
    assert files_in(tmp_path) == []
