"""A folder whose weights are of another model than its config.json: parts of it would train from nothing."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lightning_lora.backbone import load_backbone
from lightning_lora.model_names import EMBEDDED_FOLDER
from lightning_lora.tasks import TASKS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(EMBEDDED_FOLDER, tmp_path / "encoder")
    assert load_backbone(str(tmp_path / "encoder"), TASKS["sst2"]).new_parameters, "a head"
    return tmp_path / "encoder"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("num_hidden_layers", r"the checkpoint holds nothing of bert\.encoder\.layer\.{}; it is of another model"),
        (
            "intermediate_size",
            r"bert\.encoder\.layer\.0\.intermediate\.dense\.bias is \({},\) where config\.json makes it",
        ),
        ("vocab_size", r"bert\.embeddings\.word_embeddings\.weight is \({}, .* they do not belong together"),
    ],
)
def test_a_body_of_another_size_is_refused(setting: str, said: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {setting: config[setting] + 1}))
    with pytest.raises(ValueError, match=said.format(config[setting])):
        load_backbone(str(folder), TASKS["sst2"])


def test_parameters_under_other_names_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    renamed = {f"student.{name}": value for name, value in load_file(weights).items()}
    save_file(renamed, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=r"nothing of bert\.encoder\.layer\.0; .* its parameters have other names"):
        load_backbone(str(folder), TASKS["sst2"])
