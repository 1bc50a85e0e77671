"""The page: a template, a style sheet, a few lines of script, and the plots, in one file that asks for no other."""

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lightning_lora.atomic import atomic_file
from lightning_lora.reporting.comparison import Comparison, TaskComparison
from lightning_lora.reporting.formatting import percent, probability, three_digits
from lightning_lora.reporting.inference import LEVEL
from lightning_lora.reporting.overview import overviews_of
from lightning_lora.reporting.page import wording
from lightning_lora.reporting.page.inline import inline_svg
from lightning_lora.reporting.plots import Plot, plots_of
from lightning_lora.reporting.tables import examples_of, name_of

_FOLDER = Path(__file__).parent
_NOT_IN_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def write_page(comparison: Comparison, path: Path, *, timings: bool = True) -> Path:
    """Write a comparison as one HTML file, atomically, and return its path.

    The file needs nothing but itself, and forbids the browser to ask for anything. It is the same to the byte for the
    same comparison.

    Args:
        comparison: What is shown.
        path: Where it goes.
        timings: Whether to show what depends on the clock.

    Raises:
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    text = page_of(comparison, timings=timings)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def page_of(comparison: Comparison, *, timings: bool = True) -> str:
    """The text of the page of `write_page`; what comes from records is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points": wording.points,
        "difference": wording.difference,
        "interval": wording.interval,
        "probability": probability,
        "percent": percent,
        "three_digits": three_digits,
    }
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    text = environment.get_template("page.html").render(
        tasks=comparison.tasks,
        overviews=overviews_of(comparison),
        unreadable=comparison.unreadable,
        timings=timings,
        examples_of=examples_of,
        name_of=name_of,
        style=(_FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        summary=wording.summary_sentence,
        plots_of=plots_of,
        drawn=_drawn,
        level=LEVEL,
    )
    return _NOT_IN_HTML.sub("\N{REPLACEMENT CHARACTER}", text)


def _drawn(plot: Plot, task: TaskComparison, name: str) -> str:
    return inline_svg(plot.draw(task), name, f"{plot.title}. {plot.description}")
