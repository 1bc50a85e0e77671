"""`lightning-lora recipes`: published settings that come with the package, and where two sources of one disagree."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from lightning_lora.cli import failure
from lightning_lora.cli.options import described
from lightning_lora.cli.parser import CommandParser
from lightning_lora.settings import ConfigError, flat, shown
from lightning_lora.spelling import did_you_mean

PAPER, SCRIPTS = "lora_paper", "lora_scripts"
_BATCH, _ACCUMULATED = "batch_size", "trainer.accumulate_grad_batches"

_HELP = """\
List the recipes: published settings to train with, each from one source and never a blend of two.
diff shows where the LoRA paper's table and Microsoft's scripts disagree, for all models and tasks or some.

  lightning-lora recipes
  lightning-lora recipes diff
  lightning-lora recipes diff roberta_large cola
  lightning-lora train +recipe=lora_scripts/roberta_base/sst2"""


def main(words: Sequence[str]) -> None:
    """List the recipes, or compare them.

    Args:
        words: What stands after the command's name.

    Raises:
        SystemExit: status 2 where there is no such model or task.
    """
    parser = CommandParser("recipes", _HELP)
    parser.add_argument("action", nargs="?", choices=("list", "diff"), default="list", help="what to print (list)")
    parser.add_argument("names", nargs="*", metavar="NAME", help="models and tasks to show (all)")
    options = parser.parse_args(words)
    with failure.one_line_for_mistakes():
        chosen = _chosen(options.names)
        (_print_differences if options.action == "diff" else _print_list)(chosen)


def recipes() -> dict[str, str]:
    """Every recipe by the name that ``+recipe=`` takes, with the first line of its file's header."""
    found: dict[str, str] = {}
    for source in _folders(_root()):
        for model in _folders(source):
            found |= {f"{source.name}/{model.name}/{task}": text for task, text in described(model).items()}
    return found


def settings_of(recipe: str) -> dict[str, Any]:
    """What a recipe sets, by full names; an option that it chooses by its group's name."""
    content = OmegaConf.create((_root() / f"{recipe}.yaml").read_text(encoding="utf-8"))
    assert isinstance(content, DictConfig)
    plain: Any = OmegaConf.to_container(content)
    options = {
        key.removeprefix("override /"): option for entry in plain.pop("defaults") for key, option in entry.items()
    }
    return options | flat(plain)


def differences(model: str, task: str) -> dict[str, tuple[Any, Any]]:
    """Where the paper's and the scripts' recipe of a task disagree: each setting as (paper, scripts).

    None stands for what a source is silent on. The rows of an optimizer step stand as one number, ``rows per step``:
    how the scripts' rows are cut into batches says on how many devices they ran.
    """
    paper, scripts = (_with_whole_batch(settings_of(f"{source}/{model}/{task}")) for source in (PAPER, SCRIPTS))
    names = dict.fromkeys([*paper, *scripts])
    pairs = {name: (paper.get(name), scripts.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _with_whole_batch(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if name not in (_BATCH, _ACCUMULATED)}
    return kept | {"rows per step": values[_BATCH] * values[_ACCUMULATED]}


def _chosen(names: Sequence[str]) -> list[str]:
    """The recipes whose model and task are among ``names``, where they say any."""
    known = list(recipes())
    models, tasks = ({recipe.split("/")[place] for recipe in known} for place in (1, 2))
    for name in names:
        if name not in models | tasks:
            listed = ", ".join([*sorted(models), *sorted(tasks)])
            near = did_you_mean(name, models | tasks)
            raise ConfigError(f"'{shown(name)}' is neither a model nor a task of a recipe; choose of {listed}{near}")
    wanted_models, wanted_tasks = models & set(names) or models, tasks & set(names) or tasks
    return [recipe for recipe in known if {*recipe.split("/")[1:]} <= wanted_models | wanted_tasks]


def _print_list(chosen: Sequence[str]) -> None:
    width = max(map(len, chosen))
    for recipe in chosen:
        print(f"+recipe={recipe:<{width}}  {recipes()[recipe]}")


def _print_differences(chosen: Sequence[str]) -> None:
    table = Table(
        box=None, padding=(0, 2), title="Where the paper's table 9 and the scripts disagree", title_justify="left"
    )
    for heading in ("model", "task", "setting", "paper", "scripts"):
        table.add_column(heading)
    for recipe in chosen:
        source, model, task = recipe.split("/")
        if source == PAPER:
            for name, (paper, scripts) in differences(model, task).items():
                table.add_row(
                    model, task, name, *("silent" if value is None else str(value) for value in (paper, scripts))
                )
    Console(highlight=False).print(table)


def _root() -> Traversable:
    return files("lightning_lora.conf") / "recipe"


def _folders(folder: Traversable) -> list[Traversable]:
    return sorted((entry for entry in folder.iterdir() if entry.is_dir()), key=lambda entry: entry.name)
