"""Runs in lines: what users wrote stands there as they wrote it, and a damaged record hides no other."""

import io
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from rich.console import Console
from synthetic_runs import write_sweep

from lightning_lora.reporting import RunRecord, print_runs, print_summary, read_record, write_record

BRACKETS = "cannot read [/data/x] lora.modules=[query,valu] [red]c[/red]"


def printed_runs(below: Path) -> str:
    file = io.StringIO()
    print_runs(below, Console(file=file))
    return file.getvalue()


def test_brackets_in_an_error_are_no_markup(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"qv": 0.75}, seeds=1)
    record = replace(read_record(tmp_path / "qv-0"), status="failed", error=BRACKETS, task="[bold]", parameters={})
    file = io.StringIO()
    print_summary(record, tmp_path / "qv-0", Console(file=file, width=200))
    assert BRACKETS in file.getvalue()
    assert "[bold]: failed" in file.getvalue()


def resume_command(folder: Path) -> str:
    folder.mkdir(parents=True)
    record = RunRecord(job_id="0", status="interrupted", config={}, task="t", metric="m")
    file = io.StringIO()
    print_summary(record, folder, Console(file=file, width=40))
    return file.getvalue().splitlines()[-1].removeprefix("go on with: ")


AWKWARD = ["a, b", "(1)", "[x]", "{k: v}", "seed=0", "~a#b&c", "größe", "it's", 'a"b', 'a\\"b', " x "]
NAMES = ["a run", "8", "1e3", "null", ":100:", "a\\b", "end\\", *AWKWARD, *(f"runs/{name}" for name in AWKWARD)]


@pytest.mark.parametrize("name", NAMES)
def test_shell_and_hydra_read_the_folder_of_a_run_to_go_on_with(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    *program, word = shlex.split(resume_command(Path(name)))
    override = OverridesParser.create().parse_override(word)
    assert program == ["python", "train.py"]
    assert (override.key_or_group, override.value()) == ("resume", name)
    if name in AWKWARD:
        assert not is_read_without_quotes(name), "the control"


def is_read_without_quotes(text: str) -> bool:
    try:
        return bool(OverridesParser.create().parse_override(f"resume={text}").value() == text)
    except HydraException:
        return False


def test_a_plain_folder_has_no_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = "runs/2026-11-24/09-30-00-123456"
    assert resume_command(Path(folder)) == f"python train.py resume={folder}"


def test_brackets_in_a_folders_name_are_no_markup(tmp_path: Path) -> None:
    write_sweep(tmp_path / "lora.modules=[query,value]", {"qv": 0.75}, seeds=1)
    assert "lora.modules=[query,value]/qv-0" in printed_runs(tmp_path)


def test_in_a_narrow_terminal_no_name_and_no_score_is_cut(tmp_path: Path) -> None:
    """Two that differ at their ends would be one."""
    write_sweep(tmp_path / "layer_choice_of_a_name_that_is_long", {"qv": 0.75}, seeds=2)
    file = io.StringIO()
    print_runs(tmp_path, Console(file=file, width=60, force_terminal=True, color_system=None))
    _, *lines = file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == [f"layer_choice_of_a_name_that_is_long/qv-{seed}" for seed in (0, 1)]
    scores = [read_record(folder).score for folder in sorted(tmp_path.glob("*/*"))]
    assert [f"{score:.4f}" in line for score, line in zip(scores, lines, strict=True)] == [True, True]


def test_a_torn_record_is_listed_under_the_others(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"qv": 0.75}, seeds=3)
    (tmp_path / "qv-0" / "result.json").write_text("{")
    record = read_record(tmp_path / "qv-1")
    write_record(replace(record, config={"lora": {"method": "lora"}}), tmp_path / "qv-1")
    shown = printed_runs(tmp_path)
    assert "qv-2" in shown
    assert "qv-0/result.json is not a run's record" in shown
    assert "qv-1/result.json has no config.lora.roles" in shown
    shutil.rmtree(tmp_path / "qv-2")
    assert print_runs(tmp_path, Console(file=io.StringIO())) == 2
