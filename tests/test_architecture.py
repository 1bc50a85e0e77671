"""The house keeps its walls: import contracts, checked shapes, the size budget, names of files, the public names."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

import lightning_lora
from lightning_lora.analysis import weight_gradient

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "lightning_lora"
MODULES = sorted([*PACKAGE.rglob("*.py"), ROOT / "train.py"])

LONGEST_MODULE = 300
LONGEST_BODY = 40
LONGEST_LIGHTNING_MODULE = 150
LONGEST_YAML = 25


def contracts(source: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of pyproject.toml on the package below ``source``."""
    shutil.copy(ROOT / "pyproject.toml", source / "pyproject.toml")
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)


def copy_of_package(target: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
    return Path(shutil.copytree(PACKAGE, target / "lightning_lora", ignore=ignore))


def test_the_import_contracts_hold(tmp_path: Path) -> None:
    copy_of_package(tmp_path)
    result = contracts(tmp_path)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("lora/spec.py", "import lightning_lora.inject", "Imports point down"),
        ("targets/roles.py", "import torch", "standard library only"),
        ("inject/report.py", "import transformers", "know no framework"),
        ("backbone.py", "import lightning", "Lightning stays"),
        ("data/collation.py", "import hydra", "Hydra stays"),
        ("training/module.py", "import transformers", "Transformers and datasets stay"),
    ],
)
def test_a_planted_import_breaks_them(module: str, line: str, contract: str, tmp_path: Path) -> None:
    planted = copy_of_package(tmp_path) / module
    planted.write_text(f"{planted.read_text()}\n{line}\n")
    result = contracts(tmp_path)
    assert result.returncode == 1
    broken = [text for text in result.stdout.splitlines() if " BROKEN" in text]
    assert any(contract in text for text in broken), result.stdout


def bodies(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines of the body without its docstring) of every function in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements = node.body[1:] if ast.get_docstring(node) else node.body
            if statements:
                yield node.name, (statements[-1].end_lineno or 0) - statements[0].lineno + 1


def test_shapes_in_signatures_are_checked_in_the_tests() -> None:
    rows, narrow = torch.zeros(3, 4), torch.zeros(2, 4)
    assert weight_gradient(rows, rows).shape == (4, 4)
    with pytest.raises(jaxtyping.TypeCheckError):
        weight_gradient(rows, narrow)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE
    too_long = {name: lines for name, lines in bodies(path) if lines > LONGEST_BODY}
    assert not too_long


def test_the_lightning_module_stays_small() -> None:
    tree = ast.parse((PACKAGE / "training" / "module.py").read_text())
    (node,) = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "LoRAClassifier"]
    assert (node.end_lineno or 0) - node.lineno + 1 <= LONGEST_LIGHTNING_MODULE


def test_yaml_files_stay_small() -> None:
    files = [path for folder in ("conf", "sweeps", "experiments") for path in (ROOT / folder).rglob("*.yaml")]
    assert files
    assert not {str(path): n for path in files if (n := len(path.read_text().splitlines())) > LONGEST_YAML}


def test_no_file_is_a_junk_drawer() -> None:
    names = {path.stem for path in [*MODULES, *(ROOT / "tests").rglob("*.py")]}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_the_public_names_are_those_documented() -> None:
    documented = {
        line.split("`")[1] for line in (ROOT / "docs" / "api.md").read_text().splitlines() if line.startswith("- `")
    }
    assert set(lightning_lora.__all__) == documented
    assert documented <= set(dir(lightning_lora))


@pytest.mark.parametrize("name", lightning_lora.__all__)
def test_every_exported_name_is_there_and_is_no_room(name: str) -> None:
    """A function named as a room would be hidden by it: importing a subpackage sets it on the package."""
    assert not (PACKAGE / name).exists()
    assert not (PACKAGE / f"{name}.py").exists()
    assert getattr(lightning_lora, name).__doc__
