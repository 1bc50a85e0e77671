"""`python train.py -m` over a grid, with real jobs."""

from collections import Counter
from pathlib import Path

from train_command import WORDS, to_the_end

from lightning_lora.reporting import records_below


def test_a_baseline_is_trained_once_whatever_the_ranks_of_the_grid(tmp_path: Path) -> None:
    """Side by side, where the jobs would else wait for one another."""
    side_by_side = ["hydra/launcher=local", "hydra.launcher.n_parallel=2"]
    words = ["-m", "lora=full,qv", "rank=4,8", "trainer.max_steps=2", "hydra.sweep.dir=grid", *side_by_side]
    status, output, errors = to_the_end(*words, *WORDS[1:], cwd=tmp_path)
    assert status == 0, errors
    records = records_below(tmp_path / "grid").values()
    trained = Counter((record.config["lora"]["method"], record.config["rank"], record.status) for record in records)
    assert trained == {(*job, "finished"): 1 for job in (("full", 4), ("lora", 4), ("lora", 8))}
    assert "[3/3]" in output
    assert "was there" not in output
