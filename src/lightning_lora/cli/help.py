"""What `--help` prints, made from conf/ and from the schema, so that it says what there is."""

import textwrap
from dataclasses import Field, fields
from typing import Any

from lightning_lora.cli.guidelines import USUAL_RANGES
from lightning_lora.cli.options import default_options, groups, shipped_sweeps
from lightning_lora.config import RunConfig
from lightning_lora.settings import Setting, shown

_WIDTH = 120
_START = """\
Train LoRA adapters on a transformer, or a baseline to compare them with.

  python train.py                                              the embedded model and task, about a minute
  python train.py lora=qv rank=8                               choose an option of a group, set a key
  python train.py model=roberta_base data=sst2 lora=qkvo rank=8 alpha=16 lr=4e-4
  python train.py data=mrpc data.path=glue/mrpc model.name=path/to/encoder
  python train.py lora=head                                    a baseline: head, bitfit or full, each at its own lr
  python train.py -m rank=1,2,4,8 seed=0,1,2                   a sweep: one job for each combination
  python train.py -m +sweeps=layer_choice model=roberta_base data=mrpc    a sweep that is written down
  python train.py -m hydra/sweeper=optuna 'lr=tag(log,interval(1e-4,1e-2))' rank=4,8    a search; needs the extra optuna
  python train.py +recipe=lora_paper/roberta_base/rte          published settings; lightning-lora recipes lists them
  python train.py resume=runs/2026-01-31/12-00-00-000000       go on with a run that was stopped
  python train.py debug=fast                                   does it run at all?"""
_END = """\
Usual ranges: {ranges}; values outside get a warning.
Several values need -m: rank=4,8. A list needs brackets, and in zsh quotes: 'lora.layers=[0,1]'. A range of blocks:
lora.layers=2-3.
Files below the current directory: +sweeps=NAME reads sweeps/NAME.yaml, or else the package's own of that name;
+experiments=NAME reads experiments/NAME.yaml.
Secrets belong in the environment (WANDB_API_KEY, HF_TOKEN), never on the command line.

Flags: -m sweep; --cfg job shows the config instead of running; --info defaults shows where it comes from;
--hydra-help lists the rest. Exit status: 0 done, 2 a mistake in the command line or the data, 130 or 143 stopped by
Ctrl-C or SIGTERM, 141 output that nobody reads, 1 any other failure."""


def help_text() -> str:
    """The whole help."""
    parts = [_START, "Groups (GROUP=OPTION)", *map(_group, groups().items())]
    parts += ["Sweeps (-m +sweeps=NAME)", _group(("+sweeps", shipped_sweeps()))]
    parts += ["Keys (KEY=VALUE), with their defaults"]
    top = [entry for entry in fields(RunConfig) if "setting" in entry.metadata]
    parts.append("\n".join(_line("", RunConfig(), entry) for entry in top))
    parts += [_section(section) for section in fields(RunConfig) if section not in top]
    return "\n\n".join([*parts, _END.format(ranges=USUAL_RANGES)])


def _group(group: tuple[str, dict[str, str]]) -> str:
    name, options = group
    default = default_options().get(name)
    lines = []
    for option, description in options.items():
        mark = " (default)" if option == default else ""
        lines.append(f"  {f'{name}={option}':<26} {description}{mark}")
    return "\n".join(lines)


def _section(section: Field[Any]) -> str:
    defaults = getattr(RunConfig(), section.name)
    title = (type(defaults).__doc__ or "").partition("\n")[0]
    return "\n".join([f"  {title}", *(_line(f"{section.name}.", defaults, entry) for entry in fields(defaults))])


def _line(prefix: str, defaults: object, entry: Field[Any]) -> str:
    default = getattr(defaults, entry.name)
    start = f"  {f'{prefix}{entry.name}={shown(default)}':<44} "
    return textwrap.fill(
        _meaning(entry.metadata["setting"]), _WIDTH, initial_indent=start, subsequent_indent=" " * len(start)
    )


def _meaning(setting: Setting) -> str:
    """What a key does, what null means and which names it takes."""
    null = f"null is {setting.otherwise}" if setting.otherwise else ""
    return "; ".join(filter(None, (setting.doc, null, setting.allowed if setting.names else "")))
