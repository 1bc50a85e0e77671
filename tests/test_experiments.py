"""Experiments and benchmarks take hours and are run rarely; what they import of the package is there all the same."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_lora.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path for folder in ("experiments", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def missing(source: str) -> Iterator[str]:
    """Names that a source imports from the package, and that are not in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightning_lora"):
            module = importlib.import_module(str(node.module))
            modules = {found.name for found in pkgutil.iter_modules(getattr(module, "__path__", ()))}
            for name in (alias.name for alias in node.names):
                if name not in modules and not hasattr(module, name):
                    yield f"{node.module}.{name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_script_imports_is_there(script: Path) -> None:
    assert list(missing(script.read_text())) == []


def test_a_name_that_is_gone_is_found() -> None:
    source = "from lightning_lora.reporting import inference\nfrom lightning_lora.reporting.multiplicity import holmes"
    assert list(missing(source)) == ["lightning_lora.reporting.multiplicity.holmes"]


@pytest.mark.parametrize(
    ("table", "options"),
    [*((table, ["--reference", "all"]) for table in ("layers", "matched", "matched_fp32")), ("roles", [])],
)
def test_the_page_of_an_experiment_is_the_report_of_its_runs(table: str, options: list[str], tmp_path: Path) -> None:
    page = ROOT / "experiments" / "layer_choice" / f"{table}.md"
    runs = str(page.parent / "runs" / table)
    main(["report", runs, *options, "--no-timings", "--out", str(tmp_path / page.name)])
    assert (tmp_path / page.name).read_text() == page.read_text()


def test_the_tables_of_learning_rates_are_those_of_the_facts() -> None:
    command = [sys.executable, "-m", "experiments.layer_choice.rates"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(rows) > 60
    readme = (ROOT / "experiments" / "layer_choice" / "README.md").read_text()
    assert [row for row in rows if row not in readme.splitlines()] == []
