"""What every experiment here says in the end, and the files in which it says so."""

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure

from lightning_lora.reporting.plots import rendered

Verdict = Literal["holds", "holds with conditions", "false", "undecided"]

RESULTS, QUICK_RESULTS, PLOT = "results.json", "quick.json", "plot.png"
ROOT = Path(__file__).resolve().parents[2]


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
    """Measure, judge, draw, and write it down: the whole of an experiment's command.

    With ``--quick`` the facts go to ``quick.json``, else to ``results.json``; ``plot.png`` is drawn from the whole
    version where there is one.

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
    quick = parser.parse_args().quick
    started = time.perf_counter()
    data = json.loads(json.dumps(measure(quick)))
    said = findings(data)
    facts = {
        **provenance(f"python -m experiments.theory.{folder.name}.run{' --quick' if quick else ''}"),
        "seconds": round(time.perf_counter() - started, 1),
        "findings": [asdict(finding) for finding in said],
        "data": data,
    }
    (folder / (QUICK_RESULTS if quick else RESULTS)).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    if plot and not (quick and (folder / RESULTS).exists()):
        (folder / PLOT).write_bytes(rendered(plot(data), "png"))
    for finding in said:
        print(f"{finding.section} {finding.title}: {finding.verdict}\n{finding.measured}\n")


def provenance(command: str) -> dict[str, Any]:
    """What was run, where, and with what: the beginning of every record."""
    return {
        "command": command,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        "commit": _commit(),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
