"""Atomic writes leave the old or the new, never a part, and no litter."""

import errno
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_lora.atomic import (
    CannotWriteError,
    atomic_file,
    atomic_folder,
    clear_abandoned,
    clear_leftovers,
    second_name,
)


def fail_in_the_midst_of_a_write(target: Path) -> None:
    with atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")


def test_an_error_keeps_the_old_file_and_leaves_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "record"
    target.write_text("old")

    with pytest.raises(RuntimeError, match="stop"):
        fail_in_the_midst_of_a_write(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with atomic_file(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    link, file = tmp_path / "record", tmp_path / "elsewhere" / "record"
    file.parent.mkdir()
    link.symlink_to("elsewhere/record")
    for generation in ("first", "second"):  # also where it leads to nothing yet
        with atomic_file(link) as temporary:
            temporary.write_text(generation)
        assert link.is_symlink()
        assert (file.is_symlink(), file.read_text()) == (False, generation)
        assert {*tmp_path.rglob("*")} == {link, file.parent, file}


def test_a_pipe_is_given_the_bytes_when_they_are_whole_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    with pytest.raises(RuntimeError, match="stop"):
        fail_in_the_midst_of_a_write(pipe)
    assert os.read(reader, 100) == b""
    with atomic_file(pipe) as temporary:
        temporary.write_text("whole")
    assert os.read(reader, 100) == b"whole"
    os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_the_output_of_the_process_is_written_to_by_its_name(tmp_path: Path) -> None:
    """As /dev/stdout does, the link leads to a pipe that has no place among the files."""
    link = tmp_path / "stdout"
    link.symlink_to("/proc/self/fd/1")
    program = (
        "import sys; from pathlib import Path; from lightning_lora.atomic import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as temporary: temporary.write_text('whole')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(link)], capture_output=True, text=True, check=True)
    assert ended.stdout == "whole"
    assert link.is_symlink()


def test_an_open_file_is_written_on_where_a_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before,")
    with file.open("a") as stream:
        for target, expected in ((Path(f"/proc/self/fd/{stream.fileno()}"), "before,whole"), (file, "whole")):
            with atomic_file(target) as temporary:
                temporary.write_text("whole")
            assert file.read_text() == expected


@pytest.mark.parametrize("links", [True, False], ids=["linked", "copied"])
def test_under_a_second_name_a_file_stays_what_it_was(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "this file system has no links")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    last, kept = tmp_path / "last", tmp_path / "kept"
    for generation in ("first", "second"):  # also where the name is taken
        last.write_text(generation)
        second_name(last, kept)
        with atomic_file(last) as temporary:
            temporary.write_text("newer")
        assert (kept.read_text(), last.read_text()) == (generation, "newer")
        assert set(tmp_path.iterdir()) == {last, kept}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    for generation in ("first", "second"):
        with atomic_folder(target) as temporary:
            (temporary / generation).write_text(generation)
        assert [path.name for path in target.iterdir()] == [generation]
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_writes_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / "left"
    with atomic_file(tmp_path / "record") as file, atomic_folder(tmp_path / "adapter") as folder:
        file.write_text("half")
        (folder / "weights").write_text("half")
        left.mkdir()
        for path in (file, folder):  # as a kill would leave them
            shutil.copy(path, left) if path.is_file() else shutil.copytree(path, left / path.name)
    others = {".hydra", "mine.tmp", ".mine.tmp", ".mine.1.tmp", ".profile.old"}
    for name in others:
        (left / name).mkdir()
    assert len(list(left.iterdir())) == 2 + len(others)
    clear_leftovers(left)
    assert {path.name for path in left.iterdir()} == others


def test_in_a_shared_folder_only_what_is_old_is_cleared_away(tmp_path: Path) -> None:
    old = time.time() - 25 * 3600
    with atomic_file(tmp_path / "kept") as living:
        for name in (".tokens.0a1b2c3d4e5f.tmp", "tokens", ".hydra"):
            (tmp_path / name).write_text("")
            os.utime(tmp_path / name, (old, old))
        clear_abandoned(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {living.name, "tokens", ".hydra"}
    clear_abandoned(tmp_path / "nowhere")


def kill_in_the_midst_of_a_swap(target: Path) -> None:
    """A process that is killed where the old folder has made way and the new one is not in its place."""
    program = (
        "import os, signal, sys; from pathlib import Path; from lightning_lora.atomic import atomic_folder\n"
        "plain, calls = Path.rename, []\n"
        "def rename(path, to):\n"
        "    calls.append(path)\n"
        "    if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(path, to)\n"
        "Path.rename = rename\n"
        "with atomic_folder(Path(sys.argv[1])) as folder: (folder / 'weights').write_text('new')\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(target)], check=False).returncode == -9


def test_killed_in_the_midst_of_a_swap_the_old_folder_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "weights").write_text("old")
    kill_in_the_midst_of_a_swap(target)
    assert not target.exists()
    clear_leftovers(tmp_path)
    assert (target / "weights").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with atomic_folder(target) as folder:
        (folder / "weights").write_text("newer")
    assert list(tmp_path.iterdir()) == [target]


def test_a_swap_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "weights").write_text("old")
    plain = Path.rename

    def rename(path: Path, to: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise OSError(errno.EACCES, "refused")
        return plain(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(CannotWriteError), atomic_folder(target) as folder:
        (folder / "weights").write_text("new")
    assert (target / "weights").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_others_may_read_what_they_could_read_if_it_were_written_plainly(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "plain_folder").mkdir()
    with atomic_file(tmp_path / "record") as temporary:
        temporary.write_text("")
    with atomic_folder(tmp_path / "adapter") as temporary:
        (temporary / "config").touch(mode=0o600)
    assert (tmp_path / "adapter" / "config").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "record").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "adapter").stat().st_mode == (tmp_path / "plain_folder").stat().st_mode


WRITERS = {
    "plainly": "temporary.write_bytes(b'x' * 5000)",
    "by torch": "import torch; torch.save(torch.zeros(5000), temporary.open('wb'))",
    "by safetensors": "import torch, safetensors.torch as st; st.save_file({'a': torch.zeros(5000)}, temporary)",
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_costs_nothing_that_was_there_and_is_said_in_a_line(write: str, tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: the write fails in the middle, in a process of its own."""
    target = tmp_path / "record"
    target.write_text("old")
    program = (
        "import resource, signal, sys; from pathlib import Path; from lightning_lora.atomic import atomic_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"with atomic_file(Path(sys.argv[1])) as temporary: {write}\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    result = subprocess.run([sys.executable, "-c", program, str(target)], capture_output=True, text=True, check=False)
    last = result.stderr.splitlines()[-1]
    said = f"CannotWriteError: cannot write {target}: File too large; raise the limit on the size of files (ulimit -f)"
    assert last == f"lightning_lora.atomic.{said}"
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file/record", "cannot write {}: File exists; a part of the path is a file"),
        ("file/below/record", "cannot write {}: Not a directory; a part of the path is a file"),
        ("folder", "cannot write {}: Is a directory; there is a folder of this name"),
        ("folder/..", "cannot write {}: Is a directory; there is a folder of this name"),
        ("n" * 300, "cannot write {}: File name too long; choose a shorter name"),
    ],
)
def test_a_place_that_cannot_be_is_said_in_a_line(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CannotWriteError) as error, atomic_file(tmp_path / name) as temporary:
        temporary.write_text("new")
    assert str(error.value) == message.format(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.parametrize("name", [".", "..", "/", ""])
def test_a_folder_without_a_name_of_its_own_is_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(CannotWriteError, match="Is a directory; there is a folder of this name"),
        atomic_file(Path(name)),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_errors_that_are_not_about_the_write_stay_what_they_are(tmp_path: Path) -> None:
    """What is read inside the block may fail too; a room words that itself."""

    def read(path: Path) -> None:
        try:
            path.read_text()
        except OSError as error:
            raise ValueError("the input is a folder") from error

    with pytest.raises(ValueError, match="the input is a folder"), atomic_file(tmp_path / "record"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "record"):
        (tmp_path / "input").read_text()
    assert list(tmp_path.iterdir()) == []
