from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightning_lora.data.files import DataError, RawSplit
from lightning_lora.data.validation import check_train_labels, validate
from lightning_lora.tasks import TASKS, Task, custom_task

SST2, STSB, RTE, QQP = (TASKS[name] for name in ("sst2", "stsb", "rte", "qqp"))
STARS, BACKWARDS, SIGNS, TRUE_FIRST, FLOATS = (
    custom_task(text_columns=["sentence"], labels=labels)
    for labels in (["1", "2", "3"], ["1", "0"], ["-1", "1"], ["true", "false"], ["1.0", "0.0"])
)


def raw(task: Task, labels: Any, **columns: Any) -> RawSplit:
    rows = len(labels)
    table = pa.table({**{name: ["text"] * rows for name in task.text_columns}, task.label_column: labels, **columns})
    return RawSplit(table, tuple(table.column_names), "train.csv")


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        (SST2, [0, 1, 1], [0, 1, 1]),
        (SST2, pa.array([0, 1], pa.int8()), [0, 1]),
        (SST2, pa.array([0, 1], pa.uint64()), [0, 1]),
        (SST2, [0.0, 1.0], [0, 1]),
        (SST2, [False, True], [0, 1]),
        (SST2, ["0", "1", "1.0"], [0, 1, 1]),
        (SST2, ["positive", "negative"], [1, 0]),
        (SST2, pa.array(["positive", "negative"]).dictionary_encode(), [1, 0]),
        (SST2, pa.array(["positive"], pa.large_string()), [1]),
        (RTE, ["not_entailment", "entailment"], [1, 0]),
        # Labels that are numbers by name are meant by name, in a csv file and in a parquet file alike.
        (STARS, ["1", "3"], [0, 2]),
        (STARS, [1, 3], [0, 2]),
        (STARS, [1.0, 3.0], [0, 2]),
        (STARS, ["1.0", "3.0"], [0, 2]),
        (BACKWARDS, [1.0, 0.0], [0, 1]),
        (BACKWARDS, ["1", "0.0"], [0, 1]),
        (BACKWARDS, [True, False], [0, 1]),
        (FLOATS, [1.0, 0.0], [0, 1]),
        (FLOATS, [1, 0], [0, 1]),
        (FLOATS, [True, False], [0, 1]),
        (FLOATS, ["1", "0.0"], [0, 1]),
        (SIGNS, [-1, 1], [0, 1]),
        (SIGNS, [-1.0, 1.0], [0, 1]),
        (TRUE_FIRST, [True, False], [0, 1]),
        (TRUE_FIRST, ["true", "false"], [0, 1]),
    ],
)
def test_class_labels_in_all_their_spellings(task: Task, labels: Any, expected: list[int]) -> None:
    split = validate(raw(task, labels), task)
    assert split.labels.dtype == torch.int64
    assert split.labels.tolist() == expected


@pytest.mark.parametrize("labels", [[0.5, 5.0], ["0.5", "5"], pa.array([0.5, 5.0], pa.float32())])
def test_regression_labels(labels: Any) -> None:
    split = validate(raw(STSB, labels), STSB)
    assert split.labels.dtype == torch.float32
    assert split.labels.tolist() == [0.5, 5.0]


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (SST2, [0, 1, 2], "train.csv, column 'label', row 3: label 2 is out of range; expected one of 0=negative, 1="),
        (SST2, [0, -2], "row 2: label -2 is out of range"),
        (SST2, pa.array([0, 2**63 + 5], pa.uint64()), "row 2: label 9223372036854775813 is out of range"),
        (SST2, [0.0, 1e29], r"row 2: label 1e\+29 is out of range"),
        (STARS, [1.0, 1e29], r"row 2: label 1e\+29 is out of range"),
        (SST2, [0, -1], "row 2: label -1 marks a row without a label, as in GLUE's test splits"),
        (SST2, ["0", "-1"], "row 2: label '-1' marks a row without a label"),
        (SST2, [1, None], "column 'label', row 2: no label; expected one of"),
        (SST2, [1.0, 0.5], "row 2: label 0.5 is not a whole number"),
        (SST2, [float("nan")], "row 1: label nan is not a whole number"),
        (SST2, [float("inf")], "row 1: label inf is out of range"),
        (SST2, ["positive", "postive"], "row 2: label 'postive' is unknown; did you mean 'positive'"),
        (SST2, ["positive", "1"], "row 2: label '1' is unknown"),
        (SST2, ["1", "", "0"], "row 2: label '' is unknown"),
        (SST2, ["1", "0.5"], "row 2: label '0.5' is unknown"),
        (SST2, [[0], [1]], "column 'label': holds list"),
        (STARS, [1, 0], "row 2: label '0' is unknown.*expected one of 0=1, 1=2, 2=3"),
        (STARS, [1.0, 0.0], "row 2: label '0' is unknown.*expected one of 0=1, 1=2, 2=3"),
        (STSB, [5.0, 5.01], r"row 2: label 5\.01 is out of range; expected 0 to 5"),
        (STSB, [-1.0], r"row 1: label -1\.0 marks a row without a label"),
        (STSB, [1.0, None], "row 2: no label; expected a number"),
        (STSB, ["1", "high"], "row 2: label 'high' is not a finite number"),
        (STSB, [1.0, float("nan")], "row 2: label nan is not a finite number"),
        (custom_task(text_columns=["sentence"]), [1.0, 1e39], r"row 2: label 1e\+39 is not a finite number in fp32"),
        (STARS, [True, False], "row 2: label '0' is unknown"),
        (STSB, [True], "column 'label': holds bool, not numbers"),
        (SST2, pa.array([], pa.int64()), "train.csv: no rows"),
    ],
)
def test_a_wrong_label_is_named_with_column_and_row(task: Task, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        validate(raw(task, labels), task)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", ""], "column 'sentence', row 2: the text is empty"),
        (["a", "b", " \t\n "], "column 'sentence', row 3: the text is empty"),
        ([None, "b"], "column 'sentence', row 1: no text"),
        ([1, 2], "column 'sentence': holds int64, not text"),
    ],
)
def test_a_missing_text_is_named_with_column_and_row(texts: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        validate(raw(SST2, [0, 1, 0][: len(texts)], sentence=texts), SST2)


def test_qqp_may_hold_the_two_empty_questions_it_is_published_with() -> None:
    two, three = ["q", "", ""], ["", "", ""]
    assert len(validate(raw(QQP, [0, 1, 0], question2=two), QQP)) == 3
    with pytest.raises(DataError, match="column 'question2', row 1: the text is empty"):
        validate(raw(QQP, [0, 1, 0], question2=three), QQP)


def test_a_missing_column_names_the_nearest() -> None:
    table = pa.table({"sentance": ["a"], "label": [0]})
    with pytest.raises(DataError, match=r"no column 'sentence'; did you mean 'sentance'\?; it has sentance, label"):
        validate(RawSplit(table, ("sentance", "label"), "train.csv"), SST2)
    with pytest.raises(DataError, match="no column 'label'"):
        validate(RawSplit(pa.table({"sentence": ["a"]}), ("sentence",), "train.csv"), SST2)


def test_idx_is_kept_or_made() -> None:
    assert validate(raw(SST2, [0, 1], idx=pa.array([9, 4], pa.int32())), SST2).idx.tolist() == [9, 4]
    assert validate(raw(SST2, [0, 1], idx=["9", "4"]), SST2).idx.tolist() == [9, 4]
    assert validate(raw(SST2, [0, 1]), SST2).idx.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("idx", "message"),
    [
        ([3, 4, 3], "column 'idx', row 3: 3 was there before"),
        ([1, None, 2], "column 'idx', row 2: no value"),
        (["1", "b", "2"], "column 'idx', row 2: 'b'; "),
        ([0.5, 1.0, 2.0], "column 'idx': holds double"),
        (pa.array([1, 2**63 + 5, 2], pa.uint64()), "column 'idx', row 2: 9223372036854775813; .* up to 18 digits"),
    ],
)
def test_row_ids_must_be_whole_and_unique(idx: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        validate(raw(SST2, [0, 1, 0], idx=idx), SST2)


def test_rows_in_several_chunks_are_counted_through() -> None:
    labels = pa.chunked_array([[0, 1, 0], [1, 7]])
    with pytest.raises(DataError, match="row 5: label 7"):
        validate(raw(SST2, labels), SST2)


def test_take_keeps_text_label_and_id_together() -> None:
    split = validate(raw(SST2, [0, 1, 1], sentence=["a", "b", "c"], idx=[10, 11, 12]), SST2)
    taken = split.take(torch.tensor([2, 0]))
    assert (taken.texts[0].to_pylist(), taken.labels.tolist(), taken.idx.tolist()) == (["c", "a"], [1, 0], [12, 10])


def test_one_class_only_cannot_be_trained_on() -> None:
    with pytest.raises(DataError, match="all 3 training rows have the label 'positive', so there is nothing to learn"):
        check_train_labels(validate(raw(SST2, [1, 1, 1]), SST2), SST2)
    with pytest.raises(DataError, match=r"all 2 training rows have the label 2\.5"):
        check_train_labels(validate(raw(STSB, np.array([2.5, 2.5])), STSB), STSB)
    check_train_labels(validate(raw(SST2, [1, 0]), SST2), SST2)
