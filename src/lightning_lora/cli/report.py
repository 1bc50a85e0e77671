"""`lightning-lora report`: what was tried, compared with honest statistics."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_lora.cli import failure
from lightning_lora.cli.parser import CommandParser, refuse_missing, refuse_without_runs
from lightning_lora.settings import ConfigError

if TYPE_CHECKING:
    from lightning_lora.reporting import Comparison

# `exports.FORMS` has the same keys; tests/cli/test_report.py compares them.
SUFFIXES = {"terminal": ".txt", "markdown": ".md", "csv": ".csv", "latex": ".tex"}

_HELP = """\
Compare the runs below one or several folders: a table for each task, a row for each option, over its seeds; and where
the same options ran on several tasks, one with the tasks side by side.

  lightning-lora report multirun/layer_choice
  lightning-lora report multirun/rank runs/full --reference "full"
  lightning-lora report multirun/rank --html rank.html
  lightning-lora report multirun/rank --format csv --out rank.csv
  lightning-lora report multirun/rank --format latex --no-timings

An option is what varies between the runs of a task, but for the seed. Runs of different base models, or that were
scored on different examples, are never put together, nor are those at one rank and those with the parameters of other
layers (lora.same_parameters_as): baselines are in the tables of both. A job that is there twice counts once.

  95 % over seeds   Student's t: where the mean of other seeds would be, on the same examples
  % of ...          quality relative to the reference, with its 95 % interval
  size, % of ...    parameters trained, head included, relative to the reference's: what that quality costs
  minus best        against the best option, with a 95 % interval for other seeds and other examples
  p (Holm)          whether that is chance, corrected for all pairs of options
  p (McNemar)       whether these very models differ in how many examples they get right; says nothing of other seeds
  detectable        the smallest difference that would have shown four times in five, corrected for all pairs as well
  group             options that share a letter cannot be told apart
  best epoch        the mean of the best epochs, which flatters; all else is of the last epoch

Runs that did not finish, or whose predictions are missing, are listed under the table with the reason."""


def main(words: Sequence[str]) -> None:
    """Report.

    Args:
        words: What stands after the command's name.

    Raises:
        SystemExit: status 2 where there is no such folder, no run in it, or no option with the reference's label.
    """
    parser = CommandParser("report", _HELP)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="a folder with runs somewhere below it")
    parser.add_argument("--reference", metavar="LABEL", help='quality is relative to this option ("all", or the best)')
    parser.add_argument("--format", choices=SUFFIXES, help="by the ending of --out, else terminal")
    parser.add_argument("--out", type=Path, metavar="FILE_OR_FOLDER", help="where it goes, instead of the terminal")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with tables and plots there as well")
    parser.add_argument(
        "--timings", action=argparse.BooleanOptionalAction, default=True, help="show what depends on the clock (yes)"
    )
    options = parser.parse_args(words)
    with failure.one_line_for_mistakes():
        _report(options)


def _report(options: argparse.Namespace) -> None:
    # SciPy and Arrow take most of a second to import; the help and a refused argument do not wait for them.
    from lightning_lora.reporting.collecting import collect
    from lightning_lora.reporting.comparing import compare
    from lightning_lora.sweeping import determines_result

    refuse_missing(options.folders)
    found = collect(options.folders)
    refuse_without_runs(options.folders, len(found.records) + len(found.unreadable))
    comparison = compare(
        found.records,
        determines_result=determines_result,
        reference=options.reference,
        unreadable=found.unreadable,
    )
    _write(comparison, options)
    if options.html is not None:
        # matplotlib takes a second to import.
        from lightning_lora.reporting.page import write_page

        _tell_of(write_page(comparison, options.html, timings=options.timings))


def _write(comparison: "Comparison", options: argparse.Namespace) -> None:
    """Put the report where it was asked for, in the form that was asked for."""
    from lightning_lora.atomic import atomic_file
    from lightning_lora.reporting import exports, print_comparison

    form = options.format or _form_of(options.out)
    if form == "terminal" and options.out is None:
        print_comparison(comparison, timings=options.timings)
        return
    text = exports.FORMS[form](comparison, timings=options.timings)
    if options.out is None:
        print(text, end="")
        return
    path = options.out / f"report{SUFFIXES[form]}" if options.out.is_dir() else options.out
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    _tell_of(path)


def _tell_of(written: Path) -> None:
    """Print where a file lies; after what went to a pipe or to /dev/stdout a line more would be in the report."""
    from lightning_lora.atomic import takes_bytes

    if not takes_bytes(written):
        print(written)


def _form_of(out: Path | None) -> str:
    """The form that a file's ending asks for.

    Raises:
        ConfigError: it asks for none of them.
    """
    if out is None or out.is_dir():
        return "terminal"
    for form, suffix in SUFFIXES.items():
        if out.suffix == suffix:
            return form
    if out.suffix == ".html":
        raise ConfigError(f"--out {out}: the page is written by --html {out}")
    endings = ", ".join(f"{suffix} ({form})" for form, suffix in SUFFIXES.items())
    raise ConfigError(f"--out {out}: its ending names no form, give --format; the endings are {endings}")
