"""The search of run.py on a real encoder and a real task, SST-2; the facts go to minilm_sst2.json beside this file.

python -m experiments.theory.intrinsic_dimension.on_minilm --model MINILM --glue GLUE

Given with some of the methods, it adds them to those that are there.
"""

import argparse
import json
from pathlib import Path

from experiments.theory.finding import provenance
from experiments.theory.intrinsic_dimension.run import MINILM, told
from experiments.theory.intrinsic_dimension.trials import Method, Recipe, search

GRIDS: dict[Method, list[int]] = {
    "direct": [4**k for k in range(2, 9)],
    "structured": [4**k for k in range(2, 9)],
    "lora": [1, 2, 4, 8, 16],
}


def recipe_for(model: str, glue: Path) -> Recipe:
    """Rates and step of the trials that README.md tells of."""
    return Recipe(
        model,
        "sst2",
        glue / "sst2",
        2000,
        epochs=2,
        batch_size=32,
        lr=3e-4,
        lora_lr=3e-3,
        head_lr=1e-2,
        step=3.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with all-MiniLM-L6-v2, or another model")
    parser.add_argument("--glue", required=True, type=Path, help="a folder with a folder of parquet files per task")
    parser.add_argument("--methods", nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()

    grids = {method: GRIDS[method] for method in given.methods}
    data = json.loads(json.dumps(search(recipe_for(given.model, given.glue), grids, given.seeds)))
    earlier = json.loads(MINILM.read_text())["data"] if MINILM.exists() else None
    if earlier is not None and all(earlier[name] == data[name] for name in data if name != "methods"):
        data["methods"] = earlier["methods"] | data["methods"]
    facts = {**provenance("python -m experiments.theory.intrinsic_dimension.on_minilm"), "data": data}
    MINILM.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    print(told(data))


if __name__ == "__main__":
    main()
