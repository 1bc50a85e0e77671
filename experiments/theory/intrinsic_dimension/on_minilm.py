"""The search of run.py on a real encoder and a real task; the facts go to minilm_TASK.json beside this file.

python -m experiments.theory.intrinsic_dimension.on_minilm --model MINILM --glue GLUE --task mrpc
"""

import argparse
import json
from pathlib import Path

import torch

from experiments.theory.intrinsic_dimension.run import of_the_dimension
from experiments.theory.intrinsic_dimension.trials import Method, Recipe, search

# The paper's tasks are MRPC, whole, and QQP. SST-2 is cut, as everywhere in these experiments.
ROWS = {"mrpc": None, "sst2": 5000}
GRIDS: dict[Method, list[int]] = {
    "direct": [2**k for k in range(4, 17)],
    "structured": [2**k for k in range(4, 17)],
    "lora": [1, 2, 4, 8, 16, 32],
}


def recipe_for(task: str, model: str, glue: Path) -> Recipe:
    """The learning rates of full fine-tuning and LoRA are usual ones; what subspaces need is to be tried first."""
    return Recipe(
        model,
        task,
        glue / task,
        ROWS[task],
        epochs=3,
        batch_size=32,
        lr=1e-4,
        lora_lr=1e-3,
        head_lr=1e-3,
        step=0.3,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with all-MiniLM-L6-v2, or another model")
    parser.add_argument("--glue", required=True, type=Path, help="a folder with a folder of parquet files per task")
    parser.add_argument("--task", choices=ROWS, default="mrpc")
    parser.add_argument("--methods", nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()

    grids = {method: GRIDS[method] for method in given.methods}
    data = search(recipe_for(given.task, given.model, given.glue), grids, given.seeds)
    data = json.loads(json.dumps(data))
    facts = {"versions": {"torch": str(torch.__version__)}, "data": data}
    target = Path(__file__).parent / f"minilm_{given.task}.json"
    target.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    print(of_the_dimension(data).measured)


if __name__ == "__main__":
    main()
