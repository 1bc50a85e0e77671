"""The hub, offline: a stand-in server, the snapshot it leaves behind, and nothing at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fakes.hub import serve

CARD = """---
configs:
- config_name: sst2
  data_files:
  - {split: train, path: sst2/train-*}
  - {split: validation, path: sst2/validation-*}
---
"""
LOAD = """
import json
from lightning_lora.data.sources import load_splits
from lightning_lora.tasks import TASKS
try:
    print(json.dumps({split: raw.table.to_pydict() for split, raw in load_splits(TASKS["sst2"]).items()}))
except ValueError as error:
    print(json.dumps(str(error)))
"""
DOWNLOAD = "from huggingface_hub import snapshot_download; snapshot_download('nyu-mll/glue', repo_type='dataset')"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, glue: Path) -> Path:
    root = tmp_path_factory.mktemp("hub")
    folder = root / "datasets" / "nyu-mll" / "glue"
    (folder / "sst2").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for split in ("train", "validation"):
        rows = pq.read_table(glue / "sst2" / f"{split}.parquet").slice(0, 50)
        pq.write_table(rows, folder / "sst2" / f"{split}-00000-of-00001.parquet")
    return root


def expected(glue: Path) -> dict[str, dict[str, list]]:
    return {
        split: pq.read_table(glue / "sst2" / f"{split}.parquet").slice(0, 50).to_pydict()
        for split in ("train", "validation")
    }


def run(code: str, home: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = {**clean, "HF_HOME": str(home), **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


def test_by_hub_name(hub: Path, glue: Path, tmp_path: Path) -> None:
    with serve(hub) as (address, requests):
        loaded = run(LOAD, tmp_path, HF_ENDPOINT=address)
    assert json.loads(loaded) == expected(glue)
    assert any("sst2/train-00000" in request for request in requests)


def test_offline_from_a_downloaded_snapshot(hub: Path, glue: Path, tmp_path: Path) -> None:
    with serve(hub) as (address, _):
        run(DOWNLOAD, tmp_path, HF_ENDPOINT=address)
    assert not (tmp_path / "datasets").exists()
    assert json.loads(run(LOAD, tmp_path, HF_HUB_OFFLINE="1")) == expected(glue)


def test_offline_with_nothing_names_the_three_ways(tmp_path: Path) -> None:
    message = json.loads(run(LOAD, tmp_path, HF_HUB_OFFLINE="1"))
    assert "\n" not in message
    for way in (
        "data.path=<folder or file>",
        "nyu-mll/glue on the hub",
        "hf download --repo-type dataset nyu-mll/glue",
    ):
        assert way in message
