"""`lightning-lora merge`: a run's adapter folded into its base model, as a plain Hugging Face folder."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lightning_lora.cli import failure
from lightning_lora.cli.parser import CommandParser
from lightning_lora.run_folder import MERGED, run_of

# `merging.DTYPES` has the same keys; tests/test_config.py compares them.
DTYPES = ("fp32", "bf16", "fp16")

_HELP = """\
Merge a run's adapter into its base model, and write a folder that plain transformers reads:
AutoModelForSequenceClassification.from_pretrained(FOLDER). The sum is made in fp64 and rounded once; what that changed
is measured on the dev set, computing in fp32, and printed. (from_pretrained computes in what it finds: with weights in
bf16 or fp16, dtype=torch.float32 computes as was measured.)

  lightning-lora merge runs/2026-11-24/09-30-00-123456
  lightning-lora merge RUN --dtype bf16 --out for-serving"""


def main(words: Sequence[str]) -> None:
    """Merge.

    Args:
        words: What stands after the command's name.

    Raises:
        SystemExit: status 2 for a mistake of the user's.
    """
    parser = CommandParser("merge", _HELP)
    parser.add_argument("run", type=Path, help="a run's folder, or adapter/ in it")
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="of the weights (fp32)")
    parser.add_argument("--out", type=Path, help="the folder to write (in the run's: merged, merged-bf16, merged-fp16)")
    parser.add_argument("--force", action="store_true", help="merge also into another base model than was trained on")
    options = parser.parse_args(words)
    with failure.one_line_for_mistakes():
        _merge(options)


def _merge(options: argparse.Namespace) -> None:
    from lightning_lora.merging import merge_run

    run, _ = run_of(options.run)
    out = options.out or run / (MERGED if options.dtype == "fp32" else f"{MERGED}-{options.dtype}")
    report = merge_run(options.run, out, dtype=options.dtype, force=options.force)
    print(f"merged model  {out} ({report.dtype})")
    print(f"rounding      at most {report.largest_rounding:.3f} units in the last place from the exact W0 + ΔW")
    if report.not_compared:
        print(f"dev set       {report.not_compared}")
    else:
        changed = f"{report.changed_predictions} of {report.rows} predictions changed"
        print(f"dev set       {changed}, largest logit difference {report.max_logit_difference:.1e} (computed in fp32)")
