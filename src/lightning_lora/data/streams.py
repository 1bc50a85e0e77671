"""Rows of a file one after another, and rows to a file as they come: for data that need not fit into memory."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lightning_lora.atomic import atomic_file
from lightning_lora.data.files import DataError, check_kind, delimited_rows, parse_line, refuse_repeated_columns
from lightning_lora.settings import first_line

STANDARD = "-"
"""Stands for standard input or output, as lines of JSON."""
CHUNK_ROWS = 1000

AnyRow = dict[str, Any]
Writer = Callable[[AnyRow], None]


def stream_rows(source: str) -> Iterator[AnyRow]:
    """The rows of a csv, tsv, jsonl or parquet file, or of standard input; only a part of it is in memory at a time.

    Args:
        source: A path, or "-" for JSON lines on standard input, in UTF-8 whatever the locale.

    Raises:
        DataError: there is no such file, it is of another kind, or a row is malformed; with the row's number from 1.
    """
    if source == STANDARD:
        try:
            # Not as the locale says: files are read in UTF-8 everywhere.
            yield from _json_rows(io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig"), "standard input")
        except UnicodeDecodeError as error:
            raise DataError(f"standard input: cannot be read as jsonl in UTF-8 ({error})") from error
        return
    file = Path(source).expanduser()
    check_kind(file)
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as parquet:
                refuse_repeated_columns(tuple(parquet.schema_arrow.names), file)
                for batch in parquet.iter_batches(CHUNK_ROWS):
                    yield from batch.to_pylist()
            return
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from _json_rows(lines, str(file)) if file.suffix == ".jsonl" else _delimited_rows(lines, file)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as {file.suffix[1:]} in UTF-8 ({first_line(error)})") from error


def _json_rows(lines: Iterable[str], origin: str) -> Iterator[AnyRow]:
    for number, line in enumerate(filter(str.strip, lines), start=1):
        yield parse_line(line, origin, number)


def _delimited_rows(lines: Iterable[str], file: Path) -> Iterator[AnyRow]:
    rows = delimited_rows(lines, file)
    header = next(rows, None)
    if not header:
        raise DataError(f"{file}: the file is empty")
    refuse_repeated_columns(tuple(header), file)
    for number, values in enumerate(rows, start=1):
        if len(values) != len(header):
            raise DataError(f"{file}, row {number}: {len(values)} fields where the header has {len(header)}")
        yield dict(zip(header, values, strict=True))


@contextmanager
def row_writer(target: str) -> Iterator[Writer]:
    """A function that writes a row; the file appears, whole, when the block ends without an error.

    Args:
        target: A path that ends in .csv, .tsv, .jsonl or .parquet, or "-" for JSON lines on standard output.

    Raises:
        DataError: another ending, or a row with other columns than the first.
    """
    if target == STANDARD:
        yield lambda row: print(_as_json(row), flush=True)
        return
    file = Path(target).expanduser()
    check_kind(file)
    with atomic_file(file) as temporary:
        if file.suffix == ".parquet":
            with _parquet_writer(temporary) as write:
                yield write
        else:
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                yield _json_writer(stream) if file.suffix == ".jsonl" else _delimited_writer(stream, file)


def _json_writer(stream: IO[str]) -> Writer:
    return lambda row: print(_as_json(row), file=stream)


def _as_json(row: AnyRow) -> str:
    """Dates and the like, which parquet has and JSON has not, as text."""
    return json.dumps(row, ensure_ascii=False, default=str)


def _delimited_writer(stream: IO[str], file: Path) -> Writer:
    """What `stream_rows` reads: csv with standard quoting, tsv with none."""
    header: list[str] = []
    tabs = file.suffix == ".tsv"
    kept: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None} if tabs else {}
    writer = csv.writer(stream, **kept)

    def write(row: AnyRow) -> None:
        try:
            if not header:
                header.extend(row)
                writer.writerow(header)
            _check_columns(row, header, file)
            writer.writerow(row.values())
        except csv.Error as error:
            where = f"{file}: a text, or the name of a column,"
            raise DataError(f"{where} holds a tab or a line break, which tsv cannot hold; write .csv") from error

    return write


@contextmanager
def _parquet_writer(file: Path) -> Iterator[Writer]:
    header: list[str] = []
    waiting: list[AnyRow] = []
    opened: list[pq.ParquetWriter] = []

    def flush() -> None:
        if waiting:
            try:
                table = pa.Table.from_pylist(waiting)
            except (pa.ArrowException, OverflowError) as error:
                raise DataError(f"{file}: a value fits into no column of parquet ({error}); write .jsonl") from error
            if not opened:
                opened.append(pq.ParquetWriter(file, table.schema))
            opened[0].write_table(_of_schema(table, opened[0].schema, file))
            waiting.clear()

    def write(row: AnyRow) -> None:
        if not header:
            header.extend(row)
        _check_columns(row, header, file)
        waiting.append(row)
        if len(waiting) == CHUNK_ROWS:
            flush()

    try:
        yield write
        flush()
    finally:
        for writer in opened:
            writer.close()
    if not opened:
        pq.write_table(pa.table({}), file)


def _of_schema(table: pa.Table, schema: pa.Schema, file: Path) -> pa.Table:
    """The table with the types of the first rows, where nothing is lost by it."""
    for name, found, first in zip(table.column_names, table.schema.types, schema.types, strict=True):
        widened = pa.types.is_integer(found) and pa.types.is_float64(first)
        if found != first and not pa.types.is_null(found) and not widened:
            raise DataError(
                f"{file}: column {name!r} is {first} in the first rows and {found} in later ones; write .jsonl"
            )
    return table.cast(schema)


def _check_columns(row: Mapping[str, Any], expected: list[str], file: Path) -> None:
    if list(row) != expected:
        raise DataError(
            f"{file}: a row has columns {', '.join(row)}, the first has {', '.join(expected)}; write .jsonl"
        )
