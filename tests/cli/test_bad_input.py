"""Whatever is wrong with a command line is said in one line, with status 2, before anything is loaded or written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_lora.cli import train

ROOT = Path(__file__).resolve().parents[2]
SEARCH = ["-m", "hydra/sweeper=optuna"]

# (command line, what the message must show: the key or value at fault, and what is allowed or the nearest name)
NAMED_IN_THE_ISSUE = [
    (["lora=qw"], ["lora=qw", "qkvo", "'qv'"]),
    (["rnk=8"], ["rnk", "'rank'"]),
    (["rank=0"], ["rank=0", "1 or more"]),
    (["rank=-3"], ["rank=-3", "1 or more"]),
    (["rank=abc"], ["rank=abc", "whole number"]),
    (["rank=8.5"], ["rank=8.5", "whole number"]),
    (["alpha=0"], ["alpha=0", "above 0"]),
    (["alpha=nan"], ["alpha=nan", "above 0"]),
    (["lr=-1"], ["lr=-1", "above 0"]),
    (["lora.dropout=1.5"], ["lora.dropout=1.5", "from 0 up to"]),
    (["rank=129", "model.name=narrow"], ["rank=129", "1 to 128"]),
    (["+rank2=8"], ["rank2", "'rank'"]),
    (["rank", "8"], ["'rank' has no value", "rank=8"]),
    (["-rank=8"], ["-rank", "rank=8"]),
    (["-m", "rank=4,8,0", "seed=0,1"], ["rank=0", "1 or more"]),
    (["-m", "seed=0,1", "lora=qv,qw"], ["lora=qw", "'qv'"]),
    (["+wandb_api_key=CANARY"], ["wandb_api_key", "use the environment"]),
    (["lora.layers={_target_:os.system}"], ["_target_", "os.system", "must not name code"]),
]

OTHERS = [
    # A number that is none, or is out of range.
    (["rank="], ["rank=", "whole number"]),
    (["rank=null"], ["rank=null", "whole number"]),
    (["rank=true"], ["rank=true", "whole number"]),
    (["rank=1e2"], ["rank=1e2", "whole number"]),
    (["rank=８"], ["rank=８", "whole number"]),
    (["seed=true"], ["seed=true", "from 0 to 4294967295"]),
    (["seed=4294967296"], ["seed=4294967296", "from 0 to 4294967295"]),
    (["seed=-1"], ["seed=-1", "from 0"]),
    (["epochs=0"], ["epochs=0", "1 or more"]),
    (["batch_size=-8"], ["batch_size=-8", "1 or more"]),
    (["alpha=1e400"], ["alpha=inf", "finite"]),
    (["alpha=-16"], ["alpha=-16", "above 0"]),
    (["lr=inf"], ["lr=inf", "finite"]),
    (["lr=0"], ["lr=0", "above 0"]),
    (["lr=1e-4x"], ["lr=1e-4x", "above 0"]),
    (["lora.dropout=nan"], ["lora.dropout=nan", "from 0 up to"]),
    (["lora.dropout=1"], ["lora.dropout=1", "not including, 1"]),
    (["optim.betas=[0.9]"], ["optim.betas=[0.9]", "2 numbers"]),
    (["optim.warmup_ratio=1"], ["optim.warmup_ratio=1", "not including, 1"]),
    (["optim.weight_decay=-0.1"], ["optim.weight_decay=-0.1", "0 or more"]),
    (["data.max_length=2"], ["data.max_length=2", "4 or more"]),
    (["data.train_rows=0"], ["data.train_rows=0", "1 or more"]),
    (["trainer.devices=0"], ["trainer.devices=0", "from 1"]),
    (["trainer.max_steps=0"], ["trainer.max_steps=0", "-1 or"]),
    (["trainer.limit_train_batches=2.5"], ["limit_train_batches=2.5", "fraction"]),
    (["lora.layers=11-4"], ["lora.layers=11-4", "4-11"]),
    (["lora.layers=[-1]"], ["lora.layers=[-1]", "from 0"]),
    # A name that is not there.
    (["lora=../qv"], ["lora=../qv", "'qv'"]),
    (["lora=/etc/passwd"], ["lora=/etc/passwd", "one of"]),
    (["lora=[qv,q]"], ["lora=[qv,q]", "one of"]),
    (["lora={a:1}"], ["lora=", "one of"]),
    (["lora=null"], ["lora=null", "one of"]),
    (["lora="], ["lora=", "one of"]),
    (["data=sst3"], ["data=sst3", "'sst2'"]),
    (["model=bert"], ["model=bert", "'bert_base'"]),
    (["debug=fats"], ["debug=fats", "'fast'"]),
    (["debug=null"], ["debug=null", "fast, overfit, profiler"]),
    (["optim=adamw"], ["optim=adamw", "constant, cosine, linear"]),
    (["lora.roles=[query,valeu]"], ["lora.roles=[query,valeu]", "'value'"]),
    (["lora.roles=query"], ["lora.roles=query", "a list of names"]),
    (["lora.scaling=alpha_over_rnk"], ["lora.scaling=alpha_over_rnk", "'alpha_over_rank'"]),
    (["optim.schedule=cosin"], ["optim.schedule=cosin", "'cosine'"]),
    (["trainer.precision=fp16"], ["trainer.precision=fp16", "16-mixed"]),
    (["trainer.strategy=dpp"], ["trainer.strategy=dpp", "'ddp'"]),
    (["logger.wandb=onlin"], ["logger.wandb=onlin", "'online'"]),
    (["logger.project=a/b"], ["logger.project=a/b", "without /"]),
    (["hydra/launcher=nope"], ["hydra/launcher=nope", "basic"]),
    (["hydra/launcher=local", "rank=8"], ["hydra/launcher=local", "add -m"]),
    (["+sweeps=nope"], ["sweeps=nope", "one of layer_choice", "rank_alpha"]),
    (["+experiments=nope"], ["experiments=nope", "experiments/"]),
    # A key that is not there, or not in this form.
    (["++rank2=8"], ["rank2", "'rank'"]),
    (["+rank=8"], ["+rank=8", "write rank=8"]),
    (["~rank"], ["~rank", "another value"]),
    (["~lora=qv"], ["~lora=qv", "another value"]),
    (["lora.rank=4"], ["lora.rank", "'rank'"]),
    (["dropout=0.1"], ["dropout", "'lora.dropout'"]),
    (["rank.x=3"], ["rank.x", "'rank'"]),
    (["model@other=tiny"], ["model@other=tiny", "@other"]),
    (["sweeps=rank_alpha"], ["sweeps=rank_alpha", "+sweeps=rank_alpha"]),
    (["hydra.foo=1"], ["hydra.foo=1", "HydraConf"]),
    (["rank", "=", "8"], ["'rank' has no value", "rank=8"]),
    (["rank=", "8"], ["space after the =", "rank=8"]),
    (["=8"], ["'=8'", "key=value"]),
    (["rank=[1"], ["rank=[1", "whole number"]),
    (["rank=${nothing}"], ["rank=${nothing}", "'nothing' not found"]),
    (["logger.name=a\nb"], ["logger.name=a\\nb", "printable"]),
    (["logger.name=" + "x" * 5000], ["logger.name=xxx", "at most"]),
    (["logger.name=" + "x" * 300], ["logger.name=xxx", "at most 128"]),
    # Flags.
    (["--rank", "8"], ["--rank", "rank=8"]),
    (["--multrun", "rank=4,8"], ["--multrun", "'--multirun'"]),
    (["-z"], ["-z", "--help"]),
    (["--cfg", "jobb"], ["jobb", "'job'"]),
    (["--config-path=/tmp"], ["--config-path", "experiments"]),
    (["--config-dir", "/tmp"], ["--config-dir", "experiments"]),
    (["--experimental-rerun", "job.pickle"], ["--experimental-rerun", "not supported"]),
    (["--resolve"], ["--resolve", "--cfg"]),
    (["-m", "--cfg", "job"], ["--multirun", "--cfg", "one of them"]),
    # Sweeps.
    (["rank=4,8"], ["rank=4,8", "add -m"]),
    (["lora=qv,qkvo"], ["lora=qv,qkvo", "add -m"]),
    (["lora.layers=0,1"], ["lora.layers=0,1", "lora.layers=[...]"]),
    (["-m", "lr=interval(1e-4,1e-3)"], ["lr=interval(1e-4,1e-3)", "hydra/sweeper=optuna"]),
    ([*SEARCH, "rank=interval(1,8)"], ["rank=interval(1,8)", "rank=int(interval(1,8))"]),
    ([*SEARCH, "rank=int(interval(0,8))"], ["rank=0", "1 or more"]),
    ([*SEARCH, "rank=int(interval(1,129))"], ["rank=129", "1 to 128"]),
    ([*SEARCH, "lr=interval(1e-4,-1)"], ["lr=interval(1e-4,-1)", "smaller one first"]),
    ([*SEARCH, "lr=interval(0,inf)"], ["lr=interval(0,inf)", "finite"]),
    ([*SEARCH, "lr=tag(log,interval(0,1))"], ["lr=tag(log,interval(0,1))", "above 0"]),
    ([*SEARCH, "lr=tag(lgo,interval(1,2))"], ["lr=tag(lgo,interval(1,2))", "only log"]),
    ([*SEARCH, "lora=interval(1,2)"], ["lora=1", "one of"]),
    ([*SEARCH, "rank=8"], ["hydra/sweeper=optuna", "nothing to search"]),
    ([*SEARCH, "rank=4,8", "hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials=0", "1 or more"]),
    ([*SEARCH, "rank=4,8", "hydra.sweeper.n_trials=many"], ["hydra.sweeper.n_trials=many", "Integer"]),
    ([*SEARCH, "rank=4,8", "hydra.sweeper.sampler=tbe"], ["hydra.sweeper.sampler=tbe", "'tpe'"]),
    ([*SEARCH, "rank=4,8", "+hydra.sweeper.n_trails=9"], ["n_trails", "'n_trials'"]),
    (["-m", "hydra.sweeper.max_batch_size=2", "seed=0,1"], ["unknown key 'hydra.sweeper.max_batch_size'"]),
    (["-m", "hydra/sweeper=optune", "rank=4,8"], ["hydra/sweeper=optune", "'optuna'"]),
    (["-m", "rank=range(0,100000)"], ["rank=range(0,100000)", "1 to 1000"]),
    (["-m", "rank=glob(*)"], ["rank=glob(*)", "list the values"]),
    (["-m", "rank=range(4,64,0)"], ["rank=range(4,64,0)", "a step other than 0"]),
    (["-m", "lr=range(0.1,0.2,0.0)"], ["lr=range(0.1,0.2,0.0)", "a step other than 0"]),
    (["-m", "lr=range(nan,0.2)"], ["lr=range(nan,0.2)", "needs numbers"]),
    (["-m", "lora=glob(x*)"], ["lora=glob(x*)", "from 1 to 1000 values"]),
    (["-m", "lora=glob(q*)", "rank=4,0"], ["rank=0", "1 or more"]),
    (["-m", "+sweeps=lr,seeds"], ["+sweeps=lr,seeds", "one for each"]),
    (["-m", "+sweeps=glob(l*)"], ["+sweeps=glob(l*)", "one for each"]),
    (["-m", "hydra.run.dir=a,b"], ["hydra.run.dir=a,b", "cannot be swept"]),
    (["-m", "model.name=narrow,wide", "rank=8,129"], ["rank=129", "1 to 128"]),
    (["-m", "rank=8,129", "model.name=wide,narrow"], ["rank=129", "1 to 128"]),
    # What has no effect, and what is missing.
    (["lora=head", "rank=8"], ["rank=8", "lora=head"]),
    (["lora=full", "lora.dropout=0.1"], ["lora.dropout", "full"]),
    (["lora=full", "lora.same_parameters_as=qv"], ["lora.same_parameters_as", "full"]),
    (["lora.same_parameters_as=qvo"], ["lora.same_parameters_as=qvo", "one of qv, qkvo", "'qkvo' or 'qv'"]),
    (["lora=full", "warm_start=narrow"], ["warm_start", "full"]),
    (["warm_start=nothing"], ["warm_start=nothing", "does not exist", "finished run"]),
    (["merge.at_end=false", "merge.save=true"], ["merge.save", "merge.at_end"]),
    (["data.labels=[a,b]"], ["data.labels", "data=custom"]),
    (["data=custom"], ["data.path", "data=custom"]),
    (["data=custom", "data.path=narrow", "data.text_columns=[a]", "data.labels=[x,y]", "data.metrics=[pearson]"],
     ["pearson", "accuracy"]),
    (["lora.roles=[]"], ["lora.roles=[]", "name roles"]),
    # Places.
    (["data.path=nothing.csv"], ["data.path=nothing.csv", "does not exist"]),
    (["model.name=./nothing"], ["model.name=./nothing", "does not exist"]),
    (["model.name=./empty"], ["model.name=./empty", "config.json"]),
    (["data.path=" + "x" * 300], ["data.path=xxx", "255 bytes"]),
    (["hydra.run.dir=../x"], ["hydra.run.dir=../x", "'..'"]),
    (["hydra.run.dir=a/../../x"], ["hydra.run.dir=a/../../x", "'..'"]),
    (["hydra.run.dir=" + "x" * 300], ["hydra.run.dir=xxx", "255 bytes"]),
    (["hydra.sweep.subdir=/tmp/x"], ["hydra.sweep.subdir=/tmp/x", "below"]),
    (["hydra.output_subdir=../../x"], ["hydra.output_subdir=../../x", "'..'"]),
    (["-m", "hydra.sweep.subdir=${hydra.job.override_dirname}", "logger.name=a,../../x"],
     ["hydra.sweep.subdir", "../../x", "'..'"]),
]  # fmt: skip


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A current directory that is no clone, with two models to name."""
    for name, width in (("narrow", 128), ("wide", 1024)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"model_type": "bert", "hidden_size": {width}}}')
    (tmp_path / "empty").mkdir()
    return tmp_path


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def check_refusal(status: object, stderr: str, shows: list[str]) -> None:
    assert status == 2
    assert stderr.startswith("error: ")
    assert len(stderr.splitlines()) == 1
    assert "Traceback" not in stderr
    assert "CANARY" not in stderr
    missing = [part for part in shows if part not in stderr]
    assert not missing, stderr


@pytest.mark.parametrize(("words", "shows"), NAMED_IN_THE_ISSUE, ids=lambda value: " ".join(value)[:60])
def test_refused_by_the_real_command(words: list[str], shows: list[str], workplace: Path) -> None:
    before = contents(workplace)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *words]
    result = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
    check_refusal(result.returncode, result.stderr, shows)
    assert result.stdout == ""
    assert contents(workplace) == before


@pytest.mark.parametrize(
    ("words", "shows"), OTHERS, ids=lambda value: " ".join(value)[:60].encode("unicode_escape").decode()
)
def test_refused(
    words: list[str],
    shows: list[str],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    before = contents(workplace)
    with pytest.raises(SystemExit) as exit_info:
        train.main(words)
    printed = capsys.readouterr()
    check_refusal(exit_info.value.code, printed.err, shows)
    assert printed.out == ""
    assert contents(workplace) == before


def test_nothing_heavy_is_loaded_for_a_refusal(workplace: Path) -> None:
    program = (
        "import sys\n"
        "from lightning_lora.cli.main import main\n"
        "try: main(['train', '-m', 'rank=4,0', 'model.name=narrow'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'transformers', 'datasets', 'wandb', 'pyarrow', 'torchmetrics'}\n"
        "print(sorted(heavy & set(sys.modules)), 'hydra' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=workplace, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[] True"
