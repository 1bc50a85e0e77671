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
from lightning_lora.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
CLI = sorted((ROOT / "src" / "lightning_lora" / "cli").glob("*.py"))


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


def test_a_tasks_own_length_is_in_the_range_that_the_help_gives() -> None:
    said = re.search(r"each task but custom sets its own, (\d+) to (\d+)", schema_settings()["data.max_length"].doc)
    assert said
    own = {task: precheck.check([f"data={task}"]).configs[0].data.max_length for task in TASKS}
    assert (min(own.values()), max(own.values())) == tuple(map(int, said.groups()))
    assert "max_length" not in (ROOT / "conf" / "data" / "custom.yaml").read_text()


@pytest.mark.parametrize(
    ("key", "value", "meaning"),
    [
        ("lora.scaling", "constant", "constant is alpha itself"),
        ("trainer.max_steps", -1, "-1 is no limit"),
        ("trainer.limit_train_batches", 1, "1.0 is all, 1 is one"),
        ("trainer.limit_val_batches", 1, "1.0 is all, 1 is one"),
    ],
)
def test_values_that_do_not_explain_themselves_are_explained(key: str, value: object, meaning: str) -> None:
    assert schema_settings()[key].accepts(value)
    assert meaning in schema_settings()[key].doc


def test_folders_of_runs_look_as_runs_name_them() -> None:
    shown = [folder for path in CLI for folder in re.findall(r"runs/\d{4}-\d\d-\d\d/([\d-]+)", path.read_text())]
    assert len(shown) > 4
    assert [folder for folder in shown if not re.fullmatch(r"\d\d-\d\d-\d\d-\d{6}", folder)] == []


def test_the_defaults_are_marked() -> None:
    marked = {line.split()[0] for line in help_text().splitlines() if line.endswith("(default)")}
    (config,) = precheck.check([]).configs
    expected = {"lora=qv", "model=tiny", "data=toy_sentiment", "trainer=default", "logger=wandb", "optim=linear"}
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
