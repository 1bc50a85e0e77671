"""What every experiment here says in the end, and the files in which it says so."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

from experiments.provenance import commit, provenance
from lightning_lora.atomic import atomic_file
from lightning_lora.reporting.plots import rendered

Verdict = Literal["holds", "holds with conditions", "false", "undecided"]

RESULTS, QUICK_RESULTS, PLOT = "results.json", "quick.json", "plot.png"


@dataclass(frozen=True)
class Finding:
    """One claim of the document and what became of it.

    Attributes:
        section: Number of the document's section: "2.1".
        title: What the claim is about, in a few words.
        claim: The claim as the document gives it, in words of ours.
        holds_as: The claim as it holds.
        verdict: On the claim as given; undecided where what was measured cannot tell.
        measured: What was measured, in Markdown, its numbers formatted from the data: a sentence or two, or a table.
    """

    section: str
    title: str
    claim: str
    holds_as: str
    verdict: Verdict
    measured: str


def carry_out(
    folder: Path,
    measure: Callable[[bool], dict[str, Any]],
    findings: Callable[[dict[str, Any]], list[Finding]],
    plot: Callable[[dict[str, Any]], Figure] | None = None,
) -> None:
    """Measure, write it down, judge and draw: the whole of an experiment's command.

    With ``--quick`` the facts go to ``quick.json``, else to ``results.json``; ``plot.png`` is drawn from the whole
    version where there is one. What was measured is written before it is judged, so that a judgement that fails costs
    no measurement; ``--judge`` judges anew what lies there.

    Args:
        folder: The experiment's.
        measure: From whether to be quick to the facts, as JSON would have them.
        findings: From the facts to what is said of them.
        plot: From the facts to a figure.
    """
    parser = argparse.ArgumentParser(
        description=f"The experiment of {folder.name}; README.md beside it says what it is."
    )
    parser.add_argument("--quick", action="store_true", help="the version that `make theory` runs")
    parser.add_argument("--judge", action="store_true", help="measure nothing, and judge anew what was measured")
    options = parser.parse_args()
    file = folder / (QUICK_RESULTS if options.quick else RESULTS)
    head, data = recorded(file) if options.judge else measured(file, measure, quick=options.quick)
    said = findings(data)
    write(file, head, said, data)
    if plot and not (options.quick and (folder / RESULTS).exists()):
        (folder / PLOT).write_bytes(rendered(plot(data), "png"))
    for finding in said:
        print(f"{finding.section} {finding.title}: {finding.verdict}\n{finding.measured}\n")


def measured(
    file: Path, measure: Callable[[bool], dict[str, Any]], *, quick: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The head of a record and its data, measured now and written, not judged yet."""
    head = provenance(f"python -m experiments.theory.{file.parent.name}.run{' --quick' if quick else ''}")
    started = time.perf_counter()
    data = json.loads(json.dumps(measure(quick)))
    head["seconds"] = round(time.perf_counter() - started, 1)
    write(file, head, [], data)
    return head, data


def recorded(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same of what was measured earlier; the head says, besides, by which commit it is judged now.

    Raises:
        SystemExit: nothing was measured.
    """
    if not file.exists():
        raise SystemExit(f"{file} is not there: nothing was measured that could be judged")
    facts = json.loads(file.read_text(encoding="utf-8"))
    head = {name: value for name, value in facts.items() if name not in ("findings", "data")}
    return head | {"judged": commit()}, facts["data"]


def write(file: Path, head: dict[str, Any], said: Sequence[Finding], data: dict[str, Any]) -> None:
    """Write a record whole; without findings it is not judged yet."""
    facts = {**head, "findings": [asdict(finding) for finding in said], "data": data}
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
