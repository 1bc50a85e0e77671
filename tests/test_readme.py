"""What the README tells people to type is what there is."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from lightning_lora import TASKS, RunConfig, inspect, load_backbone, run
from lightning_lora.build import data_module
from lightning_lora.cli import precheck
from lightning_lora.config import DataConfig, LoggerConfig, TrainerConfig

ROOT = Path(__file__).resolve().parents[1]
TINY = str(ROOT / "src" / "lightning_lora" / "tiny_encoder")
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The README's own file and folder names stand for the reader's.
HERE = {
    **{"path/to/encoder": "ENCODER", "MINILM": "ENCODER"},
    **{"glue/mrpc": ".", "reviews.csv": ".", "GLUE/${data.task}": "."},
}


def commands(program: str) -> list[str]:
    whole = re.sub(r" \\\n +", " ", README)
    lines = [line.strip().split("  #")[0].strip() for line in whole.splitlines()]
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


def checked(line: str) -> int:
    """Check a command as it is typed; count its configurations whose model is at hand, each of which is put on it."""
    for name, here in HERE.items():
        line = line.replace(name, here)
    configs = precheck.check(shlex.split(line.replace("ENCODER", TINY))).configs
    assert configs
    here = [config for config in configs if config.model.name in ("tiny", TINY) and config.resume is None]
    for config in here:
        inspect(config)
    return len(here)


INLINE = re.findall(r"`(lora\.layers=[^`]+)`", README)


@pytest.mark.parametrize("line", [*commands("python train.py "), *commands("lightning-lora inspect "), *INLINE])
def test_every_training_command_passes_the_check(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if line != "--help":
        checked(line)


def test_there_are_commands_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert len(commands("python train.py ")) > 5
    assert "lora=qv rank=8" in commands("python train.py ")
    assert INLINE
    assert checked("lora=qv rank=8") == 1
    with pytest.raises(ValueError, match="4"):  # the control: the embedded encoder has four blocks
        checked("lora=all lora.layers=4-11")


def test_ones_own_file_as_it_is_typed_gives_a_dev_set(tmp_path: Path) -> None:
    (line,) = [line for line in commands("python train.py ") if "data=custom" in line.split()]
    rows = [f"this one is {label},{label}" for label in ("good", "bad")] * 20
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]))
    (config,) = precheck.check(shlex.split(line.replace("reviews.csv", str(tmp_path / "reviews.csv")))).configs
    data = data_module(config, config.data.find_task(), load_backbone("tiny", config.data.find_task()))
    data.setup()
    assert data.dev_sizes == {"held_out": 4}


def test_every_link_leads_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
