"""Two real processes: every dev row counts once, all processes agree, and all of them stop together."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import TASK, TinyData, tiny_module, tiny_trainer

from lightning_lora.tasks import score
from lightning_lora.training import AtomicCheckpointIO

SCRIPT = Path(__file__).with_name("two_processes.py")
DEV_ROWS = 21


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path, str]:
    """What each process saw, the folder of the run, and all that was printed."""
    folder = tmp_path_factory.mktemp("two_processes")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)], folder, done.stdout + done.stderr


def test_every_dev_row_counts_once_in_every_process(ranks: tuple[list[dict[str, Any]], Path, str]) -> None:
    seen, _, _ = ranks
    both = [rank["good"] for rank in seen]
    assert sum(rank["dev_rows"] for rank in both) == 2 * (DEV_ROWS + 1), "an odd number is padded, in both epochs"
    for rank in both:
        assert rank["predictions"]["idx"].tolist() == list(range(DEV_ROWS))
        assert torch.equal(rank["predictions"]["logits"], both[0]["predictions"]["logits"])
        whole = score(TASK, rank["predictions"]["logits"], rank["predictions"]["labels"])
        assert {name: rank["dev_metrics"]["validation"][name] for name in whole} == whole
        assert rank["best_score"] == both[0]["best_score"]
        assert rank["merge_rows"] == DEV_ROWS


@pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers")
def test_one_process_alone_finds_the_same_predictions(ranks: tuple[list[dict[str, Any]], Path, str]) -> None:
    seen, folder, _ = ranks
    module = tiny_module()
    checkpoint = AtomicCheckpointIO().load_checkpoint(folder / "good" / "last.ckpt")
    module.load_state_dict(checkpoint["state_dict"], strict=False)
    tiny_trainer(folder).validate(module, datamodule=TinyData(), verbose=False)
    alone, together = module.predictions["validation"], seen[0]["good"]["predictions"]
    assert torch.equal(alone.labels, together["labels"])
    torch.testing.assert_close(alone.logits, together["logits"])


def test_all_processes_stop_before_the_step_that_is_bad_in_one(
    ranks: tuple[list[dict[str, Any]], Path, str],
) -> None:
    seen, folder, _ = ranks
    first, second = (rank["faulty"] for rank in seen)
    assert first["error"].startswith("the loss is not finite in another process at step 4, lr=")
    assert second["error"].startswith("the loss is nan at step 4, lr=")
    assert first["steps"] == second["steps"] == 3
    for name, value in first["trained"].items():
        assert bool(value.isfinite().all())
        assert torch.equal(value, second["trained"][name])
    kept = torch.load(folder / "faulty" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 2, "the dev pass before the fault"


def test_the_processes_ask_for_no_averaging_of_metrics(ranks: tuple[list[dict[str, Any]], Path, str]) -> None:
    assert "sync_dist" not in ranks[2]
    assert "all_gather is deprecated" not in ranks[2]
