"""`lightning-lora report` from the command line."""

import os
import re
from pathlib import Path

import pytest
from synthetic_runs import write_sweep

from lightning_lora.cli import report
from lightning_lora.cli.main import main
from lightning_lora.reporting.exports import FORMS


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    write_sweep(tmp_path / "sweep", {"qv": 0.75, "all": 0.9, "head": 0.6})
    return tmp_path / "sweep"


def test_the_table_of_a_sweep(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(sweep)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy_sentiment on tiny, at rank 8: accuracy in %, 200 dev rows"
    assert [line.split()[0] for line in lines if re.match(r" +(all|qv|head) ", line)] == ["all", "qv", "head"]


def test_several_folders_are_one_report(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(sweep.parent / "more", {"full": 0.8})
    main(["report", str(sweep), str(sweep.parent / "more"), "--reference", "full"])
    printed = capsys.readouterr().out
    assert "full " in printed
    assert re.search(r"all .* \d\d\d\.\d \(", printed)


def test_the_forms_are_those_there_are() -> None:
    assert report.SUFFIXES.keys() == FORMS.keys()


@pytest.mark.parametrize("form", FORMS)
def test_a_file_a_folder_and_the_output_hold_the_same(
    form: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix = report.SUFFIXES[form]
    main(["report", str(sweep), "--format", form])
    printed = capsys.readouterr().out
    main(["report", str(sweep), "--format", form, "--out", str(sweep.parent)])
    main(["report", str(sweep), "--out", str(sweep.parent / "new" / f"table{suffix}")])
    assert capsys.readouterr().out.split() == [
        str(sweep.parent / f"report{suffix}"),
        str(sweep.parent / "new" / f"table{suffix}"),
    ]
    assert (sweep.parent / f"report{suffix}").read_text() == printed
    assert (sweep.parent / "new" / f"table{suffix}").read_text() == printed


def test_a_pipe_is_given_the_report_and_nothing_more(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As --out /dev/stdout is given it, in the midst of which no line may say where it lies."""
    main(["report", str(sweep), "--format", "csv"])
    printed = capsys.readouterr().out
    pipe = sweep.parent / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    main(["report", str(sweep), "--format", "csv", "--out", str(pipe)])
    assert os.read(reader, 2 * len(printed) + 1).decode() == printed
    os.close(reader)
    assert pipe.is_fifo()
    assert capsys.readouterr().out == ""


def test_a_file_to_which_output_is_appended_keeps_what_it_has(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `--out /dev/stdout >> file` asks for."""
    main(["report", str(sweep), "--format", "csv"])
    printed = capsys.readouterr().out
    file = sweep.parent / "log"
    file.write_text("before\n")
    with file.open("a") as stream:
        main(["report", str(sweep), "--format", "csv", "--out", f"/proc/self/fd/{stream.fileno()}"])
    assert file.read_text() == f"before\n{printed}"
    assert capsys.readouterr().out == ""


def test_timings_can_be_left_out(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = sweep.parent / "page.html"
    for flags, shown in (([], True), (["--no-timings"], False)):
        main(["report", str(sweep), "--html", str(page), *flags])
        assert ("training" in capsys.readouterr().out) == shown
        assert ("Training time and peak memory are medians." in page.read_text(encoding="utf-8")) == shown


def test_a_damaged_run_is_listed_and_the_rest_reported(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "qv-0" / "result.json").write_text("{")
    (sweep / "qv-1" / "predictions.parquet").unlink()
    main(["report", str(sweep)])
    printed = capsys.readouterr().out
    assert re.search(rf"left out: {re.escape(str(sweep / 'qv-0'))}: .* is not a run's record", printed)
    assert f"{sweep / 'qv-1'} (qv, seed 1): unusable: " in printed
    assert re.search(r"all +3 ", printed)
    assert re.search(r"qv +1 ", printed)


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        (["nowhere"], ["nowhere: there is no such folder"]),
        (["empty"], ["empty: no run in it or below it"]),
        (["sweep", "--reference", "qw"], ["no option is labelled 'qw'", "'qv'"]),
        (["sweep", "--format", "html"], ["'html'", "markdown"]),
        (["sweep", "--out", "sweep/qv-0/result.json/x.md"], ["cannot write", "a part of the path is a file"]),
        (["sweep", "--out", "page.html"], ["the page is written by --html page.html"]),
        (["sweep", "--out", "table.doc"], ["names no form", ".csv (csv)"]),
        ([], ["DIR"]),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    shows: list[str],
    sweep: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(sweep.parent)
    Path("empty").mkdir()
    with pytest.raises(SystemExit) as exit_info:
        main(["report", *words])
    printed = capsys.readouterr()
    assert exit_info.value.code == 2
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert all(part in printed.err for part in shows), printed.err


@pytest.mark.parametrize("place", [".", "..", "/", "folder.html"])
def test_a_page_cannot_take_the_place_of_a_folder(
    place: str, sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(sweep)
    Path("folder.html").mkdir()
    with pytest.raises(SystemExit) as exit_info:
        main(["report", ".", "--html", place])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == f"error: cannot write {place}: Is a directory; there is a folder of this name\n"


def test_help_explains_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["report", "--help"])
    text = capsys.readouterr().out
    assert exit_info.value.code == 0
    assert all(column in text for column in ("minus best", "p (Holm)", "p (McNemar)", "detectable", "group"))
