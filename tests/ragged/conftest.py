"""The embedded encoder without dropout, so that two ways to compute one run can be compared."""

import json
import shutil
from pathlib import Path

import pytest

from lightning_lora.lengths import PaddingCost


@pytest.fixture(autouse=True)
def _tiny_texts_in_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """At what groups really cost, the texts of these tests would all be in one."""
    monkeypatch.setattr("lightning_lora.ragged.layout.ATTENTION", PaddingCost(group=20.0, token=0.0))


TINY_ENCODER = Path(__file__).resolve().parents[2] / "src" / "lightning_lora" / "tiny_encoder"


@pytest.fixture
def without_dropout(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(TINY_ENCODER, tmp_path / "encoder"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
