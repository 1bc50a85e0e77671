"""`lightning-lora spectrum`: how many directions an adapter uses, layer by layer, and the adapter cut to those."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lightning_lora.atomic import refuse_existing
from lightning_lora.cli import failure
from lightning_lora.cli.parser import CommandParser

if TYPE_CHECKING:
    from lightning_lora.analysis import Spectrum
    from lightning_lora.truncating import Truncation

_HELP = """\
Show how many directions a trained adapter uses in each layer, propose a rank for each, and cut it to these ranks.

  lightning-lora spectrum runs/2026-11-24/09-30-00-123456
  lightning-lora spectrum RUN --energy 0.99
  lightning-lora spectrum RUN --truncate smaller
  lightning-lora spectrum imported                 what import-peft or import-loralib wrote

An adapter of rank 8 may turn its input into 8 directions in every layer; its singular values s1 >= s2 >= ... say how
much it does in each. Read, from left to right:

  entropy rank   directions in use: 1 where one does everything, the rank where all do as much
  stable rank    the same, counted by the strongest: (s1² + s2² + ...) / s1²
  keep           the fewest directions that hold the share --energy of s1² + s2² + ...: the rank that is proposed
  dW / W0        how far the layer was moved: the norm of the update over that of the frozen weight

A table of small numbers says that the rank is larger than what training found a use for; one near the rank, that more
rank may be worth a try. --truncate cuts without training anew, and scores both adapters on what the run was scored on:
an adapter that is trained at the lower rank from the start is another experiment. What it writes is no run: predict,
evaluate and merge refuse it. It is for `lightning-lora spectrum`, for load_peft_folder in Python (docs/adapters.md) and
for PEFT."""


def main(words: Sequence[str]) -> None:
    """Show the spectra of an adapter.

    Args:
        words: What stands after the command's name.

    Raises:
        SystemExit: status 2 for a mistake of the user's.
    """
    parser = CommandParser("spectrum", _HELP)
    parser.add_argument("run", type=Path, help="a run's folder, adapter/ in it, or the folder of an imported adapter")
    parser.add_argument("--energy", type=_share, default=0.9, help="share of the energy to keep in each layer (0.9)")
    parser.add_argument("--truncate", type=Path, metavar="FOLDER", help="write the adapter cut to these ranks here")
    parser.add_batch_size()
    options = parser.parse_args(words)
    with failure.one_line_for_mistakes():
        _spectrum(options)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0, up to 1")
    return share


def _spectrum(options: argparse.Namespace) -> None:
    from lightning_lora.analysis import proposed_ranks, spectra
    from lightning_lora.restoring import restore_adapter
    from lightning_lora.truncating import truncate

    if options.truncate is not None:
        refuse_existing(options.truncate)  # before a model is loaded
    adapted = restore_adapter(options.run)
    found = spectra(adapted.backbone.model)
    ranks = proposed_ranks(found, options.energy)
    print("\n".join([*_table(found, ranks), "", *_advice(found, ranks, options.energy)]))
    if options.truncate is not None:
        print("\n".join(["", *_cost(truncate(adapted, ranks, options.truncate, batch_size=options.batch_size))]))
        print(f"written   {options.truncate}")


def _places(found: Sequence["Spectrum"]) -> list[str]:
    """What each projection is called: layer and role where that is one of its kind, else the module's own name."""
    roles = [f"layer {one.block} {one.role}" for one in found]
    count = Counter(roles)
    return [
        role if one.block is not None and count[role] == 1 else one.module
        for one, role in zip(found, roles, strict=True)
    ]


def _table(found: Sequence["Spectrum"], ranks: Mapping[str, int]) -> list[str]:
    places = _places(found)
    width = max(map(len, places))
    lines = [f"{'':<{width}}  rank  entropy rank  stable rank  keep  dW / W0"]
    for place, one in zip(places, found, strict=True):
        lines.append(
            f"{place:<{width}}  {one.rank:>4}  {one.entropy_rank:>12.2f}  {one.stable_rank:>11.2f}  "
            f"{ranks[one.module]:>4}  {one.relative_norm:>7.2g}"
        )
    return lines


def _advice(found: Sequence["Spectrum"], ranks: Mapping[str, int], energy: float) -> list[str]:
    """What the table says, in sentences."""
    in_use = dict(zip(_places(found), found, strict=True))
    least, most = (choose(in_use, key=lambda place: in_use[place].entropy_rank) for choose in (min, max))
    now = sum(one.size for one in found)
    then = sum(one.parameters * ranks[one.module] for one in found)
    size = f"{then:,} of {now:,} adapter parameters, {100 * (1 - then / now):.0f} % fewer"
    if then > now:
        size = (
            f"{then:,} adapter parameters, more than the {now:,} that it has: projections that are fused in one layer "
            "were trained apart, and are cut as one matrix"
        )
    return [
        f"rank {in_use[least].rank} uses {in_use[least].entropy_rank:.1f} directions in {least}, the least, and "
        f"{in_use[most].entropy_rank:.1f} of {in_use[most].rank} in {most}, the most; "
        f"{fmean(one.entropy_rank for one in found):.1f} on average",
        f"{100 * energy:g} % of the energy of every layer is in ranks {min(ranks.values())} to {max(ranks.values())}: "
        + size,
    ]


def _cost(cut: "Truncation") -> list[str]:
    report = cut.report
    share = 100 * report.error / report.norm if report.norm else 0.0
    before, after = cut.parameters
    lines = [
        f"error     |dW - dW'| = {report.error:.4g}, {share:.1f} % of |dW| = {report.norm:.4g}; "
        f"the least that these ranks allow is {report.bound:.4g}",
        f"size      {before:,} adapter parameters before, {after:,} after"
        + (", so it is no smaller" if after >= before else ""),
    ]
    for split, (uncut, left) in cut.scores.items():
        told = [f"{name} {value:.4f} -> {left.metrics[name]:.4f}" for name, value in uncut.metrics.items()]
        lines.append(f"score     {split}, {uncut.rows} rows: {', '.join(told)}")
    return lines + ([f"score     not taken: {cut.not_scored}"] if cut.not_scored else [])
