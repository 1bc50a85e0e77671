"""`lightning-lora evaluate`: a run's model scored on labelled data."""

import argparse
from collections.abc import Sequence

from lightning_lora.cli import failure
from lightning_lora.cli.parser import CommandParser

_HELP = """\
Score a run's model on labelled data: what it was scored on, the dev splits in a folder, or one file.

  lightning-lora evaluate runs/2026-11-24/09-30-00-123456
  lightning-lora evaluate RUN --data glue/mrpc
  lightning-lora evaluate RUN/merged --data fresh.csv

The data need the text columns of the run's task and its label column, which is called label unless data.label_column
named another. One file is scored whatever its name; of a folder the dev splits are, validation.csv for most tasks."""


def main(words: Sequence[str]) -> None:
    """Evaluate.

    Args:
        words: What stands after the command's name.

    Raises:
        SystemExit: status 2 for a mistake of the user's.
    """
    parser = CommandParser("evaluate", _HELP)
    parser.add_model()
    parser.add_argument("--data", help="a folder or file; without it, what the run was scored on, whole")
    parser.add_batch_size()
    options = parser.parse_args(words)
    with failure.one_line_for_mistakes():
        _evaluate(options)


def _evaluate(options: argparse.Namespace) -> None:
    from lightning_lora.predicting import evaluate
    from lightning_lora.reporting import print_scores
    from lightning_lora.restoring import restore

    trained = restore(options.run)
    print_scores(trained.task.name, evaluate(trained, options.data, batch_size=options.batch_size))
