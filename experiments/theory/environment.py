"""Where models and data lie that no package carries: the environment says it."""

import os

NAMED = {
    "MINILM": "the folder with all-MiniLM-L6-v2",
    "GLUE": "a folder with a folder of parquet files for each task",
    "LORALIB": "Microsoft's roberta_base_lora_mnli.bin",
}


def location(name: str) -> str:
    """What a variable of the environment says.

    Raises:
        SystemExit: it is not set.
    """
    if found := os.environ.get(name):
        return found
    raise SystemExit(f"{name} is not set in the environment: {NAMED[name]}")
