"""What every test starts from: fixed seeds, one thread, no network, no W&B."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import jaxtyping
import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
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
