"""The `lightning-lora` command: one subcommand for each thing there is to do."""

import sys
from collections.abc import Callable, Sequence

from lightning_lora.cli import (
    adapters,
    evaluate,
    failure,
    inspect,
    list_runs,
    merge,
    predict,
    recipes,
    report,
    spectrum,
    train,
)
from lightning_lora.settings import ConfigError, shown
from lightning_lora.spelling import did_you_mean

COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], str]] = {
    "train": (train.main, "train one run or a sweep, then merge, measure and record it"),
    "inspect": (inspect.main, "show what a training command would adapt, without training"),
    "predict": (predict.main, "predict with a trained run, row by row"),
    "evaluate": (evaluate.main, "score a trained run on labelled data"),
    "merge": (merge.main, "merge a run's adapter into its base model, for plain transformers"),
    "spectrum": (spectrum.main, "how many directions an adapter uses, layer by layer; cut it to those"),
    "list": (list_runs.main, "list the runs below a folder"),
    "report": (report.main, "compare the runs below one or several folders"),
    "recipes": (recipes.main, "list the published settings that come with the package, or compare their sources"),
    "import-peft": (adapters.import_peft, "put an adapter that PEFT trained onto its base, and check it"),
    "export-peft": (adapters.export_peft, "write a run's adapter as a plain PEFT folder"),
    "import-loralib": (adapters.import_loralib, "put an adapter of Microsoft's loralib onto its base, and check it"),
}

_HELP = """\
Train LoRA adapters on transformers, and find out which layers, rank and alpha to choose.

{commands}

  lightning-lora train lora=qv rank=8
  lightning-lora inspect model=roberta_base lora=qkvo
  lightning-lora report multirun/layer_choice
  lightning-lora import-peft my_adapter --model roberta-base --out imported
  lightning-lora train --help              groups, keys and examples

From a clone, `python train.py` is the same as `lightning-lora train`."""


@failure.answering_for_output()
def main(words: Sequence[str] | None = None) -> None:
    """Run a subcommand.

    Args:
        words: What stands after the command's name; None reads it from ``sys.argv``.

    Raises:
        SystemExit: the subcommand's status; 2 where there is no such subcommand; 141 where nobody reads the output; 130
            for Ctrl-C.
    """
    given = list(sys.argv[1:] if words is None else words)
    name = next(iter(given), "--help")
    if name in ("-h", "--help"):
        listed = "\n".join(f"  lightning-lora {command:<14} {doc}" for command, (_, doc) in COMMANDS.items())
        print(_HELP.format(commands=listed))
    elif name in COMMANDS:
        COMMANDS[name][0](given[1:])
    elif name.startswith("-") or "=" in name:
        # Lightning starts the further processes of DDP with sys.argv, from which Hydra's part alone is left.
        train.main(given)
    else:
        hint = did_you_mean(name, COMMANDS) or f"; choose one of {', '.join(COMMANDS)}"
        failure.refuse(ConfigError(f"unknown command '{shown(name)}'{hint}"))
