"""The sweeps that come with the package: found from anywhere, the user's own first, and the same for W&B's agent."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from train_command import WORDS, to_the_end
from transformers import BertConfig, BertForSequenceClassification

from lightning_lora.cli import precheck
from lightning_lora.cli.help import help_text
from lightning_lora.cli.main import main
from lightning_lora.cli.options import shipped_sweeps
from lightning_lora.inject import select
from lightning_lora.inject.budget import matched_ranks
from lightning_lora.reporting import read_record
from lightning_lora.settings import ConfigError
from lightning_lora.targets import ROLE_SETS

ROOT = Path(__file__).resolve().parents[1]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
EVERY_SWEEP = pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)


def axes(path: Path) -> dict[str, list[Any]]:
    """The values of each setting of a Hydra sweep, as YAML reads them in W&B's file."""
    params = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]
    return {key: [_number(text) for text in str(values).split(",")] for key, values in params.items()}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def for_wandb(path: Path) -> dict[str, Any]:
    """W&B's definition of a sweep, read as W&B does."""
    definition: dict[str, Any] = yaml.safe_load((path.parent / "wandb" / path.name).read_text())
    return definition


def test_the_studies_are_there() -> None:
    expected = "layer_choice layer_choice_matched lora_plus low_data lr methods rank_alpha seeds"
    assert [path.stem for path in SWEEPS] == expected.split()
    assert axes(ROOT / "sweeps" / "rank_alpha.yaml") == {"rank": [4, 8], "alpha": [8, 16]}


@EVERY_SWEEP
def test_every_sweep_composes_from_another_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    configs = precheck.check(["-m", f"+sweeps={path.stem}"]).configs
    assert len(configs) == 1 + sum(len(values) - 1 for values in axes(path).values())


@EVERY_SWEEP
def test_a_sweep_sets_what_it_varies_and_nothing_else(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert list(content) == ["hydra"]
    assert list(content["hydra"]) == ["sweeper"]
    assert list(content["hydra"]["sweeper"]) == ["params"]


def test_the_users_own_go_before_and_beside_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, name in (("sweeps", "lr"), ("sweeps", "mine"), ("experiments", "mine")):
        Path(folder).mkdir(exist_ok=True)
        Path(folder, f"{name}.yaml").write_text("# @package _global_\nhydra: {sweeper: {params: {rank: '3,5'}}}\n")
    for word in ("+sweeps=lr", "+sweeps=mine", "+experiments=mine"):
        assert [config.rank for config in precheck.check(["-m", word]).configs] == [3, 5]
    assert len(precheck.check(["-m", "+sweeps=seeds"]).configs) == 5
    with pytest.raises(ConfigError, match=r"sweeps must be one of .*mine.*seeds"):
        precheck.check(["-m", "+sweeps=nothing"])


def test_a_folder_that_an_overlay_names_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweeps").mkdir()
    params = "sweeper: {params: {rank: '3,5'}}"
    for name, folder in (("placed", ", sweep: {dir: my_results}"), ("plain", "")):
        Path("sweeps", f"{name}.yaml").write_text(f"# @package _global_\nhydra: {{{params}{folder}}}\n")
    assert not any("sweep.dir" in word for word in precheck.check(["-m", "+sweeps=placed"]).sweep_words)
    assert "hydra.sweep.dir=multirun/plain" in precheck.check(["-m", "+sweeps=plain"]).sweep_words


def test_the_help_lists_them() -> None:
    assert list(shipped_sweeps()) == [path.stem for path in SWEEPS]
    for name, description in shipped_sweeps().items():
        assert f"+sweeps={name}" in help_text()
        assert description in help_text()
        assert description.endswith((".", "?"))


def test_the_matched_sweep_asks_for_the_parameters_of_all_at_rank_5() -> None:
    values = axes(ROOT / "sweeps" / "layer_choice_matched.yaml")
    assert values == {"rank": [5], "lora.same_parameters_as": ["all"], "lora": ["qv", "qkvo", "mlp", "all"]}


def test_the_matched_sweep_says_which_ranks_these_are() -> None:
    """In units of d a block and rank: 4, 8, 10 and 18 for query and value, attention, feed-forward, and all."""
    sizes = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 12, "num_attention_heads": 4}
    model = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))
    everything = select(model, roles=ROLE_SETS["all"])
    ranks = {
        lora: list(matched_ranks(select(model, roles=ROLE_SETS[lora]), everything, 5).values())
        for lora in ("qv", "qkvo", "mlp", "all")
    }
    assert {lora: set(found) for lora, found in ranks.items()} == {
        "qv": {22, 23},
        "qkvo": {11, 12},
        "mlp": {9},
        "all": {5},
    }
    assert sum(ranks["qv"]) == 24 * 22.5
    said = (ROOT / "sweeps" / "layer_choice_matched.yaml").read_text()
    assert "Query and value have ranks 22 and 23 in turn then, attention 11 and 12, the feed-forward 9." in said


def test_the_matched_sweep_gives_each_option_as_many_parameters_and_the_report_prints_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeps, spent = ("layer_choice", "layer_choice_matched"), {}
    for name in sweeps:
        status, _, errors = to_the_end("-m", f"+sweeps={name}", *WORDS, "data.train_rows=16", "epochs=1", cwd=tmp_path)
        assert status == 0, errors
        records = map(read_record, (path.parent for path in (tmp_path / "multirun" / name).glob("*/result.json")))
        spent[name] = [record.parameters["adapter"] for record in records]
    assert len(spent["layer_choice_matched"]) == 4
    assert len(set(spent["layer_choice_matched"])) == 1
    assert len(set(spent["layer_choice"])) == len(spent["layer_choice"]) == 3, "the control: at one rank they differ"
    main(["report", *(str(tmp_path / "multirun" / name) for name in sweeps)])
    titles = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("toy_")]
    assert titles == [
        "toy_sentiment on tiny, at rank 8",
        "toy_sentiment on tiny, at the parameters of all at rank 5",
    ]


@EVERY_SWEEP
def test_wandb_tries_the_same_values(path: Path) -> None:
    """The shape is what W&B's agent takes: its documentation, "Sweep configuration". Its schema is on its server."""
    definition = for_wandb(path)
    command = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    fixed = {key: definition[key] for key in definition if key != "parameters"}
    assert fixed == {"name": path.stem, "program": "train.py", "method": "grid", "command": command}
    assert (ROOT / definition["program"]).is_file()
    tried = {}
    for key, parameter in definition["parameters"].items():
        assert set(parameter) in ({"value"}, {"values"}), key
        tried[key] = parameter.get("values", [parameter.get("value")])
        assert all(isinstance(value, int | float | str) for value in tried[key])
    assert tried == axes(path)


@EVERY_SWEEP
def test_what_wandbs_agent_would_run_passes_the_check(path: Path) -> None:
    parameters = for_wandb(path)["parameters"]
    names = list(parameters)
    jobs = list(product(*(p.get("values", [p.get("value")]) for p in parameters.values())))
    for values in (jobs[0], jobs[-1]):
        words = [f"{name}={value}" for name, value in zip(names, values, strict=True)]
        assert len(precheck.check(words).configs) == 1


def test_there_is_one_definition_for_wandb_for_each_sweep_and_hydra_takes_none_of_them() -> None:
    assert sorted(path.name for path in (ROOT / "sweeps" / "wandb").iterdir()) == [path.name for path in SWEEPS]
    with pytest.raises(ConfigError, match="sweeps=wandb/lr is not an option") as caught:
        precheck.check(["-m", "+sweeps=wandb/lr"])
    assert "wandb" not in str(caught.value).partition("one of")[2]
