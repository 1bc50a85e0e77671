"""`lightning-lora evaluate`: a run's model scored on labelled data."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lightning_lora.cli import failure
from lightning_lora.cli.parser import CommandParser, positive_whole

_HELP = """\
Score a run's model on labelled data: the task's own dev splits, those in a folder, or one file.

  lightning-lora evaluate runs/2026-11-24/09-30-00-123456
  lightning-lora evaluate RUN --data glue/mrpc
  lightning-lora evaluate RUN/merged --data fresh.csv"""


def main(words: Sequence[str]) -> None:
    """Evaluate.

    Args:
        words: What stands after the command's name.

    Raises:
        SystemExit: status 2 for a mistake of the user's.
    """
    parser = CommandParser("evaluate", _HELP)
    parser.add_argument("run", type=Path, help="a run's folder, or adapter/ or merged/ in it")
    parser.add_argument("--data", help="a folder or file; without it, what the run itself was scored on")
    parser.add_argument("--batch-size", type=positive_whole, default=64, help="rows per batch (64)")
    options = parser.parse_args(words)
    with failure.one_line_for_mistakes():
        _evaluate(options)


def _evaluate(options: argparse.Namespace) -> None:
    # Torch and what stands on it take seconds to import; the help and a refused argument do not wait for them.
    from lightning_lora.build import restore
    from lightning_lora.data.sources import load_labelled
    from lightning_lora.data.validation import validate
    from lightning_lora.predicting import evaluate_split
    from lightning_lora.reporting import print_scores

    trained = restore(options.run)
    found, rows = {}, {}
    for name, raw in load_labelled(trained.task, options.data or trained.record.config["data"]["path"]).items():
        split = validate(raw, trained.task)
        rows[name] = len(split)
        found[name] = evaluate_split(
            trained.backbone, trained.task, split, max_length=trained.max_length, batch_size=options.batch_size
        )
    print_scores(trained.task.name, found, rows)
