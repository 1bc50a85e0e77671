"""The installed package: its list of packages, and a wheel that works away from the clone."""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_every_package_is_listed_for_installation() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    source = ROOT / "src"
    found = {".".join(path.parent.relative_to(source).parts) for path in source.rglob("__init__.py")}
    # Hydra's namespace has no __init__.py; without its name an editable install would not find what lies in it.
    elsewhere = {"lightning_lora.conf", "lightning_lora.sweeps", "hydra_plugins"}
    assert set(settings["packages"]) == found | elsewhere


def test_the_embedded_encoder_is_small() -> None:
    folder = ROOT / "src" / "lightning_lora" / "tiny_encoder"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_000_000


@pytest.mark.slow
def test_a_wheel_trains_from_another_folder(tmp_path: Path) -> None:
    """Into an environment that sees this one's libraries, but neither the clone nor its editable install."""
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    libraries = subprocess.run([sys.executable, "-c", purelib], check=True, capture_output=True, text=True).stdout
    own = subprocess.run([python, "-c", purelib], check=True, capture_output=True, text=True).stdout.strip()
    # A plain path entry does not run the other environment's .pth files, so the editable install stays out of reach.
    Path(own, "libraries.pth").write_text(libraries)
    command = [
        tmp_path / "venv" / "bin" / "lightning-lora",
        "train",
        "data.train_rows=16",
        "epochs=1",
        "logger=disabled",
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "LIGHTNING_LORA_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert list(elsewhere.glob("runs/*/*/result.json"))
    program = (
        "import lightning_lora\n"
        "from lightning_lora.cli import precheck\n"
        "from lightning_lora.cli.options import shipped_sweeps\n"
        "print(lightning_lora.__file__)\n"
        "for name in shipped_sweeps():\n"
        "    assert precheck.check(['-m', f'+sweeps={name}']).configs\n"
        "    print(name)"
    )
    where = subprocess.run([python, "-c", program], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert where.returncode == 0, where.stderr
    assert str(tmp_path) in where.stdout.splitlines()[0]
    assert where.stdout.splitlines()[1:] == sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))
