"""The comparison goes on with what it has; its runs themselves are a benchmark's."""

import json
from pathlib import Path

import peft_parity
import pytest


def test_other_seeds_join_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And cost them nothing: the record is written anew from all."""
    trained = []

    def instead(config: peft_parity.RunConfig, **_: bool) -> tuple[dict[str, float], float]:
        trained.append(config.seed)
        return {"f1": 0.5}, 1.0

    monkeypatch.setattr(peft_parity, "train_ours", instead)
    monkeypatch.setattr(peft_parity, "train_peft", instead)
    words = ["peft_parity.py", "--model", "tiny", "--data", str(tmp_path), "--out", str(tmp_path), "--tasks", "mrpc"]
    for seeds in (["0", "1"], ["3"]):
        monkeypatch.setattr("sys.argv", [*words, "--seeds", *seeds])
        peft_parity.main()
    assert trained == [0, 0, 1, 1, 3, 3], "nothing twice"
    record = json.loads((tmp_path / "peft_parity_mrpc_same_masks.json").read_text())
    assert [row["seed"] for row in record["rows"]] == [0, 1, 3]
    assert "--seeds 0 1 3" in record["command"]
