"""What the README tells people to type is what there is."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from lightning_lora import TASKS, RunConfig, run
from lightning_lora.cli import precheck
from lightning_lora.config import DataConfig, LoggerConfig, TrainerConfig

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The README's own file and folder names stand for the reader's.
HERE = {
    **{"path/to/encoder": "ENCODER", "MINILM": "ENCODER"},
    **{"glue/mrpc": ".", "reviews.csv": ".", "GLUE/${data.task}": "."},
}


def commands(program: str) -> list[str]:
    lines = [line.strip().split("  #")[0].strip() for line in README.splitlines()]
    return sorted({line.removeprefix(program).strip() for line in lines if line.startswith(program)})


def test_the_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inject, use = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(inject, "README.md", "exec"), {})
    assert 0 < float(capsys.readouterr().out) < 100

    monkeypatch.chdir(tmp_path)
    data = DataConfig(task="toy_sentiment", train_rows=64, cache_dir=str(tmp_path / "cache"))
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False)
    config = RunConfig(epochs=1, data=data, trainer=trainer, logger=LoggerConfig(wandb="disabled"))
    record = run(config, tmp_path / "runs" / "DAY" / "TIME")
    capsys.readouterr()
    exec(compile(use, "README.md", "exec"), {})
    score, predicted, metrics, changed = capsys.readouterr().out.splitlines()
    assert float(score) == record.score
    assert predicted.split()[0] in TASKS["toy_sentiment"].labels
    assert ast.literal_eval(metrics)["accuracy"] == record.score
    assert 0 <= int(changed) < record.data["rows"]["validation"] / 20
    assert (tmp_path / "for_serving" / "model.safetensors").is_file()


@pytest.mark.parametrize("line", [*commands("python train.py "), *commands("lightning-lora inspect ")])
def test_every_training_command_passes_the_check(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name, here in HERE.items():
        line = line.replace(name, here)
    line = line.replace("ENCODER", str(ROOT / "src" / "lightning_lora" / "tiny_encoder"))
    if line != "--help":
        assert precheck.check(shlex.split(line)).configs


def test_there_are_commands_to_check() -> None:
    assert "lora=qv rank=8" in commands("python train.py ")
    assert len(commands("python train.py ")) > 5


def test_every_link_leads_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
