"""Local data files read with pyarrow: parquet, csv, tsv and jsonl.

Words such as "NA", "null" and "None" are text, never missing values. csv has standard quoting; tsv has none, as in
GLUE's own files, where a lone quotation mark is part of a sentence.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from lightning_lora.settings import first_line, shown

LONGEST_FIELD = 2**27
"""Characters of a text in csv and tsv; so much is in memory at most where a quotation mark is never closed."""
QUOTING_ERRORS = {
    "unexpected end of data": "a quotation mark is opened and never closed",
    "',' expected after '\"'": "a text goes on behind its closing quotation mark; write each one inside a text twice",
}


class DataError(ValueError):
    """The data is not what the task needs; the message names the file and, where there is one, column and row."""


@dataclass(frozen=True)
class RawSplit:
    """One split as it was found.

    Attributes:
        table: Those of the wanted columns that exist, as found.
        columns: The names of all columns that exist.
        origin: The file, or what stands for it, for messages.
    """

    table: pa.Table
    columns: tuple[str, ...]
    origin: str


def read_file(file: Path, wanted: Iterable[str]) -> RawSplit:
    """The wanted columns of a local file; those that are missing are left out.

    csv and tsv columns are all text; a row is numbered from 1, the header not counted.

    Raises:
        DataError: the file is broken, not UTF-8, of an unknown format, or has a malformed row.
    """
    check_kind(file)
    try:
        table, columns = READERS[file.suffix](file, frozenset(wanted))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as {file.suffix[1:]} in UTF-8 ({first_line(error)})") from error
    return RawSplit(table, columns, str(file))


def check_kind(file: Path) -> None:
    """Raise DataError where a file to read or to write is a folder, or not of a known format by its ending."""
    if file.is_dir():
        raise DataError(f"{file} is a folder; give a file with one of the endings {', '.join(READERS)}")
    if file.suffix not in READERS:
        raise DataError(f"{file}: {file.suffix or 'no ending'} is not one of the endings {', '.join(READERS)}")


def _read_parquet(file: Path, wanted: frozenset[str]) -> tuple[pa.Table, tuple[str, ...]]:
    # ParquetFile, not read_table: that one takes a folder named a=b for a partition and adds columns.
    with pq.ParquetFile(file) as parquet:
        columns = tuple(parquet.schema_arrow.names)
        refuse_repeated_columns(columns, file)
        table = parquet.read(columns=[name for name in columns if name in wanted])
    table.validate(full=True)
    return table, columns


def _read_csv(file: Path, wanted: frozenset[str]) -> tuple[pa.Table, tuple[str, ...]]:
    return _read_delimited(file, wanted, ",", '"')


def _read_tsv(file: Path, wanted: frozenset[str]) -> tuple[pa.Table, tuple[str, ...]]:
    return _read_delimited(file, wanted, "\t", None)


def _read_delimited(
    file: Path, wanted: frozenset[str], delimiter: str, quote: str | None
) -> tuple[pa.Table, tuple[str, ...]]:
    columns = _header(file)
    if quote is not None:
        _refuse_unpaired_quotes(file)
    used = [name for name in columns if name in wanted]
    if not used:
        return pa.table({}), columns
    bad: list[pacsv.InvalidRow] = []

    def remember(row: pacsv.InvalidRow) -> str:
        bad.append(row)
        return "error"

    try:
        table = pacsv.read_csv(
            file,
            # Only the serial reader knows the number of a bad row.
            read_options=pacsv.ReadOptions(use_threads=False),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                quote_char=quote or False,
                newlines_in_values=quote is not None,
                invalid_row_handler=remember,
            ),
            convert_options=pacsv.ConvertOptions(
                include_columns=used,
                column_types={name: pa.string() for name in used},
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if not bad:
            raise
        row = bad[0]
        # pyarrow counts the header as row 1.
        raise DataError(
            f"{file}, row {row.number - 1}: {row.actual_columns} fields where the header has {row.expected_columns}"
        ) from error
    return table.select(used), columns


def delimited_rows(lines: Iterable[str], file: Path) -> Iterator[list[str]]:
    """The header, then the rows, of csv with standard quoting or tsv with none.

    Raises:
        DataError: a row's quotation marks do not pair up; with its number.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))  # of all readers: none has its own
    tabs = file.suffix == ".tsv"
    quoting: Any = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    rows = csv.reader(lines, delimiter="\t" if tabs else ",", quoting=quoting, strict=not tabs)
    number = 0
    try:
        for row in filter(None, rows):
            yield row
            number += 1
    except csv.Error as error:
        reason = QUOTING_ERRORS.get(str(error), error)
        raise DataError(f"{file}, {f'row {number}' if number else 'header'}: {reason}") from error


def _refuse_unpaired_quotes(file: Path) -> None:
    """pyarrow takes all up to the next mark, however many rows on, for one text, and these rows would be lost."""
    # 0.15 s for 100,000 rows of 160 characters, which take pyarrow 0.05 s: only where there is a mark at all.
    if b'"' not in file.read_bytes():
        return
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for _ in delimited_rows(lines, file):
            pass


def _header(file: Path) -> tuple[str, ...]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        columns = tuple(next(delimited_rows(lines, file), ()))
    if not columns:
        raise DataError(f"{file}: the file is empty")
    refuse_repeated_columns(columns, file)
    return columns


def _read_jsonl(file: Path, wanted: frozenset[str]) -> tuple[pa.Table, tuple[str, ...]]:
    # The standard library instead of pyarrow.json: that one turns text that looks like a date into a timestamp, and
    # cannot name the row of an error.
    values: dict[str, list[Any]] = {}
    rows = 0
    with file.open(encoding="utf-8-sig") as lines:
        for line in lines:
            if not line.strip():
                continue
            for name, value in parse_line(line, str(file), rows + 1).items():
                values.setdefault(name, [None] * rows).append(value)
            rows += 1
            for column in values.values():
                if len(column) < rows:
                    column.append(None)
    if not rows:
        raise DataError(f"{file}: the file is empty")
    used = {name: _json_column(column, name, file) for name, column in values.items() if name in wanted}
    return pa.table(used), tuple(values)


def parse_line(line: str, origin: str, row: int) -> dict[str, Any]:
    """One row of JSON lines.

    Raises:
        DataError: it is no JSON object, or holds half a character, which no file in UTF-8 can.
    """
    try:
        record = json.loads(line)
        if "\\u" in line:
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise DataError(f"{origin}, row {row}: {half} is half of a surrogate pair, which is no character") from error
    except (ValueError, RecursionError) as error:  # numbers of more digits, and lists deeper, than Python reads
        raise DataError(f"{origin}, row {row}: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise DataError(f'{origin}, row {row}: each line must be an object such as {{"sentence": "...", "label": 0}}')
    return record


def _json_column(values: list[Any], name: str, file: Path) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds - {int, float} and len(kinds) > 1:
        first = next(kind for kind in map(type, values) if kind is not type(None))
        row = next(row for row, value in enumerate(values, 1) if value is not None and type(value) is not first)
        raise DataError(
            f"{file}, column {name!r}, row {row}: {values[row - 1]!r} is of another type than the rows before"
        )
    try:
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        return pa.array(values)
    except OverflowError as error:
        row = next(row for row, value in enumerate(values, 1) if _is_too_large(value))
        raise DataError(f"{file}, column {name!r}, row {row}: {shown(values[row - 1])} is beyond 64 bits") from error


def _is_too_large(value: Any) -> bool:
    try:
        pa.scalar(value)
    except OverflowError:
        return True
    return False


def refuse_repeated_columns(columns: tuple[str, ...], file: Path) -> None:
    for position, name in enumerate(columns):
        if name in columns[:position]:
            raise DataError(f"{file}: the header has the column {name!r} twice")


READERS: dict[str, Callable[[Path, frozenset[str]], tuple[pa.Table, tuple[str, ...]]]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
}
