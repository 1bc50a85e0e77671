"""Good command lines pass, and every value of every axis is seen."""

import itertools
import re
from pathlib import Path

import pytest

from lightning_lora.cli import overrides, precheck
from lightning_lora.config import RunConfig
from lightning_lora.settings import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["lora=qv", "rank=8"],
        ["model=roberta_base", "data=sst2", "lora=qkvo", "rank=8", "alpha=16", "lr=4e-4"],
        ["seed=0"],
        ["alpha=null"],
        ["lora.modules=[attention.self.query]", "lora.exclude=[encoder.layer.0]"],
        ["lora=head", "lr=1e-3"],
        ["debug=fast"],
        ["trainer=ddp", "trainer.devices=[0,1]"],
        ["trainer.devices=auto", "trainer.limit_train_batches=10", "trainer.limit_val_batches=1"],
        ["debug=overfit", "trainer.overfit_batches=0.5"],
        ["rank=8", "-r", "lora=q"],
        ["--cfg", "job", "--resolve"],
        ["--cfg=hydra"],
        ["-p", "lora", "-c", "job"],
        ["--info"],
        ["--info", "defaults-tree", "rank=4"],
        ["merge={at_end: false}"],
        ["logger.name='a name, with a comma'"],
        ["model.name=sentence-transformers/all-MiniLM-L6-v2"],
        ["rank=${batch_size}"],
        ["data=custom", "data.path=.", "data.text_columns=[a,b]", "data.labels=[]", "data.metrics=[pearson]"],
    ],
    ids=" ".join,
)
def test_good_command_lines_pass(words: list[str]) -> None:
    assert len(precheck.check(words).configs) == 1


@pytest.mark.parametrize("words", [["--hydra-help"], ["--version"], ["-sc", "install=bash"]], ids=" ".join)
def test_what_only_hydra_answers_is_left_to_it(words: list[str]) -> None:
    checked = precheck.check(words)
    assert not checked.configs
    assert checked.line.words()


def test_the_config_is_what_was_asked_for() -> None:
    (config,) = precheck.check(["lora=qkvo", "rank=4", "lora.layers=1-3", "data=rte", "optim=cosine"]).configs
    assert config.rank == 4
    assert config.alpha is None
    assert config.lora.roles == ["query", "key", "value", "output"]
    assert config.lora.layers == (1, 2, 3)
    assert (config.data.task, config.optim.schedule) == ("rte", "cosine")


AXES = {"rank": ["4", "8", "16"], "lora": ["qv", "qkvo"], "seed": ["0", "1"], "lr": ["1e-4", "1e-3"]}
WRONG = {"rank": "0", "lora": "qw", "seed": "x", "lr": "inf"}


@pytest.mark.parametrize("key", AXES)
def test_a_wrong_value_is_found_at_every_place_of_every_axis(key: str) -> None:
    good = ["-m", *(f"{axis}={','.join(values)}" for axis, values in AXES.items())]
    assert len(precheck.check(good).configs) == 1 + sum(len(values) - 1 for values in AXES.values())
    for place in range(len(AXES[key]) + 1):
        values = [*AXES[key][:place], WRONG[key], *AXES[key][place:]]
        words = [word if not word.startswith(f"{key}=") else f"{key}={','.join(values)}" for word in good]
        with pytest.raises(ConfigError, match=f"{key}={WRONG[key]}"):
            precheck.check(words)


def test_every_axis_value_reaches_a_config() -> None:
    configs = precheck.check(["-m", "rank=2,4,8", "lora.dropout=0,0.1", "lora=qv,q"]).configs
    assert {config.rank for config in configs} == {2, 4, 8}
    assert {config.lora.dropout for config in configs} == {0.0, 0.1}
    assert {tuple(config.lora.roles) for config in configs} == {("query", "value"), ("query",)}
    # One axis changes at a time: the others stand at their first values.
    assert all(config.rank == 2 or config.lora.dropout == 0 for config in configs)


@pytest.mark.parametrize(
    ("words", "pair", "why"),
    [
        (
            ["seed=0,1", "lora=qv,head", "lora.dropout=0,0.1"],
            "lora=head lora.dropout=0.1",
            "lora.dropout has no effect",
        ),
        (["trainer.precision=auto,bf16-frozen", "lora=qv,full"], "trainer.precision=bf16-frozen lora=full", "needs"),
        (
            ["merge.at_end=true,false", "lr=1e-3,1e-4", "merge.save=false,true"],
            "at_end=false merge.save=true",
            "no effect",
        ),
        (
            ["lora.cache_frozen_blocks=false,true", "lora.layers=null,[4,5]", "data.ragged=true,false"],
            "lora.cache_frozen_blocks=true data.ragged=false",
            "needs batches without padding",
        ),
        (
            ["trainer.cuda_graphs=false,true", "data.ragged=true,false"],
            "trainer.cuda_graphs=true data.ragged=false",
            "needs batches without padding",
        ),
        (
            ["lora.cache_frozen_blocks=false,true", "lora.layers=null,[4,5]", "trainer.precision=auto,64-true"],
            "lora.cache_frozen_blocks=true trainer.precision=64-true",
            "keeps fp32",
        ),
        (
            ["lora.cache_frozen_blocks=false,true", "lora.layers=null,[4,5]", "trainer.cuda_graphs=false,true"],
            "lora.cache_frozen_blocks=true trainer.cuda_graphs=true",
            "no effect",
        ),
    ],
)
def test_values_that_do_not_go_together_are_found_before_the_first_job(words: list[str], pair: str, why: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"(?i)the job of this sweep with \S*{re.escape(pair)} is not allowed: .*{why}"
    ):
        precheck.check(["-m", *words])
    assert precheck.check(["-m", *words[:-1]]).configs


def test_each_job_of_a_grid_is_checked_as_it_will_be_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle: Hydra's own composition, which takes long, of every nineteenth job; some options set several keys."""
    axes = {"lora": ["qv", "all"], "rank": ["4", "8"], "data": ["rte", "mrpc"], "lora.layers": ["null", "[0,1]", "4-5"]}
    axes |= {"optim": ["linear", "cosine"], "data.ragged": ["true", "false"], "trainer": ["default", "gpu"]}
    checked: list[RunConfig] = []
    with_changes = precheck.with_settings
    monkeypatch.setattr(precheck, "with_settings", lambda *given: checked.append(with_changes(*given)) or checked[-1])
    precheck.check(["-m", *(f"{key}={','.join(values)}" for key, values in axes.items())])
    monkeypatch.undo()
    jobs = [
        [f"{key}={value}" for key, value in zip(axes, job, strict=True)] for job in itertools.product(*axes.values())
    ]
    assert len(checked) == len(jobs)
    compared = list(zip(checked, jobs, strict=True))[::19]
    assert set().union(*(job for _, job in compared)) == set().union(*jobs), "each value of each axis is among them"
    for config, job in compared:
        assert (config,) == precheck.check(job).configs


def test_a_pattern_chooses_among_the_options_of_a_group() -> None:
    configs = precheck.check(["-m", "lora=glob(q*)"]).configs
    chosen = ["+".join(config.lora.roles) for config in configs]
    assert chosen == ["query", "query+key", "query+key+value+output", "query+value"]


@pytest.mark.parametrize(
    ("words", "at_fault"),
    [
        (["lora=full,qv", "lora.dropout=0.1"], "lora=full"),
        (["lora=qv,full", "seed=0,1", "lora.dropout=0.1"], "lora=full"),
        (["+sweeps=methods", "lora.dropout=0.1"], "lora=head"),
        (["lora.dropout=0.1,0", "lora=full,qv"], "lora.dropout=0.1 lora=full"),
    ],
)
def test_what_a_baseline_has_not_is_said_of_the_job_that_is_one(words: list[str], at_fault: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^the job of this sweep with {at_fault} is not allowed: lora\.dropout .*two sweeps of it$"
    ):
        precheck.check(["-m", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=0,1", "lora=full", "lora.dropout=0.1"], "lora.dropout has no effect"),
        (["seed=0,1", "lora.dropout=2"], "lora.dropout=2"),
        (["seed=0,1", "lora.dropout=0.1,2"], "lora.dropout=2"),
    ],
)
def test_what_is_wrong_in_every_job_is_said_of_none(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}"):
        precheck.check(["-m", *words])


@pytest.mark.parametrize("name", ["layer_choice", "layer_choice_matched", "rank_alpha"])
def test_a_sweep_that_is_written_down_needs_multirun(name: str) -> None:
    """Whichever setting stands first in it, with one value as it may be."""
    with pytest.raises(ConfigError, match=rf"^'\+sweeps={name}' is a sweep: add -m$"):
        precheck.check([f"+sweeps={name}"])
    with pytest.raises(ConfigError, match=rf"^'\+sweeps={name}' is a sweep: leave it out$"):
        precheck.check([f"+sweeps={name}"], one_job=True)


@pytest.mark.parametrize("more", [[], ["resume=runs/x"], ["--cfg", "job"]], ids=["one job", "resume", "--cfg"])
def test_where_multirun_is_refused_it_is_not_advised(more: list[str]) -> None:
    for word in ("rank=4,8", "lora.layers=0,1", "hydra/launcher=local"):
        with pytest.raises(ConfigError, match="-m"):  # the control
            precheck.check([word])
        with pytest.raises(ConfigError, match=r"give one value|needs brackets|leave it out") as refused:
            precheck.check([word, *more], one_job=not more)
        assert "-m" not in str(refused.value)


def test_overlays_are_found_below_the_current_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    configs = precheck.check(["-m", "+sweeps=rank_alpha"]).configs
    assert {(config.rank, config.alpha) for config in configs} == {(4, 8.0), (8, 8.0), (4, 16.0)}
    with pytest.raises(ConfigError, match="alpha=-1"):
        precheck.check(["-m", "+sweeps=rank_alpha", "alpha=8,-1"])
    with pytest.raises(ConfigError, match="'rank_alpha'"):
        precheck.check(["-m", "+sweeps=rank_alhpa"])


def test_an_overlay_that_is_there_is_found_without_a_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments" / "rte").mkdir(parents=True)
    (tmp_path / "experiments" / "rte" / "mine.yaml").write_text("# @package _global_\n{rank: 4}\n")
    monkeypatch.chdir(tmp_path)
    walked: list[str] = []
    monkeypatch.setattr(overrides, "_options", lambda group, loader: walked.append(group) or [])
    assert precheck.check(["+experiments=rte/mine"]).configs[0].rank == 4
    assert not walked
    for wrong in ("+experiments=rte/yours", "+experiments=rte/../rte/mine", "+sweeps=wandb/lr"):
        with pytest.raises(ConfigError, match="is not an option"):
            precheck.check([wrong])
    assert walked == ["experiments", "experiments", "sweeps"]


@pytest.mark.parametrize("wrong", ["{rank: 0}", "{ranck: 8}", "{rank: [}", "{lora: {roles: query}}"])
def test_what_is_wrong_in_an_overlay_is_one_line(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments" / "rte").mkdir(parents=True)
    overlay = tmp_path / "experiments" / "rte" / "mine.yaml"
    monkeypatch.chdir(tmp_path)
    overlay.write_text("# @package _global_\n{rank: 4}\n")
    assert precheck.check(["+experiments=rte/mine"]).configs[0].rank == 4
    overlay.write_text(f"# @package _global_\n{wrong}\n")
    with pytest.raises(ConfigError) as error:
        precheck.check(["+experiments=rte/mine"])
    assert "\n" not in str(error.value)
    assert any(word in str(error.value) for word in ("rank", "roles", "rte/mine"))


def test_the_width_is_read_from_the_models_config(tmp_path: Path) -> None:
    for key in ("hidden_size", "d_model", "dim", "n_embd"):
        (tmp_path / "config.json").write_text(f'{{"{key}": 96}}')
        assert precheck.check([f"model.name={tmp_path}", "rank=96"]).configs
        with pytest.raises(ConfigError, match="rank must be from 1 to 96"):
            precheck.check([f"model.name={tmp_path}", "rank=97"])
        assert precheck.check([f"model.name={tmp_path}", "lora=full"]).configs
    (tmp_path / "config.json").write_text("{}")
    assert precheck.check([f"model.name={tmp_path}", "rank=97"]).configs
    (tmp_path / "config.json").write_text("not JSON")
    with pytest.raises(ConfigError, match="not JSON"):
        precheck.check([f"model.name={tmp_path}"])


def test_rank_without_effect_is_refused_only_where_no_job_uses_it() -> None:
    assert precheck.check(["-m", "lora=head,qv", "rank=4,8"]).configs
    for word in ("rank=4", "alpha=8", "lora.scaling=constant", "optim.lora_plus_ratio=4"):
        assert precheck.check([word]).configs
        with pytest.raises(ConfigError, match="has no effect with lora=bitfit"):
            precheck.check(["lora=bitfit", word])


def test_axes_of_an_overlay_without_effect_are_refused_like_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precheck.check(["-m", "+sweeps=rank_alpha", "lora=qv,full"]).configs
    with pytest.raises(ConfigError, match="'rank=4,8' has no effect with lora=full"):
        precheck.check(["-m", "+sweeps=rank_alpha", "lora=full"])


SEARCH = ["-m", "hydra/sweeper=optuna"]


def test_an_interval_is_checked_at_its_ends() -> None:
    words = [*SEARCH, "lr=tag(log,interval(2e-4,5e-4))", "rank=int(interval(4,16))", "lora=qv,qkvo"]
    configs = precheck.check(words).configs
    assert {config.lr for config in configs} == {2e-4, 5e-4}
    assert {config.rank for config in configs} == {4, 16}
    assert {tuple(config.lora.roles) for config in configs} > {("query", "value")}
    (warning,) = precheck.check([*SEARCH, "lr=interval(2e-4,0.1)"]).warnings
    assert "lr=0.1" in warning


def test_a_log_scale_without_a_meaning_is_refused() -> None:
    assert precheck.check([*SEARCH, "rank=tag(log,range(1,9))"]).configs
    with pytest.raises(ConfigError, match="in steps of 1"):
        precheck.check([*SEARCH, "rank=tag(log,range(1,9,2))"])


def test_an_overlay_may_ask_for_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweeps").mkdir()
    overlay = tmp_path / "sweeps" / "mine.yaml"
    monkeypatch.chdir(tmp_path)
    head = "# @package _global_\ndefaults:\n  - override /hydra/sweeper: optuna\n"
    overlay.write_text(f"{head}hydra: {{sweeper: {{n_trials: 5, params: {{lr: 'interval(2e-4,5e-4)'}}}}}}\n")
    assert {config.lr for config in precheck.check(["-m", "+sweeps=mine"]).configs} == {2e-4, 5e-4}
    overlay.write_text(f"{head}hydra: {{sweeper: {{n_trials: 0, params: {{lr: 'interval(2e-4,5e-4)'}}}}}}\n")
    with pytest.raises(ConfigError, match="n_trials=0"):
        precheck.check(["-m", "+sweeps=mine"])
