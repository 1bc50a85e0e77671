"""The subcommands."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_lora.cli import failure, inspect, main
from lightning_lora.reporting import RunRecord, write_record


def test_without_words_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"]):
        main.main(words)
        text = capsys.readouterr().out
        assert all(f"lightning-lora {command}" in text for command in main.COMMANDS)


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        (["trian"], ["unknown command 'trian'", "'train'"]),
        (["frobnicate"], ["unknown command 'frobnicate'", "train, inspect"]),
        (["train", "rank=0"], ["rank=0", "1 or more"]),
        (["rank=0"], ["rank=0", "1 or more"]),
        (["--multrun"], ["'--multirun'"]),
        (["inspect", "rank=0"], ["rank=0", "1 or more"]),
        (["inspect", "-m", "rank=1,2"], ["inspect takes no --multirun"]),
        (["inspect", "rank=1,2"], ["rank=1,2", "give one value"]),
        (["inspect", "+sweeps=layer_choice"], ["+sweeps=layer_choice", "leave it out"]),
        (["inspect", "lora=qw"], ["lora=qw", "'qv'"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_mistakes(
    words: list[str],
    shows: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        main.main(words)
    printed = capsys.readouterr()
    assert exit_info.value.code == 2
    assert printed.err.startswith("error: ")
    assert len(printed.err.splitlines()) == 1
    assert all(part in printed.err for part in shows), printed.err
    assert not list(tmp_path.iterdir())


def test_the_subcommands_have_their_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["inspect", "--help"])
    assert "lightning-lora inspect model=" in capsys.readouterr().out
    main.main(["train", "--help"])
    assert "python train.py lora=qv rank=8" in capsys.readouterr().out


def test_inspect_shows_the_model_of_a_run_that_would_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"rank": 3, "lora": {"roles": ["up"], "layers": [1]}}
    write_record(RunRecord(job_id="0", status="interrupted", config=settings, task="t", metric="m"), tmp_path)
    main.main(["inspect", f"resume={tmp_path}"])
    adapted = [line for line in capsys.readouterr().out.splitlines() if "rank" in line]
    assert len(adapted) == 1
    assert re.search(r"layer\.1\.intermediate\.dense +up .* rank 3 ", adapted[0])


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["recipes"], ["recipes", "diff"]], ids=" ".join)
def test_output_that_nobody_reads_ends_a_command_quietly(words: list[str]) -> None:
    """As `| head` does, which closes the pipe when it has its lines."""
    program = f"from lightning_lora.cli.main import main; main({words})"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait()) == (b"", 141)
    process.stderr.close()


def test_ctrl_c_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    """Here while it waits for a record to be written."""
    record = tmp_path / "result.json"
    os.mkfifo(record)
    program = f"from lightning_lora.cli.main import main; main(['list', {str(tmp_path)!r}])"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    with record.open("w"):  # waits in turn for the command to open it
        process.send_signal(signal.SIGINT)
        assert (process.communicate()[1], process.returncode) == ("", 130)


def test_a_pipe_to_another_process_that_breaks_keeps_its_traceback() -> None:
    with pytest.raises(BrokenPipeError), failure.answering_for_output():
        raise BrokenPipeError


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["recipes", "diff"]], ids=" ".join)
def test_output_on_a_full_disk_is_one_line_with_the_reason(words: list[str]) -> None:
    program = f"from lightning_lora.cli.main import main; main({words})"
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, check=False)
    reason = b"error: cannot write standard output: No space left on device; free some space"
    assert ended.stderr.startswith(reason), ended.stderr.decode()
    assert (ended.stderr.count(b"\n"), ended.returncode) == (1, 2)


def test_a_full_disk_elsewhere_keeps_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """What is written to standard output arrives."""
    with pytest.raises(OSError, match="No space"), failure.answering_for_output():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert capfd.readouterr().out.strip() == ""


def test_a_report_as_text() -> None:
    module = {"name": "layer.0.query", "roles": ["query"], "in_features": 16, "out_features": 32, "rank": 4}
    totals = {
        "adapter": 192,
        "head": 34,
        "other_trainable": 0,
        "frozen": 1774,
        "total": 2000,
        "trainable_percent": 11.3,
    }
    text = inspect.described({"modules": [{**module, "parameters": 192}], "totals": totals})
    first, *rest = text.splitlines()
    assert first.split() == ["layer.0.query", "query", "16", "->", "32", "rank", "4", "192"]
    assert [line.split()[-1] for line in rest] == ["192", "34", "0", "1,774", "2,000", "11.300%"]
