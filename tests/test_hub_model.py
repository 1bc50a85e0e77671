"""A base model from the hub, a stand-in on this machine: one process asks for it once, and stays with its commit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import hub
from safetensors.torch import load_file, save_file
from train_command import ENVIRONMENT, WORDS, to_the_end

import lightning_lora
from lightning_lora.backbone import load_backbone
from lightning_lora.reporting import read_record
from lightning_lora.tasks import TASKS

LOAD = """
import json, sys
from lightning_lora.backbone import _commits, load_backbone
from lightning_lora.tasks import TASKS
loaded = [load_backbone("someone/tiny", TASKS["toy_sentiment"]) for _ in range(int(sys.argv[1]))]
print(json.dumps([[backbone.fingerprint, *_commits.values()] for backbone in loaded]))
"""

RESTORE = """
import json, sys
from pathlib import Path
from lightning_lora import restore
backbone = restore(Path(sys.argv[1])).backbone
print(json.dumps([backbone.revision, backbone.fingerprint]))
"""


def process(times: int, cache: Path, address: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", LOAD, str(times)]
    return subprocess.run(command, env=environment, text=True, capture_output=True)


def load(times: int, cache: Path, address: str) -> list[list[str]]:
    done = process(times, cache, address)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    encoder = Path(lightning_lora.__file__).parent / "tiny_encoder"
    shutil.copytree(encoder, tmp_path / "hub" / "models" / "someone" / "tiny")
    return tmp_path / "hub"


def test_the_hub_is_asked_once(root: Path, tmp_path: Path) -> None:
    """But for whether the base has an adapter, which transformers asks with each model."""
    with hub.serve(root) as (address, requests):
        once = load(1, tmp_path / "one", address)
        asked_once = len(requests)
        thrice = load(3, tmp_path / "three", address)
        asked_for_three = len(requests) - asked_once
        load(1, tmp_path / "three", address)
        asked_with_a_cache = len(requests) - asked_once - asked_for_three
    assert thrice == once * 3
    assert once[0][1] == hub.COMMIT
    assert 0 < asked_for_three - asked_once <= 2
    assert all("adapter_config" in request for request in requests[2 * asked_once : asked_once + asked_for_three])
    assert asked_with_a_cache > 1, "the control: the local cache alone does not keep a process from asking"


def test_another_revision_is_trained_on_recorded_and_restored(root: Path, tmp_path: Path) -> None:
    main = root / "models" / "someone" / "tiny"
    other = Path(shutil.copytree(main, main.with_name("tiny@v2")))
    weights = load_file(other / "model.safetensors")
    weights["bert.encoder.layer.0.output.dense.weight"] *= 2
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    expected, control = (load_backbone(str(folder), TASKS["toy_sentiment"]).fingerprint for folder in (other, main))
    assert expected != control

    with hub.serve(root) as (address, requests):
        environment = {**ENVIRONMENT, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}
        words = [*WORDS, "trainer.max_steps=2", "model.name=someone/tiny", "model.revision=v2", "hydra.run.dir=run"]
        trains = {**environment, "HF_HOME": str(tmp_path / "training")}
        status, _, errors = to_the_end(*words, cwd=tmp_path, environment=trains)
        assert status == 0, errors
        asked_in_training = len(requests)
        restores = {**environment, "HF_HOME": str(tmp_path / "restoring")}
        command = [sys.executable, "-c", RESTORE, str(tmp_path / "run")]
        restored = subprocess.run(command, env=restores, text=True, capture_output=True, check=False)
    record = read_record(tmp_path / "run")
    assert (record.base["revision"], record.base["fingerprint"]) == ("v2", expected)
    adapter = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("someone/tiny", "v2")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout.splitlines()[-1]) == ["v2", expected]
    assert len(requests) > asked_in_training, "there was nothing in its cache"
    assert not [request for request in requests if "/main" in request]


def test_a_repository_without_safetensors_is_refused_for_that(root: Path, tmp_path: Path) -> None:
    """Not by advice about settings of transformers, which are none here. The control is the repository with them."""
    folder = root / "models" / "someone" / "tiny"
    said = {}
    with hub.serve(root, remembered=True) as (address, _):
        load(1, tmp_path / "whole", address)
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        said["pickled"] = process(1, tmp_path / "pickled", address).stderr.splitlines()[-1]
        shutil.rmtree(folder)
        said["missing"] = process(1, tmp_path / "missing", address).stderr.splitlines()[-1]
    assert "model.name=someone/tiny: its repository on the hub has no .safetensors weights" in said["pickled"]
    assert "use_safetensors" not in said["pickled"]
    assert "not reachable on the hub" in said["missing"]
