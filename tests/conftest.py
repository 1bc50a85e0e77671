"""What every test starts from: fixed seeds, one thread, no network, no W&B."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import jaxtyping
import pytest
import torch

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start with them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing here fails for being slow: the machine may be.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

SOURCE = Path(__file__).parents[1] / "src"


def checked_modules() -> list[str]:
    """Those whose signatures are executed: all but the embedded language, whose millions of calls have no shapes."""
    files = [path.relative_to(SOURCE).with_suffix("") for path in SOURCE.glob("lightning_lora/**/*.py")]
    names = [".".join(path.parts) for path in files if path.name != "__init__"]
    return [name for name in names if not name.startswith("lightning_lora.data.toy.")]


jaxtyping.install_import_hook(checked_modules(), "beartype.beartype")


@pytest.fixture(scope="session", autouse=True)
def _tokens_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> None:
    """One cache of tokenised data for all tests and workers, and none of the user's."""
    base = tmp_path_factory.getbasetemp()
    os.environ["LIGHTNING_LORA_CACHE"] = str((base if worker_id == "master" else base.parent) / "tokens")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder this process may read and not write; root becomes nobody meanwhile, for root may write anywhere."""
    with TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)
            Path(name).chmod(0o755)


@pytest.fixture
def _plain_functions() -> Iterator[None]:
    """Without the checks of shapes in signatures that tests run with, which cannot be traced."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
