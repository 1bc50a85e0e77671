"""The search of run.py on a real encoder and a real task, SST-2; the facts go to minilm_sst2.json beside this file.

python -m experiments.theory.intrinsic_dimension.on_minilm --model MINILM --glue GLUE

Given with some of the methods, it adds them to those that are there, if these are of the same search on the same
machine: else nothing would be comparable. Given with all, it replaces them.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.provenance import provenance
from experiments.theory.intrinsic_dimension.run import MINILM, told
from experiments.theory.intrinsic_dimension.trials import Method, Recipe, search
from lightning_lora.atomic import atomic_file

GRIDS: dict[Method, list[int]] = {
    "direct": [4**k for k in range(2, 9)],
    "structured": [4**k for k in range(2, 9)],
    "lora": [1, 2, 4, 8, 16],
}
# What cannot be added is kept all the same.
OTHER = MINILM.with_name(f"{MINILM.stem}_other.json")


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

    head = provenance("python -m experiments.theory.intrinsic_dimension.on_minilm")
    earlier = kept_facts(MINILM, given.methods)
    asked = {"machine": head["machine"], "versions": head["versions"]}
    asked |= {"model": Path(given.model).name, "seeds": given.seeds}
    if names := differing(earlier | earlier.get("data", {}), asked):
        raise SystemExit(f"{MINILM.name} was measured with another {names}: give all methods, or move it away")
    grids = {method: GRIDS[method] for method in given.methods}
    data = json.loads(json.dumps(search(recipe_for(given.model, given.glue), grids, given.seeds)))
    if names := differing(earlier.get("data", {}), data):
        write(OTHER, {**head, "data": data})
        raise SystemExit(f"{MINILM.name} has another {names} and stays as it is; what was measured is in {OTHER}")
    if earlier:
        data["methods"] = earlier["data"]["methods"] | data["methods"]
    write(MINILM, {**head, "data": data})
    print(told(data))


def kept_facts(file: Path, methods: Sequence[str]) -> dict[str, Any]:
    """The record that methods are added to; an empty one where there is none, or nothing of it is kept."""
    if not file.exists():
        return {}
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return facts if set(facts["data"]["methods"]) - set(methods) else {}


def differing(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    """Names of what is not as it was, the methods aside; none where there is nothing earlier."""
    return ", ".join(name for name in now if earlier and name != "methods" and earlier[name] != now[name])


def write(file: Path, facts: dict[str, Any]) -> None:
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
