"""Sweeps over real tasks with a real encoder: what the commands of several experiments share.

A sweep is a list of words as they follow ``python train.py -m``. Each goes into a folder of its task, and goes on where
it stopped; so a command that was cut off is simply given again.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Sweeps = list[list[str]]
ROOT = Path(__file__).resolve().parents[1]

SUBSETS = {"sst2": 5000}
"""Training rows of the tasks that are not taken whole."""


def run_tables(
    description: str,
    sweeps_of: Callable[[str, str], Sweeps],
    tasks_of: Mapping[str, Sequence[str]],
    subsets: Mapping[str, int] = SUBSETS,
) -> None:
    """The command of an experiment: read the command line, and run the sweeps of a table.

    Args:
        description: What ``--help`` says.
        sweeps_of: From table and task to its sweeps.
        tasks_of: The tables, each with its tasks.
        subsets: Training rows of the tasks that are not taken whole.

    Raises:
        SystemExit: status 1 where a sweep failed.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tasks_of)
    parser.add_argument("--model", required=True, help="a folder with all-MiniLM-L6-v2, or another model")
    parser.add_argument(
        "--glue", required=True, type=Path, help="a folder with a folder of parquet files for each task"
    )
    parser.add_argument("--into", required=True, type=Path, help="where the runs go: INTO/TABLE/TASK")
    parser.add_argument("--tasks", nargs="+", help="some of the table's tasks only")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more settings for every sweep")
    given = parser.parse_args()
    tasks = given.tasks or tasks_of[given.table]
    if unknown := [task for task in tasks if task not in tasks_of[given.table]]:
        known = ", ".join(tasks_of[given.table])
        parser.error(f"{given.table} has no task {', '.join(unknown)}: choose from {known}")

    failed = 0
    for task in tasks:
        rows = [f"data.train_rows={subsets[task]}"] if task in subsets else []
        data = [f"data={task}", f"data.path={given.glue / task}", *rows]
        folder = f"hydra.sweep.dir={(given.into / given.table / task).resolve()}"
        for words in sweeps_of(given.table, task):
            base = [f"model.name={given.model}", "logger=disabled"]
            command = [sys.executable, "train.py", "-m", *base, *data, *words, folder, *given.set]
            failed += subprocess.run(command, cwd=ROOT, check=False).returncode != 0
    sys.exit(1 if failed else 0)
