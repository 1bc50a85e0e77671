"""The examples in docs/adapters.md run; the first has assertions of its own."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_lora import LoraSpec, custom_task, inject_adapter, load_backbone, save_peft_folder
from lightning_lora.conversion import import_peft

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "adapters.md").read_text(encoding="utf-8")
MANY, WITHOUT_A_RUN = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def run(example: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(example, "docs/adapters.md", "exec"), names)
    return names


def test_the_example_of_many_adapters_runs() -> None:
    assert MANY.count("assert ") == 3
    run(MANY)


def test_what_was_imported_is_used_as_the_example_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone("tiny", custom_task(text_columns=["text"], labels=["no", "yes"]))
    model, new = backbone.model.eval(), backbone.new_parameters
    inject_adapter(model, LoraSpec(rank=8), new_parameters=new)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    monkeypatch.chdir(tmp_path)
    save_peft_folder(model, Path("theirs"), base_name="tiny", new_parameters=new)
    import_peft(Path("theirs"), Path("imported"), model="tiny")
    names = run(WITHOUT_A_RUN)
    with torch.inference_mode():
        expected = model(**names["batch"]).logits.softmax(-1)
    torch.testing.assert_close(names["probabilities"], expected)
    without = run(WITHOUT_A_RUN.replace("load_peft_folder(backbone", "(lambda *_, **__: None)(backbone"))
    assert not torch.allclose(without["probabilities"], expected, atol=1e-2), "the control"
