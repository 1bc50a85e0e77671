"""A process that is killed while it writes a file leaves the old one or the new one, whole."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import until

SIZE = 1 << 20


def is_whole(file: Path) -> bool:
    content = file.read_bytes()
    return len(content) == SIZE and content == content[:1] * SIZE


def test_killed_at_any_moment_the_file_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "record"
    program = (
        "import sys; from pathlib import Path; from lightning_lora.atomic import atomic_file\n"
        "print('ready', flush=True)\n"
        f"for n in range(10**6):\n with atomic_file(Path(sys.argv[1])) as t: t.write_bytes(bytes([n % 256]) * {SIZE})\n"
    )
    for attempt in range(5):
        process = subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        until(target.exists, "the first file", pause=0.001)
        time.sleep(0.003 * attempt)
        process.kill()
        process.wait()
        process.stdout.close()
        assert is_whole(target)


@pytest.mark.parametrize(("opened", "whole"), [("atomic_file", True), ("nullcontext", False)], ids=["ours", "control"])
def test_killed_halfway_through_the_file_is_the_old_one(opened: str, whole: bool, tmp_path: Path) -> None:
    target = tmp_path / "record"
    target.write_bytes(b"a" * SIZE)
    program = (
        "import os, signal, sys; from contextlib import nullcontext; from pathlib import Path\n"
        "from lightning_lora.atomic import atomic_file\n"
        f"with {opened}(Path(sys.argv[1])) as path, path.open('wb') as file:\n"
        f"    file.write(b'b' * {SIZE // 2}); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(target)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert is_whole(target) == whole
    assert target.read_bytes()[:1] == (b"a" if whole else b"b")
