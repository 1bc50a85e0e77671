import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from lightning_lora.data.files import DataError
from lightning_lora.data.sources import load_splits
from lightning_lora.data.splits import read_splits
from lightning_lora.data.validation import validate
from lightning_lora.tasks import TASKS, TOY_TASKS, custom_task

SST2, MNLI = TASKS["sst2"], TASKS["mnli"]


def write(file: Path, rows: int = 3) -> Path:
    table = pa.table(
        {"sentence": [f"{file.stem} {row}" for row in range(rows)], "label": [row % 2 for row in range(rows)]}
    )
    if file.suffix == ".csv":
        pacsv.write_csv(table, file)
    else:
        pq.write_table(table, file)
    return file


def provenance(glue: Path) -> dict[tuple[str, str], tuple[int, str]]:
    """(rows, label counts) of each split, from the table in PROVENANCE.md."""
    rows = {}
    for line in (glue / "PROVENANCE.md").read_text().splitlines():
        cells = [cell.strip(" *") for cell in line.split("|")]
        if len(cells) > 5 and re.match(r"\d+", cells[3]):
            rows[cells[1], cells[2]] = int(re.match(r"\d+", cells[3])[0]), cells[5]
    return rows


@pytest.mark.parametrize("name", sorted(set(TASKS) - TOY_TASKS))
def test_glue_loads_with_the_recorded_counts(name: str, glue: Path) -> None:
    task, recorded = TASKS[name], provenance(glue)
    splits = {split: validate(raw, task) for split, raw in load_splits(task, glue).items()}
    assert list(splits) == [task.train_split, *task.dev_splits]
    for split, data in splits.items():
        rows, counts = recorded[name, split]
        assert len(data) == rows
        if task.is_regression:
            mean = float(re.search(r"mean ([\d.]+)", counts)[1])
            assert data.labels.double().mean().item() == pytest.approx(mean, abs=5e-4)
        else:
            assert " ".join(f"{label}:{n}" for label, n in enumerate(data.labels.bincount().tolist())) == counts


def test_the_folder_of_one_task_is_the_same_as_the_folder_above(glue: Path) -> None:
    above, itself = load_splits(TASKS["rte"], glue), load_splits(TASKS["rte"], str(glue / "rte"))
    assert {split: raw.table for split, raw in above.items()} == {split: raw.table for split, raw in itself.items()}


@pytest.mark.parametrize("name", sorted(TOY_TASKS))
def test_toy_tasks_need_no_path(name: str) -> None:
    task = TASKS[name]
    splits = {split: validate(raw, task) for split, raw in load_splits(task).items()}
    assert list(splits) == ["train", "validation"]
    assert len(splits["train"]) > len(splits["validation"]) > 0
    assert set(zip(*(text.to_pylist() for text in splits["train"].texts), strict=True))


def test_one_file_is_the_split_it_is_named_after(tmp_path: Path) -> None:
    for name in ("train.csv", "validation.csv", "reviews.csv", "validation.parquet"):
        write(tmp_path / name)
    (tmp_path / "train.csv").rename(tmp_path / "train.csv.bak")

    def origins(name: str) -> list[str]:
        return [Path(raw.origin).name for raw in load_splits(SST2, tmp_path / name).values()]

    assert origins("reviews.csv") == ["reviews.csv", "validation.csv"]
    (tmp_path / "train.csv.bak").rename(tmp_path / "train.csv")
    assert origins("train.csv") == ["train.csv", "validation.csv"]
    assert origins("validation.parquet") == ["train.csv", "validation.parquet"]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("train.csv", "train.csv"),
        ("validation.csv", "train.csv"),
        ("validation.csv", None),
        ("reviews.csv", "reviews.csv"),
    ],
)
def test_a_dev_file_is_not_trained_on_where_rows_are_held_out(tmp_path: Path, name: str, read: str | None) -> None:
    file = write(tmp_path / name)
    if read is None:
        with pytest.raises(DataError, match=r"validation\.csv is one split; the split 'train' is missing beside it"):
            read_splits(SST2, file, 0.5)
        return
    write(tmp_path / read, rows=4)
    splits = read_splits(SST2, file, 0.5)
    assert {split: Path(rows.origin).name for split, rows in splits.items()} == {"train": read, "held_out": read}
    assert [len(rows) for rows in splits.values()] == [2, 2]


def test_a_single_file_without_the_other_split_tells_what_is_missing(tmp_path: Path) -> None:
    file = write(tmp_path / "reviews.csv")
    with pytest.raises(DataError, match=r"reviews\.csv is one split; the split 'validation' is missing beside it.*csv"):
        load_splits(SST2, file)


def test_a_missing_dev_split_is_named(glue: Path, tmp_path: Path) -> None:
    for split in ("train", "validation_matched"):
        shutil.copy(glue / "mnli" / f"{split}.parquet", tmp_path)
    message = r"the split 'validation_mismatched' is missing; expected .*; there is train.parquet, validation_matched"
    with pytest.raises(DataError, match=message):
        load_splits(MNLI, tmp_path)


def test_a_split_in_two_formats_is_refused_unless_one_is_named(tmp_path: Path) -> None:
    for name in ("train.csv", "train.parquet", "validation.csv"):
        write(tmp_path / name)
    with pytest.raises(DataError, match=r"the split 'train' is there as train\.parquet and train\.csv; keep one"):
        load_splits(SST2, tmp_path)
    assert load_splits(SST2, tmp_path / "train.csv")["train"].origin.endswith("train.csv")


def test_an_empty_folder_and_a_wrong_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file for task sst2 in it or in sst2/; expected train.*there is nothing"):
        load_splits(SST2, tmp_path)
    with pytest.raises(DataError, match="absent: no such file or folder"):
        load_splits(SST2, tmp_path / "absent")
    (tmp_path / "data.xlsx").touch()
    write(tmp_path / "validation.csv")
    with pytest.raises(DataError, match=r"\.xlsx is not one of the endings"):
        load_splits(SST2, tmp_path / "data.xlsx")


def test_a_custom_task_has_no_source_but_a_path(tmp_path: Path) -> None:
    task = custom_task(text_columns=["sentence"], labels=["a", "b"], dev_splits=["dev"])
    with pytest.raises(DataError, match=r"task custom has no source of its own: give data\.path"):
        load_splits(task)
    write(tmp_path / "train.parquet")
    write(tmp_path / "dev.csv")
    assert [raw.table.num_rows for raw in load_splits(task, tmp_path).values()] == [3, 3]
