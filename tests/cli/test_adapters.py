"""The commands that convert adapters, on files of the real PEFT and loralib; their mistakes in one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import loralib
import pytest
import torch
from peft import PeftModel
from peft_peer import assert_equal, logits, randomise, trained_by_peft
from test_backbone import BERT_LIKE, save_base
from transformers import AutoModelForSequenceClassification

from lightning_lora.adapters_io import AdapterFacts, load_peft_folder, read_facts, save_peft_folder
from lightning_lora.backbone import load_backbone
from lightning_lora.cli import main
from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec
from lightning_lora.tasks import custom_task

TARGETS = ["query", "value"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny BERT as a checkpoint without a head; its embeddings take the tokens of `logits`."""
    save_base(tmp_path / "base", "BertModel", "bert", {**BERT_LIKE, "vocab_size": 99})
    return tmp_path / "base"


def classifier(base: Path, labels: int) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels).eval()


def command(*words: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from lightning_lora.cli.main import main; main()", *map(str, words)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def test_an_adapter_of_peft_is_imported_head_included_and_peft_opens_the_result(base: Path, tmp_path: Path) -> None:
    model = classifier(base, 3)
    peer = trained_by_peft(model, tmp_path / "peft", target_modules=TARGETS)
    result = command("import-peft", tmp_path / "peft", "--model", base, "--out", tmp_path / "ours")
    assert result.returncode == 0, result.stderr
    assert "2 layers, rank 2, 128 parameters" in result.stdout
    assert "LABEL_0, LABEL_1, LABEL_2" in result.stdout
    assert "51 parameters of the head, 0 others" in result.stdout
    fresh = classifier(base, 3)
    before = logits(fresh)
    opened = PeftModel.from_pretrained(fresh, tmp_path / "ours").eval()
    assert_equal(logits(opened), logits(peer))
    assert not torch.allclose(before, logits(peer), atol=1e-2), "the control: without the adapter they differ"
    facts = read_facts(tmp_path / "ours")
    assert facts is not None
    task = custom_task(text_columns=["text"], labels=["a", "b", "c"])
    assert facts.base_fingerprint == load_backbone(str(base), task).fingerprint


def test_what_was_imported_knows_its_base(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained_by_peft(classifier(base, 2), tmp_path / "peft", target_modules=TARGETS)
    names = ["--labels", "no,yes", "--out", str(tmp_path / "ours")]
    main.main(["import-peft", str(tmp_path / "peft"), "--model", str(base), *names])
    save_base(tmp_path / "other", "BertModel", "bert", {**BERT_LIKE, "vocab_size": 99})
    words = [
        "import-peft",
        str(tmp_path / "ours"),
        "--model",
        str(tmp_path / "other"),
        "--out",
        str(tmp_path / "again"),
    ]
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main.main(words)
    assert "was trained on another base model" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
    main.main([*words, "--force"])
    assert "no, yes" in capsys.readouterr().out, "the names of the labels come from the first import"


def test_an_adapter_of_loralib_is_imported(base: Path, tmp_path: Path) -> None:
    ours, model = classifier(base, 2), classifier(base, 2)
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self
        peer = loralib.Linear(16, 16, r=4, lora_alpha=12)
        peer.weight, peer.bias = attention.query.weight, attention.query.bias
        attention.query = peer
    randomise(p for name, p in model.named_parameters() if "lora_" in name or "classifier" in name)
    head = {name: value for name, value in model.state_dict().items() if "classifier" in name}
    torch.save({**loralib.lora_state_dict(model), **head}, tmp_path / "adapter.bin")
    file, out = tmp_path / "adapter.bin", tmp_path / "ours"
    result = command("import-loralib", file, "--model", base, "--alpha", 12, "--labels", "no,yes", "--out", out)
    assert result.returncode == 0, result.stderr
    assert "1 layers, rank 4, 128 parameters" in result.stdout
    assert "no, yes" in result.stdout
    before = logits(ours)
    opened = PeftModel.from_pretrained(ours, out).eval()
    assert_equal(logits(opened), logits(model.eval()))
    assert not torch.allclose(before, logits(model), atol=1e-2), "the control: without the adapter they differ"


def test_a_runs_adapter_is_exported_as_pefts_two_files(base: Path, tmp_path: Path) -> None:
    backbone = load_backbone(str(base), custom_task(text_columns=["text"], labels=["no", "yes"]))
    model, new = backbone.model.eval(), backbone.new_parameters
    inject_adapter(model, LoraSpec(rank=2), new_parameters=new)
    randomise(parameter for parameter in model.parameters() if parameter.requires_grad)
    facts = AdapterFacts("custom", ("no", "yes"), backbone.fingerprint, backbone.digests)
    save_peft_folder(model, tmp_path / "run" / "adapter", base_name=str(base), new_parameters=new, facts=facts)
    result = command("export-peft", tmp_path / "run", "--out", tmp_path / "plain")
    assert result.returncode == 0, result.stderr
    assert "2 adapted layers" in result.stdout
    assert {path.name for path in (tmp_path / "plain").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    opened = PeftModel.from_pretrained(classifier(base, 2), tmp_path / "plain").eval()
    assert_equal(logits(opened), logits(model))
    ours = load_backbone(str(base), custom_task(text_columns=["text"], labels=["no", "yes"]))
    load_peft_folder(ours.model.eval(), tmp_path / "plain", new_parameters=ours.new_parameters)
    assert_equal(logits(ours.model), logits(model))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "import-peft",
            "the following arguments are required: folder, --model, --out; see lightning-lora import",
        ),
        ("import-peft PEFT --model BASE", "the following arguments are required: --out"),
        ("import-peft PEFT --model BASE --out PEFT", "is there already"),
        ("import-peft PEFT --model BASE --out new --labels no", "'no' is neither a number of labels nor their names"),
        ("import-peft PEFT --model BASE --out new --labels 3", r"classifier.bias has shape [2]; this model takes [3]"),
        ("import-peft PEFT --model ./nowhere --out new", "there is no such folder"),
        ("import-peft nowhere --model BASE --out new", "nowhere/adapter_config.json: cannot be read: No such file"),
        (
            "import-peft HEADLESS --model BASE --out new",
            "the adapter holds no head, so the number of labels is not",
        ),
        ("import-peft HEADLESS --model BASE --out new --labels 2", "no values for classifier.bias"),
        ("import-peft DORA --model BASE --out new", "use_dora=true is not supported"),
        ("import-loralib PEFT/adapter_config.json --model BASE --out new", "required: --alpha"),
        ("import-loralib PEFT/adapter_config.json --model BASE --out new --alpha x", "invalid float value: 'x'"),
        ("import-loralib PEFT/adapter_config.json --model BASE --out new --alpha 4", "not a file of tensors alone"),
        ("import-loralib nowhere --model BASE --out new --alpha 4", "there is no such file"),
        ("import-loralib nowhere --model BASE --out new --alpha 4 --roles qw", "invalid choice: 'qw'"),
        ("export-peft BASE --out new", "holds no adapter, and is none"),
        ("export-peft PEFT --out BASE", "is there already"),
        ("export-peft PEFT --out FILE/new", "cannot write FILE/new: File exists; a part of the path is a file"),
        ("import-peft PEFT --model BASE --out FILE/new", "cannot write FILE/new: File exists"),
        ("export-peft DORA --out new", "use_dora=true is not supported"),
        ("export-peft PEFT --out new --more", "unrecognized arguments: --more"),
    ],
)
def test_mistakes_end_in_one_line_and_write_nothing(
    words: str,
    said: str,
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    trained_by_peft(classifier(base, 2), tmp_path / "peft", target_modules=TARGETS)
    trained_by_peft(classifier(base, 2), tmp_path / "headless", target_modules=TARGETS, task_type=None)
    config = json.loads(Path(shutil.copytree("peft", "dora"), "adapter_config.json").read_text())
    Path("dora/adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    names = {"PEFT": "peft", "BASE": str(base), "HEADLESS": "headless", "DORA": "dora", "FILE": "dora/README.md"}
    for name, path in names.items():
        words, said = words.replace(name, path), said.replace(name, path)
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as exit_info:
        main.main(words.split())
    printed = capsys.readouterr()
    assert (exit_info.value.code, printed.out) == (2, "")
    assert printed.err.startswith("error: ")
    assert len(printed.err.splitlines()) == 1
    assert said in printed.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["import-peft", "export-peft", "import-loralib"])
def test_the_help_has_an_example_and_needs_no_torch(name: str) -> None:
    program = (
        "import sys\nfrom lightning_lora.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: print('status', end.code)\n"
        "print('heavy:', sorted({'torch', 'transformers', 'lightning'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program, name, "--help"], capture_output=True, text=True, check=True)
    assert f"  lightning-lora {name} " in result.stdout
    assert result.stdout.endswith("status 0\nheavy: []\n")
