"""Predictions keep every row, in order and to the bit."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lightning_lora.reporting import PredictionTable, read_predictions, write_predictions


def predictions(label_type: type = np.int64) -> PredictionTable:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(7, 3)).astype(np.float32)
    return PredictionTable(np.arange(7), generator.integers(0, 3, 7).astype(label_type), logits)


@pytest.mark.parametrize("label_type", [np.int64, np.float32])
def test_round_trip(label_type: type, tmp_path: Path) -> None:
    given = predictions(label_type)
    (path,) = write_predictions({"validation": given}, tmp_path)
    assert path.name == "predictions.parquet"
    back = read_predictions(path)
    for name in ("idx", "labels", "logits"):
        np.testing.assert_array_equal(getattr(back, name), getattr(given, name))
        assert getattr(back, name).dtype == getattr(given, name).dtype


def test_each_dev_split_has_a_file(tmp_path: Path) -> None:
    paths = write_predictions({"matched": predictions(), "mismatched": predictions()}, tmp_path)
    assert [path.name for path in paths] == ["predictions_matched.parquet", "predictions_mismatched.parquet"]
    assert pq.read_table(paths[1]).column_names == ["idx", "label", "logits"]


def test_a_file_that_holds_none_is_refused(tmp_path: Path) -> None:
    (path,) = write_predictions({"validation": predictions()}, tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="holds no predictions"):
        read_predictions(path)
    with pytest.raises(ValueError, match="holds no predictions"):
        read_predictions(tmp_path / "none.parquet")
