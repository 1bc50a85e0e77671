"""The recipes say what their sources say, number by number, and nothing of the one has got into the other."""

import re
from pathlib import Path
from typing import Any

import pytest

from lightning_lora.cli import precheck
from lightning_lora.cli.main import main
from lightning_lora.cli.recipes import differences, recipes, settings_of

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")
FROM_MNLI = ("mrpc", "rte", "stsb")
HUB = {"roberta_base": "FacebookAI/roberta-base", "roberta_large": "FacebookAI/roberta-large"}

# Hu et al. 2021, arXiv 2106.09685, table 9; microsoft/LoRA, examples/NLU/roberta_*.sh. In the order of TASKS.
SOURCES: dict[str, dict[str, Any]] = {
    "lora_paper/roberta_base": {
        "alpha": 8,
        "weight_decay": 0.01,  # the table is silent: the package's default
        "batch": (16, 16, 16, 32, 32, 16, 32, 16),
        "devices": (1,) * 8,
        "epochs": (30, 60, 30, 80, 25, 25, 80, 40),
        "lr": (5e-4, 5e-4, 4e-4, 4e-4, 4e-4, 5e-4, 5e-4, 4e-4),
        "length": (512,) * 8,
    },
    "lora_scripts/roberta_base": {
        "alpha": 16,
        "weight_decay": 0.1,
        "batch": (16, 16, 16, 32, 32, 16, 32, 16),
        "devices": (8, 8, 8, 2, 8, 8, 8, 8),
        "epochs": (30, 60, 30, 80, 25, 25, 80, 40),
        "lr": (5e-4, 5e-4, 4e-4, 4e-4, 4e-4, 5e-4, 5e-4, 4e-4),
        "length": (512,) * 8,
    },
    "lora_paper/roberta_large": {
        "alpha": 16,
        "weight_decay": 0.01,
        "batch": (4, 4, 4, 4, 4, 4, 8, 8),
        "devices": (1,) * 8,
        "epochs": (10, 10, 20, 20, 10, 20, 20, 30),
        "lr": (3e-4, 4e-4, 3e-4, 2e-4, 2e-4, 3e-4, 4e-4, 2e-4),
        "length": (128, 128, 512, 128, 512, 512, 512, 512),
    },
    "lora_scripts/roberta_large": {
        "alpha": 16,
        "weight_decay": 0.1,
        "batch": (4, 8, 4, 4, 4, 4, 8, 4),
        "devices": (8,) * 8,
        "epochs": (10, 10, 20, 20, 10, 20, 20, 10),
        "lr": (3e-4, 4e-4, 3e-4, 3e-4, 2e-4, 3e-4, 4e-4, 3e-4),
        "length": (128, 512, 512, 128, 512, 512, 512, 128),
    },
}
EVERY_RECIPE = pytest.mark.parametrize("recipe", [f"{folder}/{task}" for folder in SOURCES for task in TASKS])


def test_there_is_a_recipe_for_every_source_model_and_task() -> None:
    assert set(recipes()) == {f"{folder}/{task}" for folder in SOURCES for task in TASKS}
    assert len(recipes()) == 32


@EVERY_RECIPE
def test_a_recipe_trains_with_the_numbers_of_its_source(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, task = recipe.rsplit("/", 1)
    said, place = SOURCES[folder], TASKS.index(task)
    (config,) = precheck.check([f"+recipe={recipe}"]).configs
    assert (config.model.name, config.data.task) == (HUB[folder.split("/")[1]], task)
    assert (config.lora.method, config.lora.roles, config.lora.dropout) == ("lora", ["query", "value"], 0)
    assert (config.rank, config.alpha) == (8, said["alpha"])
    assert (config.lr, config.epochs) == (said["lr"][place], said["epochs"][place])
    assert (config.data.max_length, config.optim.weight_decay) == (said["length"][place], said["weight_decay"])
    assert config.batch_size == said["batch"][place]
    assert config.trainer.accumulate_grad_batches == said["devices"][place]
    assert (config.optim.warmup_ratio, config.optim.schedule) == (0.06, "linear")


@EVERY_RECIPE
def test_a_recipe_names_its_source_and_whether_it_starts_from_mnli(recipe: str) -> None:
    text = (ROOT / "conf" / "recipe" / f"{recipe}.yaml").read_text()
    source, model, task = recipe.split("/")
    assert f"python train.py +recipe={recipe}\n" in text
    assert ("2106.09685, table 9" in text) == (source == "lora_paper")
    assert (f"examples/NLU/{model}_{task}.sh" in text) == (source == "lora_scripts")
    assert ("warm_start=RUN" in text) == (task in FROM_MNLI)


def test_the_command_line_goes_before_a_recipe() -> None:
    words = ["+recipe=lora_scripts/roberta_base/rte", "model=tiny", "lora=all", "lr=1e-3", "data=toy_entailment"]
    (config,) = precheck.check(words).configs
    assert (config.model.name, config.lr, config.data.task) == ("tiny", 1e-3, "toy_entailment")
    assert "up" in config.lora.roles
    assert config.epochs == 80


def test_the_sources_disagree_where_their_tables_do() -> None:
    silent = {"optim.weight_decay": (None, 0.1)}
    assert differences("roberta_base", "cola") == {"alpha": (8, 16), "rows per step": (32, 64), **silent}
    assert differences("roberta_large", "rte") == {"rows per step": (8, 64), **silent}
    assert differences("roberta_large", "stsb") == {
        "lr": (2e-4, 3e-4),
        "epochs": (30, 10),
        "data.max_length": (512, 128),
        "rows per step": (8, 32),
        **silent,
    }
    assert settings_of("lora_paper/roberta_large/stsb")["model"] == "roberta_large"


def test_the_command_lists_and_compares(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes"])
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [f"+recipe={recipe}" for recipe in recipes()]
    main(["recipes", "diff", "roberta_large", "cola"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["roberta_large", "cola", "lr", "0.0002", "0.0003"] in rows
    assert ["roberta_large", "cola", "optim.weight_decay", "silent", "0.1"] in rows
    assert not any("rte" in row or "roberta_base" in row for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["diff", "roberta_bas"], "neither a model nor a task of a recipe; .*did you mean 'roberta_base'"),
        (["dif"], "invalid choice: 'dif'"),
    ],
)
def test_a_mistake_gets_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["recipes", *words])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: .*{said}", line)
