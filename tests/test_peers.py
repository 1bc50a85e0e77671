"""What docs/comparison.md says of PEFT and loralib, with the real ones; and every test it names is there."""

import re
from pathlib import Path

import loralib
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")


def loralib_model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """An adapted layer whose delta is not zero, and a head."""
    model = nn.Sequential(loralib.Linear(16, 16, r=2, lora_alpha=4), nn.Linear(16, 2)).to(dtype)
    nn.init.normal_(model[0].lora_B)
    return model


def peft_model(names: tuple[str, ...]) -> PeftModel:
    config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    model = get_peft_model(nn.Sequential(nn.Linear(16, 16)), config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    return model


def test_loralibs_state_has_neither_head_nor_alpha() -> None:
    state = loralib.lora_state_dict(loralib_model())
    assert set(state) == {"0.lora_A", "0.lora_B"}


def test_peft_reads_no_file_of_loralib(tmp_path: Path) -> None:
    torch.save(loralib.lora_state_dict(loralib_model()), tmp_path / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        PeftModel.from_pretrained(nn.Sequential(nn.Linear(16, 16)), str(tmp_path))


def test_loralib_merges_at_eval_and_has_one_adapter() -> None:
    layer: loralib.Linear = loralib_model()[0]
    before = layer.weight.detach().clone()
    layer.eval()
    assert not torch.equal(layer.weight, before)
    assert [name for name, _ in layer.named_parameters() if "lora" in name] == ["lora_A", "lora_B"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_loralib_does_not_come_back_to_where_it_was(dtype: torch.dtype) -> None:
    layer: loralib.Linear = loralib_model(dtype)[0]
    before: Tensor = layer.weight.detach().clone()
    layer.eval()
    layer.train()
    assert not torch.equal(layer.weight, before)
    torch.testing.assert_close(layer.weight.detach(), before, atol=0.05, rtol=0)


def test_peft_combines_without_saying_what_it_cost() -> None:
    model = peft_model(("one", "two"))
    told = model.add_weighted_adapter(["one", "two"], [0.5, 0.5], "both", combination_type="svd", svd_rank=1)
    assert told is None
    assert "both" in model.peft_config


def named_tests(page: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page)


@pytest.mark.parametrize(("file", "test"), named_tests(PAGE))
def test_every_test_that_the_page_names_is_there(file: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_every_cell_has_its_proof() -> None:
    notes = dict(re.findall(r"^\*\*(\d[a-d])\.\*\*(.*?)(?=^\*\*\d[a-d]\.|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if re.match(r"\| \d\.", line)]
    assert len(rows) == 7
    for what, ours, *peers in rows:
        (reference,) = re.findall(r"\[(\d[a-d])\]", ours)
        assert len(named_tests(notes[reference])) >= 2 or what.startswith(" 4"), what
        for cell in peers:
            plain = cell.strip() in {"not its business", "Python"}
            assert plain or all(re.search(r"`|\]\(http", notes[key]) for key in re.findall(r"\[(\d[a-d])\]", cell))
            assert plain or re.search(r"\[\d[a-d]\]", cell), cell
