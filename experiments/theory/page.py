"""docs/theory.md: the document's claims with their verdicts, from what the experiments beside this file have written.

python -m experiments.theory.page          # write the page from the facts that lie there
python -m experiments.theory.page --run    # run every quick version first, as `make theory` does
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from experiments.provenance import ROOT
from experiments.theory.finding import PLOT, QUICK_RESULTS, RESULTS

HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs" / "theory.md"

INTRODUCTION = """# The document's claims, tested

The document is the text from which this project started: LoRA's mathematics with proofs, code and usual settings. It is
not public; its claims are given here in our words, with the number of the section that makes them, and the verdict is
on the claim as the document states it.

Written by `make theory` from what the experiments in `experiments/theory/` measured; do not edit. Where an experiment
has been run at length, its figures stand here; else those of its quick version, which `make theory` runs. Each was
measured at the commit that stands with it, and runs that lay there were not trained again: one that two sections
describe alike may be of two commits and have two scores (LoRA of rank 8 on MRPC in 7.2 and 8.1). MINILM is the folder
of all-MiniLM-L6-v2 (README, "Measured").
"""


def experiments() -> list[Path]:
    return sorted(path.parent for path in HERE.glob("*/run.py"))


def facts_of(folder: Path) -> dict[str, Any] | None:
    """What an experiment has written and judged: the whole version's facts where there are any."""
    for name, option in ((RESULTS, ""), (QUICK_RESULTS, " --quick")):
        if not (folder / name).exists():
            continue
        facts: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        if facts["findings"]:
            return facts
        command = f"python -m experiments.theory.{folder.name}.run{option} --judge"
        print(f"{folder.name}/{name} is not judged and left out: {command}", file=sys.stderr)
    return None


def run_quick_versions() -> list[str]:
    """Run them one after the other; returns the names of those that failed."""
    failed = []
    for folder in track(experiments(), description="Experiments", console=Console(stderr=True)):
        command = [sys.executable, "-m", f"experiments.theory.{folder.name}.run", "--quick"]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if result.returncode:
            print(f"{folder.name} failed:\n{result.stderr[-2000:]}", file=sys.stderr)
            failed.append(folder.name)
    return failed


def order(section: str) -> tuple[float, str]:
    """Sections by number; what has none, such as a reference, after them."""
    try:
        return float(section), section
    except ValueError:
        return float("inf"), section


def section_text(finding: dict[str, Any], folder: Path, facts: dict[str, Any], with_plot: bool) -> str:
    """One claim on the page; the plot of its experiment stands at the first of them."""
    beside = f"../{folder.relative_to(ROOT)}"
    lines = [
        f"## {finding['section']} {finding['title']}",
        f"**Claim.** {finding['claim']}",
        f"**Verdict: {finding['verdict']}.** {finding['holds_as']}",
        finding["measured"],
    ]
    if with_plot and (folder / PLOT).exists():
        lines.append(f"![{finding['title']}]({beside}/{PLOT})")
    # At length an experiment goes on from runs that are there, so that its seconds say little.
    took = f"{facts['seconds']:.0f} s; " if facts["command"].endswith("--quick") else ""
    lines.append(f"`{facts['command']}` ({took}commit {facts['commit']}; [{folder.name}]({beside}/README.md))")
    return "\n\n".join(lines)


def page() -> str:
    """The whole page, the sections in the document's order."""
    found = []
    for folder in experiments():
        if facts := facts_of(folder):
            found += [(finding, folder, facts) for finding in facts["findings"]]
    found.sort(key=lambda item: order(item[0]["section"]))
    table = ["| section | claim about | verdict |", "|---|---|---|"]
    table += [f"| {finding['section']} | {finding['title']} | {finding['verdict']} |" for finding, _, _ in found]
    texts, shown = [], set()
    for finding, folder, facts in found:
        texts.append(section_text(finding, folder, facts, with_plot=folder not in shown))
        shown.add(folder)
    return "\n".join([INTRODUCTION, *table, "", "\n\n".join(texts), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run every experiment's quick version first")
    failed = run_quick_versions() if parser.parse_args().run else []
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
