import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightning_lora.data.files import READERS, DataError, read_file

AWKWARD = [
    "NA",
    "null",
    "None",
    "nan",
    'a "quoted" word',
    "'tis",
    "2020-01-02",
    "1",
    "comma, tab",
    "é 漢字 🙂",
    "x\\ny",
]
WANTED = ("sentence", "label", "idx")


def write(file: Path, texts: list[str]) -> Path:
    rows = [{"sentence": text, "label": number % 2, "note": "n"} for number, text in enumerate(texts)]
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif file.suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("ending", READERS)
def test_every_format_gives_the_same_text(tmp_path: Path, ending: str) -> None:
    raw = read_file(write(tmp_path / f"train{ending}", AWKWARD), WANTED)
    assert raw.table["sentence"].to_pylist() == AWKWARD
    assert raw.table["sentence"].type == pa.string()
    assert [int(label) for label in raw.table["label"].to_pylist()] == [n % 2 for n in range(len(AWKWARD))]
    assert raw.table.column_names == ["sentence", "label"]
    assert raw.columns == ("sentence", "label", "note")


def test_csv_has_quotes_and_tsv_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('sentence,label\n"two\nlines, one ""text""",1\n')
    assert read_file(tmp_path / "a.csv", WANTED).table["sentence"].to_pylist() == ['two\nlines, one "text"']
    (tmp_path / "a.tsv").write_text('sentence\tlabel\n"it starts\t1\n" it ends"\t0\n')
    assert read_file(tmp_path / "a.tsv", WANTED).table["sentence"].to_pylist() == ['"it starts', '" it ends"']


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    for ending, separator in ((".csv", ","), (".tsv", "\t")):
        file = tmp_path / f"a{ending}"
        file.write_bytes(f"\ufeffsentence{separator}label\r\nhello{separator}1\r\n".encode())
        assert read_file(file, WANTED).table.to_pylist() == [{"sentence": "hello", "label": "1"}]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "label=7"
    folder.mkdir()
    assert read_file(write(folder / "train.parquet", ["a", "b"]), WANTED).table["label"].to_pylist() == [0, 1]


def test_jsonl_fills_gaps_with_missing_values(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"sentence": "a"}\n\n{"label": 1, "sentence": null}\n{"label": 0.5}\n')
    table = read_file(tmp_path / "a.jsonl", WANTED).table
    assert table.to_pydict() == {"sentence": ["a", None, None], "label": [None, 1.0, 0.5]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"sentence,label\na,1\nb\nc,0\n", r"a\.csv, row 2: 1 fields where the header has 2"),
        ("a.tsv", b"sentence\tlabel\na\t1\nb\t0\tmore\n", r"a\.tsv, row 2: 3 fields where the header has 2"),
        ("a.csv", b"sentence,label\ncaf\xe9,1\n", r"a\.csv: cannot be read as csv in UTF-8"),
        ("a.csv", b"sent\xe9nce,label\n", r"a\.csv: cannot be read as csv in UTF-8"),
        ("a.jsonl", b'{"sentence": "caf\xe9"}\n', r"a\.jsonl: cannot be read as jsonl in UTF-8"),
        ("a.csv", b"sentence,sentence\na,b\n", "the header has the column 'sentence' twice"),
        ("a.csv", b"", "the file is empty"),
        ("a.jsonl", b"\n", "the file is empty"),
        ("a.jsonl", b'{"sentence": "a"}\n\n{"sentence": "b"\n', r"a\.jsonl, row 2: not JSON"),
        ("a.jsonl", b'["a", 1]\n', "row 1: each line must be an object"),
        ("a.jsonl", b'{"label": 1}\n{"label": "one"}\n', "column 'label', row 2: 'one' is of another type"),
        (
            "a.jsonl",
            b'{"label": 1}\n{"label": 1' + b"0" * 30 + b"}\n",
            "column 'label', row 2: 1000+ is beyond 64 bits",
        ),
        ("a.jsonl", b'{"label": 0.5}\n{"label": 1' + b"0" * 400 + b"}\n", "'label', row 2: 1000.* is beyond 64 bits"),
        ("a.jsonl", b'{"label": 1}\n{"label": "\\udc00"}\n', "row 2: .*udc00' is half of a surrogate pair"),
        ("a.csv", b'label,sentence\n1,a\n0,"open\n1,b\n', "row 2: a quotation mark is opened and never closed"),
        ("a.csv", b'sentence\na\n"open\nb\n', "row 2: a quotation mark is opened and never closed"),
        ("a.csv", b'"sentence,label\na,1\n', "header: a quotation mark is opened and never closed"),
        ("a.csv", b'sentence,label\n"open,0\nb,1\nc,0\n"open,1\nd,0\n', "row 1: a text goes on behind its closing"),
        ("a.csv", b'sentence,label\na,1\n"Great" film,0\n', "row 2: a text goes on behind its closing"),
        ("a.parquet", b"", r"a\.parquet: cannot be read as parquet"),
        ("a.xlsx", b"", r"\.xlsx is not one of the endings \.parquet, \.csv, \.tsv, \.jsonl"),
    ],
)
def test_a_broken_file_is_named_with_its_row(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_file(tmp_path / name, WANTED)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ['a 5" pipe', '5"', 'a 5" pipe and a 6" one'])
def test_an_inch_mark_in_a_text_is_no_quotation_mark(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(f"sentence,label\n{text},1\n")
    assert read_file(tmp_path / "a.csv", WANTED).table["sentence"].to_pylist() == [text]


def test_a_quoted_text_may_be_longer_than_csv_takes_by_itself(tmp_path: Path, csv_limit: int) -> None:
    texts = ["word, " * csv_limit, "b"]
    assert read_file(write(tmp_path / "a.csv", texts), WANTED).table["sentence"].to_pylist() == texts


def test_bytes_in_parquet_that_are_no_text_are_refused(tmp_path: Path) -> None:
    text = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"sentence": text}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as parquet in UTF-8 .*Invalid UTF8"):
        read_file(tmp_path / "a.parquet", WANTED)


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.999])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, kept: float) -> None:
    whole = write(tmp_path / "train.parquet", AWKWARD).read_bytes()
    (tmp_path / "train.parquet").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read as parquet"):
        read_file(tmp_path / "train.parquet", WANTED)
