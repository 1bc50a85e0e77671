"""The help names everything there is, and its examples work."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_lora.cli import precheck
from lightning_lora.cli.help import help_text
from lightning_lora.cli.options import groups
from lightning_lora.config import schema_settings

ROOT = Path(__file__).resolve().parents[2]


def test_every_option_and_key_stands_in_the_help() -> None:
    text = help_text()
    options = list((ROOT / "conf").glob("*/*.yaml"))
    assert len(options) > 40
    for path in options:
        assert re.search(rf"^  {path.parent.name}={path.stem} +\S", text, re.MULTILINE), path
    for key in schema_settings():
        assert re.search(rf"^  {re.escape(key)}=.* \S", text, re.MULTILINE), key
    assert "must" not in text
    for word in ("lora=head", "bitfit", "full", "-m rank=1,2,4,8", "+sweeps=", "--cfg job"):
        assert word in text


def test_a_key_says_what_null_means_and_which_names_it_takes() -> None:
    said = " ".join(help_text().split())
    assert "numerator of the scale; null is 2 · rank" in said
    assert "learning rate of the head; null is the same as lr" in said
    assert "; one of alpha_over_rank, alpha_over_sqrt_rank, constant lora.init" in said
    assert "projections to adapt; a list of names among query, key, value, output, up, gate, down" in said
    for key, setting in schema_settings().items():
        (line,) = re.findall(rf"^  {re.escape(key)}=.*(?:\n {{9,}}.*)*", help_text(), re.MULTILINE)
        assert all(len(part) <= 120 for part in line.splitlines())
        assert all(name in line for name in setting.names), key
        assert setting.otherwise in line, key
    assert any(setting.otherwise for setting in schema_settings().values())


def test_the_defaults_are_marked() -> None:
    marked = {line.split()[0] for line in help_text().splitlines() if line.endswith("(default)")}
    (config,) = precheck.check([]).configs
    expected = {"lora=qv", "model=tiny", "data=toy_sentiment", "trainer=default", "logger=wandb", "optim=adamw"}
    assert marked == expected
    assert precheck.check(sorted(marked)).configs == (config,)


def test_typing_the_defaults_as_they_are_shown_changes_nothing() -> None:
    """1 for the batches of an epoch would be one batch, where 1.0 is all of them."""
    shown = re.findall(r"^  ((?:trainer|optim|lora)\.\w+=\S+)", help_text(), re.MULTILINE)
    assert "trainer.limit_train_batches=1.0" in shown
    assert precheck.check([word for word in shown if not word.endswith("=null")]).configs == precheck.check([]).configs


def test_every_option_has_a_description_and_an_example() -> None:
    for group, options in groups().items():
        assert options, group
        for option, description in options.items():
            assert description.endswith((".", "?")), f"{group}={option}"
            assert "  python train.py" not in description
            text = (ROOT / "conf" / group / f"{option}.yaml").read_text()
            assert re.search(
                rf"^#   python train\.py .*\b{group}={option}\b|^#   python train\.py trainer\.", text, re.M
            )


def test_the_examples_pass_the_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    for folder in ("glue/mrpc", "path/to/encoder"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "path/to/encoder/config.json").write_text("{}")
    examples = [
        shlex.split(line.strip().split("   ")[0]) for line in help_text().splitlines() if "python train.py" in line
    ]
    assert len(examples) >= 8
    for example in examples:
        assert precheck.check(example[2:]).configs, example


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["lora=qv", "--help"]], ids=" ".join)
def test_the_command_prints_it_without_torch(words: list[str], tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv = ['train.py', *sys.argv[1:]]\n"
        "from lightning_lora.cli.train import main\n"
        "main()\n"
        "print('heavy:', sorted({'torch', 'transformers', 'lightning'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == help_text() + "\nheavy: []\n"
    assert not os.listdir(tmp_path)
