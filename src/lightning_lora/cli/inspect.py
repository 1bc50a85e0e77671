"""`lightning-lora inspect`: what a training command would adapt and train, without data and without training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_lora.cli import arguments, failure, precheck, resume
from lightning_lora.config import RunConfig
from lightning_lora.settings import ConfigError

_HELP = """\
Show which layers a training command would adapt, and how many parameters would train.

  lightning-lora inspect model=roberta_base lora=qkvo rank=8
  lightning-lora inspect model.name=path/to/encoder lora=head
  lightning-lora inspect resume=runs/2026-11-24/09-30-00-123456       what that run adapts

It takes the groups and keys of `lightning-lora train --help`."""


def main(words: Sequence[str]) -> None:
    """Inspect.

    Args:
        words: What stands after the command's name.

    Raises:
        SystemExit: status 2 for a mistake of the user's.
    """
    if arguments.wants_help(words):
        print(_HELP)
        return
    with failure.one_line_for_mistakes():
        config = _one_config(words)
        from lightning_lora import build

        print(described(build.inspect(config).as_dict()))


def _one_config(words: Sequence[str]) -> RunConfig:
    checked = precheck.check(words, one_job=True)
    if checked.line.flags:
        raise ConfigError(f"inspect takes no {next(iter(checked.line.flags))}: it shows one model, and trains none")
    config = checked.configs[0]
    return config if config.resume is None else resume.config_of(checked, Path(config.resume))


def described(report: dict[str, Any]) -> str:
    """A report as text: one line for each adapted module, then the totals.

    Args:
        report: What `InjectionReport.as_dict` gives.
    """
    modules, totals = report["modules"], report["totals"]
    width = max((len(module["name"]) for module in modules), default=0)
    lines = [
        f"{module['name']:<{width}}  {'+'.join(module['roles']):<16} {module['in_features']:>6} -> "
        f"{module['out_features']:<6} rank {module['rank']:<4} {module['parameters']:>12,}"
        for module in modules
    ]
    kinds = ("adapter", "head", "other_trainable", "frozen", "total")
    lines += [f"{kind.replace('_', ' '):<16} {totals[kind]:>14,}" for kind in kinds]
    return "\n".join([*lines, f"{'trainable':<16} {totals['trainable_percent']:>13.3f}%"])
