"""lightning_lora.json: what PEFT's format has no place for. PEFT passes over the file; only this package reads it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_lora.adapters_io.safe_files import read_json_object
from lightning_lora.digests import tensor_digests
from lightning_lora.settings import shown

FACTS_FILE = "lightning_lora.json"
SCHEMA_VERSION = 1
# 32 bits of each tensor's sha256 tell which one differs; 200 tensors take 15 KB. The fingerprint is whole.
_DIGITS = 8


@dataclass(frozen=True)
class AdapterFacts:
    """Where an adapter comes from.

    Attributes:
        task: Name of the task it was trained for.
        labels: The task's labels in the order of the outputs; empty for regression.
        base_fingerprint: `Backbone.fingerprint` of the base model; empty where it is not known.
        base_digests: Digest of each tensor of the base model, by name.
        parameters: Names of the model's own parameters that are saved with the adapter.
    """

    task: str = ""
    labels: tuple[str, ...] = ()
    base_fingerprint: str = ""
    base_digests: Mapping[str, str] | None = None
    parameters: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The file's text; digests are cut to 8 hexadecimal digits."""
        short = {name: digest[:_DIGITS] for name, digest in (self.base_digests or {}).items()}
        content = {"schema_version": SCHEMA_VERSION, **asdict(self), "base_digests": short}
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    def differing(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Names of the base model's tensors that ``tensors`` lacks, or holds with other bits; all of them compared."""
        recorded = {name: digest[:_DIGITS] for name, digest in (self.base_digests or {}).items()}
        present = tensor_digests((name, tensor) for name, tensor in tensors.items() if name in recorded)
        return [name for name, digest in recorded.items() if present.get(name, "")[:_DIGITS] != digest]


def read_facts(folder: Path) -> AdapterFacts | None:
    """Read the facts of an adapter's folder; None where another program wrote it.

    Raises:
        ValueError: the file is damaged, or a later version of this package wrote it.
    """
    path = folder / FACTS_FILE
    if not path.exists():
        return None
    raw = read_json_object(path)
    if raw.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: schema_version={shown(raw.get('schema_version'))}; this version reads {SCHEMA_VERSION}"
        )
    texts = (raw.get("task", ""), raw.get("base_fingerprint", ""))
    digests = raw.get("base_digests") or {}
    lists = (_texts(raw, path, "labels"), _texts(raw, path, "parameters"))
    named = digests.items() if isinstance(digests, dict) else [(None, None)]
    if not all(isinstance(text, str) for text in (*texts, *(part for pair in named for part in pair))):
        raise ValueError(f"{path}: task, base_fingerprint and base_digests must be text")
    return AdapterFacts(texts[0], lists[0], texts[1], digests, lists[1])


def _texts(raw: Mapping[str, Any], path: Path, key: str) -> tuple[str, ...]:
    value = raw.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{path}: {key}={shown(value)} must be a list of names")
    return tuple(value)
