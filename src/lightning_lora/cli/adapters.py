"""`lightning-lora import-peft`, `export-peft` and `import-loralib`: adapters from and to other tools' files."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_lora.cli import failure
from lightning_lora.cli.parser import CommandParser
from lightning_lora.targets import ROLE_SETS
from lightning_lora.tasks import numbered_labels

if TYPE_CHECKING:
    from lightning_lora.conversion import Imported

_NO_RUN = """\
It is no run: predict, evaluate and merge refuse it. It is for

  python train.py warm_start=imported model=roberta_base lora=qv rank=8 alpha=16 data=mrpc
                                                   base, layers, rank and scale must be the adapter's
  lightning-lora spectrum imported                 what each layer uses of its rank
  load_peft_folder in Python, and PEFT             docs/adapters.md"""
_IMPORT_PEFT = f"""\
Put an adapter that PEFT trained onto its base model, check it, and write it as a run's adapter/ folder.

  lightning-lora import-peft my_adapter --model roberta-base --out imported
  lightning-lora import-peft my_adapter --model path/to/encoder --labels no,yes --out imported

Every tensor must find its place, and every setting must be one that plain LoRA layers can express: DoRA, AdaLoRA and
the like are refused by name. Only safetensors are read, never pickles.

{_NO_RUN}"""
_EXPORT_PEFT = """\
Write the adapter of a run as a plain PEFT folder, head included.

  lightning-lora export-peft runs/2026-01-31/12-00-00-000000 --out my_adapter

  from peft import PeftModel
  base = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=N)
  model = PeftModel.from_pretrained(base, "my_adapter")"""
_IMPORT_LORALIB = f"""\
Put an adapter of Microsoft's loralib onto its base model, check it, and write it as a run's adapter/ folder.

  lightning-lora import-loralib roberta_base_lora_mnli.bin --model roberta-base --alpha 16 --out imported

The file must hold tensors alone; what a pickle could run beside them is refused. It does not hold alpha: the published
GLUE adapters of RoBERTa-base were trained with 16.

{_NO_RUN}"""


def import_peft(words: Sequence[str]) -> None:
    """Import a PEFT folder; see its ``--help``."""
    parser = CommandParser("import-peft", _IMPORT_PEFT)
    parser.add_argument("folder", type=Path, help="what PEFT's save_pretrained wrote")
    _add_base(parser)
    parser.add_argument("--force", action="store_true", help="also onto a base other than the one that is recorded")
    given = parser.parse_args(words)

    with failure.one_line_for_mistakes():
        from lightning_lora import conversion

        base = {"model": given.model, "revision": given.revision, "labels": given.labels}
        imported = conversion.import_peft(given.folder, given.out, **base, force=given.force)
    _print_imported(imported, given.out)


def import_loralib(words: Sequence[str]) -> None:
    """Import a loralib file; see its ``--help``."""
    parser = CommandParser("import-loralib", _IMPORT_LORALIB)
    parser.add_argument("file", type=Path, help="what torch.save(loralib.lora_state_dict(model), ...) wrote")
    _add_base(parser)
    parser.add_argument("--alpha", type=float, required=True, help="loralib's lora_alpha, which the file does not hold")
    parser.add_argument(
        "--roles", choices=sorted(ROLE_SETS), help="which parts of a fused layer (GPT-2's c_attn) are adapted"
    )
    given = parser.parse_args(words)

    with failure.one_line_for_mistakes():
        from lightning_lora import conversion

        base = {"model": given.model, "revision": given.revision, "labels": given.labels}
        imported = conversion.import_loralib(given.file, given.out, **base, alpha=given.alpha, roles=given.roles)
    _print_imported(imported, given.out)


def export_peft(words: Sequence[str]) -> None:
    """Export a run's adapter; see its ``--help``."""
    parser = CommandParser("export-peft", _EXPORT_PEFT)
    parser.add_argument("run", type=Path, help="a run's folder, or the adapter/ in it")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    given = parser.parse_args(words)

    with failure.one_line_for_mistakes():
        from lightning_lora import conversion

        layers = conversion.export_peft(given.run, given.out)
    print(f"{given.out}: {layers} adapted layers, as PEFT reads them")


def _add_base(parser: CommandParser) -> None:
    parser.add_argument("--model", required=True, help="the base model: a folder, a hub id, or tiny")
    parser.add_argument("--revision", help="its branch, tag or commit on the hub")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    parser.add_argument(
        "--labels",
        type=_labels,
        help="how many labels, or their names: 3, or no,yes; 1 is regression (default: the head's)",
    )


def _labels(text: str) -> tuple[str, ...]:
    """Names of labels, from their number or their list; none for regression."""
    if text.isdecimal() and 0 < int(text) <= 10_000:
        return numbered_labels(int(text))
    names = tuple(text.split(","))
    if len(names) < 2 or not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of labels nor their names, as in no,yes")
    return names


def _print_imported(imported: "Imported", out: Path) -> None:
    report, backbone = imported.adapter.report, imported.backbone
    ranks = [str(rank) for rank in sorted({module.rank for module in report.modules})]
    lines = {
        "adapter": f"{len(report.modules)} layers, rank {', '.join(ranks)}, {report.totals.adapter:,} parameters",
        "with it": f"{report.totals.head:,} parameters of the head, {report.totals.other_trainable:,} others",
        "labels": ", ".join(imported.labels) or "none: regression",
        "base": f"{backbone.name}, fingerprint {backbone.fingerprint[:12]}",
        "written": str(out),
    }
    print("\n".join(f"{key:<10} {value}" for key, value in lines.items()))
