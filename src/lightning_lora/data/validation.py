"""Checks a split as it was found and brings it into one form: texts, labels, row ids.

Row numbers in messages are data rows counted from 1; the header of a csv or tsv file is not counted.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Int64, Num
from torch import Tensor

from lightning_lora.data.files import DataError, RawSplit
from lightning_lora.spelling import did_you_mean
from lightning_lora.tasks import Task

IDX = "idx"
_WHOLE = r"(-?[0-9]{1,15})(?:\.0*)?"
UNLABELLED = "label {} marks a row without a label, as in GLUE's test splits; use a labelled split"


@dataclass(frozen=True)
class Split:
    """A checked split.

    Attributes:
        texts: One or two large_string arrays without nulls, in the order of the task's text columns.
        labels: int64 class numbers, or float32 for regression, (rows,).
        idx: The ``idx`` column, or the row number from 0 where there is none; unique, (rows,).
        origin: For messages.
    """

    texts: tuple[pa.Array, ...]
    labels: Num[Tensor, " rows"]
    idx: Int64[Tensor, " rows"]
    origin: str

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int64[Tensor, " taken"]) -> "Split":
        """The split made of these rows, in this order."""
        chosen = pa.array(rows.numpy())
        return Split(tuple(text.take(chosen) for text in self.texts), self.labels[rows], self.idx[rows], self.origin)


def validate(raw: RawSplit, task: Task) -> Split:
    """The split in one form.

    Raises:
        DataError: a missing column (with the nearest that exist), no rows, an empty or missing text, a label that is
            missing, unknown or out of range, a repeated idx; with file, column and row.
    """
    for name in (*task.text_columns, task.label_column):
        if name not in raw.columns:
            raise DataError(
                f"{raw.origin}: no column {name!r}{did_you_mean(name, raw.columns)}; it has {', '.join(raw.columns)}"
            )
    if raw.table.num_rows == 0:
        raise DataError(f"{raw.origin}: no rows")
    texts = tuple(_text(raw, name) for name in task.text_columns)
    _refuse_empty(texts, task, raw)
    if task.is_regression:
        labels = _values(_Column.of(raw, task.label_column), task)
    else:
        labels = _classes(_Column.of(raw, task.label_column), task)
    return Split(texts, labels, _row_ids(raw), raw.origin)


def check_train_labels(split: Split, task: Task) -> None:
    """Refuses a training split in which there is nothing to learn.

    Raises:
        DataError: every row has the same label.
    """
    first = split.labels[0]
    if bool((split.labels == first).all()):
        label = f"{float(first):g}" if task.is_regression else repr(task.labels[int(first)])
        raise DataError(
            f"{split.origin}, column {task.label_column!r}: all {len(split)} training rows have the label {label}, "
            "so there is nothing to learn; check the file, or raise train_rows"
        )


@dataclass(frozen=True)
class _Column:
    values: pa.Array
    name: str
    origin: str

    @classmethod
    def of(cls, raw: RawSplit, name: str) -> "_Column":
        values = raw.table[name].combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # an empty table's column has no chunk to combine
            values = values.chunk(0)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return cls(values, name, raw.origin)

    def refuse(self, wrong: pa.Array, why: str) -> None:
        """Raises with the first row where the mask is true, if there is one; ``{}`` in ``why`` becomes its value."""
        row = pc.index(wrong, pa.scalar(True)).as_py()
        if row >= 0:
            value = self.values[row].as_py()
            raise DataError(f"{self.origin}, column {self.name!r}, row {row + 1}: {why.replace('{}', _short(value))}")


def _text(raw: RawSplit, name: str) -> pa.Array:
    column = _Column.of(raw, name)
    column.refuse(column.values.is_null(), "no text (the value is missing)")
    if not (pa.types.is_string(column.values.type) or pa.types.is_large_string(column.values.type)):
        raise DataError(f"{raw.origin}, column {name!r}: holds {column.values.type}, not text")
    return column.values.cast(pa.large_string())


def _refuse_empty(texts: tuple[pa.Array, ...], task: Task, raw: RawSplit) -> None:
    empty = [pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0) for text in texts]
    if sum(pc.sum(mask).as_py() or 0 for mask in empty) <= task.empty_texts:
        return
    for name, mask in zip(task.text_columns, empty, strict=True):
        _Column.of(raw, name).refuse(mask, "the text is empty; remove the row or give it a text")


def _classes(column: _Column, task: Task) -> Int64[Tensor, " rows"]:
    column.refuse(column.values.is_null(), f"no label; expected one of {_label_list(task)}")
    kind = column.values.type
    # Labels named 1, 2, ... or false, true are meant by name, in whatever type the file holds them.
    if pa.types.is_boolean(kind):
        names = [name.lower() for name in task.labels]
        if sorted(names) == ["false", "true"]:
            by_name = pc.index_in(column.values.cast(pa.string()), pa.array(names))
            return _in_range(column, by_name.cast(pa.int64()), task)
        return _numbered(column, column.values.cast(pa.int8()), task)
    if pa.types.is_integer(kind):
        return _numbered(column, column.values, task)
    if pa.types.is_floating(kind):
        column.refuse(
            pc.invert(pc.equal(column.values, pc.trunc(column.values))),
            f"label {{}} is not a whole number; expected one of {_label_list(task)}",
        )
        out_of_range = f"label {{}} is out of range; expected one of {_label_list(task)}"
        column.refuse(pc.greater_equal(pc.abs(column.values), 2.0**63), out_of_range)
        return _numbered(column, column.values.cast(pa.int64(), safe=False), task)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _named(column, task)
    raise DataError(f"{column.origin}, column {column.name!r}: holds {kind}, not labels")


def _numbered(column: _Column, numbers: pa.Array, task: Task) -> Int64[Tensor, " rows"]:
    """Whole numbers as labels: names where all labels are whole numbers, else positions."""
    if _named_by_numbers(task):
        return _named(_Column(numbers.cast(pa.string()), column.name, column.origin), task)
    return _in_range(column, numbers.cast(pa.int64(), safe=False), task)  # beyond 63 bits negative, and out of range


def _named(column: _Column, task: Task) -> Int64[Tensor, " rows"]:
    whole = _named_by_numbers(task)
    values, names = column.values, pa.array(task.labels, column.values.type)
    if whole:  # 1 may be written 1.0, as pandas writes whole numbers beside a missing one
        values, names = (pc.replace_substring_regex(part, rf"^{_WHOLE}$", r"\1") for part in (values, names))
    positions = pc.index_in(values, names)
    if positions.null_count == 0:
        return torch.from_numpy(positions.to_numpy(zero_copy_only=False).astype(np.int64))
    if positions.null_count == len(positions) and not whole:
        numbers = pc.match_substring_regex(column.values, r"^[+-]?[0-9]{1,15}(\.0*)?$")
        if pc.all(numbers).as_py():
            return _in_range(column, column.values.cast(pa.float64()).cast(pa.int64()), task)
        wrong = pc.invert(numbers)
    else:
        wrong = positions.is_null()
    value = column.values[pc.index(wrong, pa.scalar(True)).as_py()].as_py()
    column.refuse(
        wrong, f"label {{}} is unknown{did_you_mean(value, task.labels)}; expected one of {_label_list(task)}"
    )
    raise AssertionError("a wrong label has a row")


def _in_range(column: _Column, numbers: pa.Array, task: Task) -> Int64[Tensor, " rows"]:
    wrong = pc.or_(pc.less(numbers, 0), pc.greater_equal(numbers, len(task.labels)))
    column.refuse(pc.and_(wrong, pc.equal(numbers, -1)), UNLABELLED)
    column.refuse(wrong, f"label {{}} is out of range; expected one of {_label_list(task)}")
    return torch.from_numpy(numbers.to_numpy(zero_copy_only=False).copy())


def _values(column: _Column, task: Task) -> Num[Tensor, " rows"]:
    column.refuse(column.values.is_null(), "no label; expected a number")
    kind = column.values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        numbers = pa.array([_number(text) for text in column.values.to_pylist()], pa.float64())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = column.values.cast(pa.float64(), safe=False)
    else:
        raise DataError(f"{column.origin}, column {column.name!r}: holds {kind}, not numbers")
    # What is left of 1e39 in fp32 is infinite.
    column.refuse(pc.invert(pc.is_finite(numbers.cast(pa.float32()))), "label {} is not a finite number in fp32")
    if task.label_range is not None:
        low, high = task.label_range
        wrong = pc.or_(pc.less(numbers, low), pc.greater(numbers, high))
        column.refuse(pc.and_(wrong, pc.equal(numbers, -1)), UNLABELLED)
        column.refuse(wrong, f"label {{}} is out of range; expected {low:g} to {high:g}")
    return torch.from_numpy(numbers.to_numpy(zero_copy_only=False).astype(np.float32))


def _row_ids(raw: RawSplit) -> Int64[Tensor, " rows"]:
    if IDX not in raw.columns:
        return torch.arange(raw.table.num_rows)
    column = _Column.of(raw, IDX)
    wanted = f"the column {IDX!r} names each row in the predictions: whole numbers of up to 18 digits, each once"
    column.refuse(column.values.is_null(), f"no value; {wanted}")
    if pa.types.is_string(column.values.type):
        column.refuse(pc.invert(pc.match_substring_regex(column.values, r"^-?[0-9]{1,18}$")), f"{{}}; {wanted}")
    elif not pa.types.is_integer(column.values.type):
        raise DataError(f"{raw.origin}, column {IDX!r}: holds {column.values.type}; {wanted}")
    numbers = column.values.cast(pa.int64(), safe=False)
    if pa.types.is_uint64(column.values.type):
        column.refuse(pc.less(numbers, 0), f"{{}}; {wanted}")
    ids = numbers.to_numpy(zero_copy_only=False).copy()
    _, first = np.unique(ids, return_index=True)
    repeated = np.ones(len(ids), dtype=bool)
    repeated[first] = False
    column.refuse(pa.array(repeated), f"{{}} was there before; {wanted}")
    return torch.from_numpy(ids)


def _label_list(task: Task) -> str:
    return ", ".join(f"{number}={name}" for number, name in enumerate(task.labels))


def _named_by_numbers(task: Task) -> bool:
    return all(re.fullmatch(_WHOLE, name) for name in task.labels)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
