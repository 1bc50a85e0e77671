"""`lightning-lora predict`: what a trained model says about rows of a file or of standard input."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning_lora.cli import failure
from lightning_lora.cli.parser import CommandParser

_HELP = """\
Predict with a run's model, row by row: each row comes out in its place, with the predicted label and the probability of
every label (in regression, with the number).

  lightning-lora predict runs/2026-11-24/09-30-00-123456 reviews.csv --out predicted.csv
  lightning-lora predict RUN/merged pairs.jsonl --out predicted.parquet
  cat rows.jsonl | lightning-lora predict RUN - > predicted.jsonl

A row needs the text columns of the run's task: sentence1 and sentence2 for MRPC, those of data.text_columns for a task
of your own. What else it holds is passed on; a label is not needed.

A run's folder stands for its adapter on its base model; RUN/merged for the merged model in it."""


def main(words: Sequence[str]) -> None:
    """Predict.

    Args:
        words: What stands after the command's name.

    Raises:
        SystemExit: status 2 for a mistake of the user's.
    """
    parser = CommandParser("predict", _HELP)
    parser.add_model()
    parser.add_argument("input", help="a .csv, .tsv, .jsonl or .parquet file, or - for JSON lines on standard input")
    parser.add_argument(
        "--out", default="-", help="a file with one of these endings, or - for JSON lines (the default)"
    )
    parser.add_batch_size()
    options = parser.parse_args(words)
    with failure.one_line_for_mistakes():
        _refuse_own_input(options.input, options.out)
        _predict(options)


def _refuse_own_input(source: str, target: str) -> None:
    """Another file of that name may be replaced, but no rows by their predictions."""
    if source != "-" and Path(source).expanduser().resolve() == Path(target).expanduser().resolve():
        raise ValueError(f"--out {target} is the input itself, which would be lost; give another file")


def _predict(options: argparse.Namespace) -> None:
    from lightning_lora.data.streams import row_writer, stream_rows
    from lightning_lora.predicting import predict_rows
    from lightning_lora.restoring import restore

    trained = restore(options.run)
    rows = predict_rows(trained, _with_progress(stream_rows(options.input)), batch_size=options.batch_size)
    count = 0
    with row_writer(options.out) as write:
        for row in rows:
            write(row)
            count += 1
    print(f"{count} rows predicted ({trained.task.name}): {options.out}", file=sys.stderr)


def _with_progress(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    return iter(track(rows, description="rows", console=console, transient=True, total=None, disable=hidden))
