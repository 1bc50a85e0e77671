"""The training commands in pages, headers of YAML files and helps: those on real text name a model that can read it."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_lora.cli.adapters import import_loralib, import_peft
from lightning_lora.cli.help import help_text
from lightning_lora.tasks import TOY_TASKS

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for pattern in ("README.md", "docs/*.md", "experiments/*/README.md", "conf/*/*.yaml", "sweeps/*.yaml")
    for path in ROOT.glob(pattern)
)
COMMAND = re.compile(r"^#? +(?:[A-Z_]+=\S+ )*python train\.py (.+)$", re.MULTILINE)


def commands(text: str, posix: bool = True) -> list[list[str]]:
    """The words of every training command that stands on a line of its own, without what is said of it."""
    whole = re.sub(r" \\\n#? +", " ", text)
    return [shlex.split(re.split(r" {2,}", line)[0], comments=True, posix=posix) for line in COMMAND.findall(whole)]


def tasks_of(words: list[str]) -> set[str]:
    return {task for word in words if word.startswith("data=") for task in word.removeprefix("data=").split(",")}


def without_a_model(text: str) -> list[str]:
    """The commands on real text that would train the embedded encoder."""
    return [
        " ".join(words)
        for words in commands(text)
        if tasks_of(words) - TOY_TASKS and not any(word.startswith(("model=", "model.name=")) for word in words)
    ]


def patterns_of_zsh(text: str) -> list[str]:
    """The words that zsh takes for patterns of file names, and refuses where no file has such a name."""
    words = (word for command in commands(text, posix=False) for word in command)
    return [word for word in words if "[" in word and word[0] not in "\"'"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_on_real_text_names_a_model_and_every_shell_takes_it(path: Path) -> None:
    assert without_a_model(path.read_text(encoding="utf-8")) == []
    assert patterns_of_zsh(path.read_text(encoding="utf-8")) == []


def test_so_does_the_help_of_train() -> None:
    assert len(commands(help_text())) > 8
    assert without_a_model(help_text()) == []


@pytest.mark.parametrize("command", [import_peft, import_loralib])
def test_so_does_the_help_of_an_import(
    command: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command(["--help"])
    shown = capsys.readouterr().out
    assert len(commands(shown)) == 1
    assert without_a_model(shown) == []


def test_the_control() -> None:
    text = "    python train.py -m seed=0,1 \\\n        data=toy_sentiment,rte  # why\n"
    text += "#   python train.py data=rte model=gpt2\n"
    assert commands(text) == [["-m", "seed=0,1", "data=toy_sentiment,rte"], ["data=rte", "model=gpt2"]]
    assert without_a_model(text) == ["-m seed=0,1 data=toy_sentiment,rte"]
    assert patterns_of_zsh("    python train.py 'a=[b]' c=[d] e=f\n") == ["c=[d]"]
    assert sum(bool(tasks_of(words) - TOY_TASKS) for path in FILES for words in commands(path.read_text())) > 30
