"""Jobs of one process read a data set once, and anew when a file of it has changed."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from short_runs import short_configuration

from lightning_lora.backbone import load_backbone
from lightning_lora.build import data_module
from lightning_lora.config import DataConfig
from lightning_lora.data.splits import read_splits
from lightning_lora.fingerprints import fingerprints
from lightning_lora.tasks import TASKS

SST2 = TASKS["sst2"]


def write(folder: Path, last: str = "good") -> Path:
    for split in ("train", "validation"):
        texts = ["a film", "a book", f"a {last} play"]
        pq.write_table(pa.table({"sentence": texts, "label": [0, 1, 0]}), folder / f"{split}.parquet")
    return folder


@pytest.mark.parametrize("holdout", [None, 0.4])
def test_rows_are_read_once_and_anew_when_a_file_changes(holdout: float | None, tmp_path: Path) -> None:
    write(tmp_path)
    first, again = (read_splits(SST2, tmp_path, holdout) for _ in range(2))
    assert [again[name] is split for name, split in first.items()] == [True, True]
    assert read_splits(SST2, tmp_path, 0.5)["train"] is not first["train"], "another question"
    again.clear()
    assert read_splits(SST2, tmp_path, holdout).keys() == first.keys(), "what one job does to its dict is its own"

    size = (tmp_path / "train.parquet").stat().st_size
    write(tmp_path, last="poor")
    assert (tmp_path / "train.parquet").stat().st_size == size, "the change does not show in the size"
    texts = [text for split in read_splits(SST2, tmp_path, holdout).values() for text in split.texts[0].to_pylist()]
    assert "a poor play" in texts
    assert "a good play" not in texts


def test_a_relative_path_is_another_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good", "poor"):
        (tmp_path / name / "data").mkdir(parents=True)
        write(tmp_path / name / "data", last=name)
        monkeypatch.chdir(tmp_path / name)
        assert read_splits(SST2, "data", None)["train"].texts[0][2].as_py() == f"a {name} play"


def test_a_missing_file_is_missing_also_when_it_was_there_before(tmp_path: Path) -> None:
    write(tmp_path)
    read_splits(SST2, tmp_path, None)
    (tmp_path / "validation.parquet").unlink()
    with pytest.raises(ValueError, match="the split 'validation' is missing"):
        read_splits(SST2, tmp_path, None)


def test_jobs_of_one_process_share_their_tokens_and_nothing_they_change(tmp_path: Path) -> None:
    config = short_configuration(data=DataConfig(task="toy_sentiment", cache_dir=str(tmp_path)))
    task = config.data.find_task()
    jobs = [data_module(config, task, load_backbone("tiny", task)) for _ in range(3)]
    for job in jobs:
        job.setup()
    _, second, third = (job.train_dataloader().dataset for job in jobs)  # the first has built them
    assert second.tokens is third.tokens
    assert second is not third


def test_a_finished_job_is_of_the_data_that_are_there_now(tmp_path: Path) -> None:
    """The fingerprints that decide whether a job is done anew, in a process that lives on, such as a notebook."""
    config = short_configuration(data=DataConfig(task="sst2", path=str(write(tmp_path))))
    before = fingerprints(config)
    assert fingerprints(config) == before
    status = (tmp_path / "train.parquet").stat()
    write(tmp_path, last="poor")
    os.utime(tmp_path / "train.parquet", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprints(config).data != before.data
