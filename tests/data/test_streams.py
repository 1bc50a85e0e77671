"""Rows in, rows out, in order and a part at a time."""

import datetime
import io
import json
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightning_lora.data.files import DataError
from lightning_lora.data.streams import CHUNK_ROWS, row_writer, stream_rows

ROWS = [{"text": f'row {i}, with "quotes",\nand a line', "number": i} for i in range(2 * CHUNK_ROWS + 5)]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_pandas_reads_what_is_written_and_what_is_written_comes_back(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"rows.{ending}"
    with row_writer(str(file)) as write:
        for row in ROWS:
            write(row)
    frame = {
        "csv": pd.read_csv,
        "jsonl": lambda path: pd.read_json(path, lines=True),
        "parquet": pd.read_parquet,
    }[ending](file)
    assert frame.to_dict("records") == ROWS
    back = list(stream_rows(str(file)))
    expected = [{**row, "number": str(row["number"])} for row in ROWS] if ending == "csv" else ROWS
    assert back == expected


def test_a_text_may_be_longer_than_csv_takes_by_itself(tmp_path: Path, csv_limit: int) -> None:
    rows = [{"text": "word, " * csv_limit}, {"text": "b"}]
    file = tmp_path / "rows.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    assert list(stream_rows(str(file))) == rows


def test_tsv_has_no_quoting_as_in_glue(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text('sentence\tlabel\nhe said "no\t1\n', encoding="utf-8")
    assert list(stream_rows(str(file))) == [{"sentence": 'he said "no', "label": "1"}]


def test_tsv_comes_back_as_it_was_and_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    file, rows = tmp_path / "rows.tsv", [{"sentence": 'he said "no', "label": "'1"}]
    with row_writer(str(file)) as write:
        write(rows[0])
    assert list(stream_rows(str(file))) == rows
    for refused in ({"sentence": "a\tb"}, {"sen\ttence": "a"}):
        with pytest.raises(DataError, match=r"a tab or a line break.*write \.csv"), row_writer(str(file)) as write:
            write(refused)


def test_a_column_that_comes_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label,text\ngood,1,bad\n")
    names = ["text", "label", "text"]
    pq.write_table(
        pa.Table.from_arrays([pa.array([value]) for value in ("good", 1, "bad")], names), tmp_path / "r.parquet"
    )
    for source in (file, tmp_path / "r.parquet"):
        with pytest.raises(DataError, match="has the column 'text' twice"):
            list(stream_rows(str(source)))


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ({"n": 1, "extra": 2}, "columns n, extra, the first has n"),
        ({"n": 1.5}, "'n' is int64 in the first rows and double"),
    ],
)
def test_parquet_loses_nothing_behind_the_first_chunk(later: dict[str, object], said: str, tmp_path: Path) -> None:
    def write_all() -> None:
        with row_writer(str(tmp_path / "rows.parquet")) as write:
            for row in [{"n": 1}] * CHUNK_ROWS + [later]:
                write(row)

    with pytest.raises(DataError, match=said):
        write_all()
    assert not (tmp_path / "rows.parquet").exists()


@pytest.mark.parametrize("rows", [[{"n": 10**29}], [{"n": 1}, {"n": "one"}]])
def test_what_no_column_of_parquet_can_hold_is_refused(rows: list[dict[str, object]], tmp_path: Path) -> None:
    def write_all() -> None:
        with row_writer(str(tmp_path / "rows.parquet")) as write:
            for row in rows:
                write(row)

    with pytest.raises(DataError, match=r"a value fits into no column of parquet .*; write \.jsonl"):
        write_all()


def test_dates_become_text_in_json(tmp_path: Path) -> None:
    with row_writer(str(tmp_path / "rows.jsonl")) as write:
        write({"day": datetime.date(2026, 1, 2)})
    assert list(stream_rows(str(tmp_path / "rows.jsonl"))) == [{"day": "2026-01-02"}]


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """The broken last line is no matter until it is reached."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n\n{"a": 2}\nnonsense\n', encoding="utf-8")
    rows = stream_rows(str(file))
    assert [next(rows), next(rows)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(DataError, match=r"rows\.jsonl, row 3: not JSON"):
        next(rows)


def standard_input(content: bytes) -> io.TextIOWrapper:
    """As it is in a locale that is not of UTF-8."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="latin-1")


def test_standard_input_that_is_not_utf8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", standard_input('{"a": "ä"}\n'.encode("latin-1")))
    with pytest.raises(DataError, match="standard input: cannot be read as jsonl in UTF-8"):
        list(stream_rows("-"))


def test_standard_input_and_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", standard_input('{"a": "ä"}\n{"a": 2}\n'.encode()))
    with row_writer("-") as write:
        for row in stream_rows("-"):
            write(row)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"a": "ä"}, {"a": 2}]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_an_error_leaves_no_file(ending: str, tmp_path: Path) -> None:
    def broken() -> None:
        with row_writer(str(tmp_path / f"rows.{ending}")) as write:
            write({"a": 1})
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        broken()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.txt", "a\n", r"\.txt is not one of the endings"),
        ("rows.csv", "", "the file is empty"),
        ("rows.csv", "a,b\n1,2\n1\n", "row 2: 1 fields where the header has 2"),
        ("rows.csv", 'a\nb\n"open\n', "row 2: a quotation mark is opened and never closed"),
        ("rows.csv", '"a,b\n1,2\n', "header: a quotation mark is opened and never closed"),
        ("rows.jsonl", '{"a": "\\ud800"}\n', "row 1: .*ud800' is half of a surrogate pair"),
        ("rows.jsonl", "[" * 100_000, "row 1: not JSON"),
        ("rows.jsonl", '{"a": ' + "1" * 5000 + "}", "row 1: not JSON .*4300 digits"),
        ("rows.jsonl", "[1]\n", "row 1: each line must be an object"),
        ("rows.parquet", "PAR1 and no more", "cannot be read as parquet"),
    ],
)
def test_a_broken_file_is_one_clear_line(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said) as caught:
        list(stream_rows(str(tmp_path / name)))
    assert "\n" not in str(caught.value)


def test_what_is_not_there_or_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(stream_rows(str(tmp_path / "none.csv")))
    (tmp_path / "latin.csv").write_bytes("a\nnaïve\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        list(stream_rows(str(tmp_path / "latin.csv")))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_of_other_columns_are_refused_where_the_format_has_one_header(ending: str, tmp_path: Path) -> None:
    with row_writer(str(tmp_path / f"rows.{ending}")) as write:
        write({"a": 1})
        with pytest.raises(DataError, match="columns b, the first has a"):
            write({"b": 1})


def test_parquet_without_rows_is_a_file_too(tmp_path: Path) -> None:
    with row_writer(str(tmp_path / "none.parquet")):
        pass
    assert pq.read_table(tmp_path / "none.parquet").equals(pa.table({}))
