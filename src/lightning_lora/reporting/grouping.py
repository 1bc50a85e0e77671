"""Which runs are compared with one another: those that answer the same question."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_lora.reporting.options import Settings
from lightning_lora.reporting.record import RunRecord
from lightning_lora.reporting.scored import dev_split_of, examples_of


@dataclass(frozen=True)
class Run:
    """A run with what may tell its option from others."""

    folder: Path
    record: RunRecord
    settings: Settings

    @property
    def seed(self) -> int:
        """It was trained with."""
        return int(self.record.config["seed"])

    @property
    def has_adapter(self) -> bool:
        """Or is it a baseline."""
        return bool(self.record.config["lora"]["method"] == "lora")

    @property
    def same_parameters_as(self) -> str | None:
        """The choice of layers that its adapter has as many parameters as."""
        name: str | None = self.record.config["lora"].get("same_parameters_as")  # older records do not have it
        return name


def groups_of(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs that can be compared: of one task, metric and base model (by its fingerprint), on the same dev examples.

    Which layers are best at one rank and which at equal parameters are two questions: runs with the parameters of other
    layers are a group of their own. A baseline has no rank and is in both.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        record = run.record
        key = record.task, record.metric, record.base["fingerprint"], dev_split_of(record)
        groups.setdefault(key, []).append(run)
    return [of_size for group in groups.values() for same in _by_examples(group) for of_size in _by_size(same)]


def size_of(group: Sequence[Run]) -> str | None:
    """The choice of layers whose parameters the adapters of a group have; None where each has what its rank gives."""
    return next((run.same_parameters_as for run in group if run.has_adapter), None)


def _by_examples(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs on splits of one name and size, told apart by their texts and labels.

    Older records do not say which these were. Their runs go with the others where those agree, else by themselves.
    """
    said = [examples_of(run.record) for run in runs]
    known = set(said) - {None}
    only = known.pop() if len(known) == 1 else None
    groups: dict[str | None, list[Run]] = {}
    for run, examples in zip(runs, said, strict=True):
        groups.setdefault(examples or only, []).append(run)
    return list(groups.values())


def _by_size(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs told apart by whose parameters their adapters have, with every baseline in each group."""
    sizes = dict.fromkeys(run.same_parameters_as for run in runs if run.has_adapter) or {None: None}
    return [[run for run in runs if not run.has_adapter or run.same_parameters_as == size] for size in sizes]
