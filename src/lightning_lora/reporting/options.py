"""Which settings tell the options of a task apart, and what each option is called."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning_lora.reporting.listing import method_of
from lightning_lora.reporting.record import RunRecord
from lightning_lora.settings import batch_limit, device_count, flat, spelled

Value = str | int | float | bool | None
Settings = dict[str, Value]

LORA = "lora"
# The first three are one word; seeds are averaged over; each task is compared apart; the record has the precision used.
_SAID_OTHERWISE = frozenset({"lora.method", "lora.roles", "lora.modules", "seed", "data.task", "trainer.precision"})
# What values of these come to; of other settings, 16 and 16.0 are one.
_COMES_TO: dict[str, Callable[[Any], Any]] = {
    "trainer.devices": device_count,
    "trainer.limit_train_batches": batch_limit,
    "trainer.limit_val_batches": batch_limit,
    "trainer.overfit_batches": batch_limit,
}
_SIZE = (LORA, "rank", "alpha")


def settings_of(record: RunRecord, determines_result: Callable[[str, str], bool]) -> Settings:
    """What may tell a run's option from others: settings by their full names, and what stood behind them.

    ``lora`` is the word for what was trained. Settings of adapters are left out for a baseline, where they have no
    effect. ``alpha`` is the number in force. ``precision`` is the one that was used, ``version`` is of this package.
    ``data`` is of what was trained on, of a random subset what it was drawn from: every seed has another subset.
    ``warm_start`` is the task that a warm start was trained on, ``warm_start.settings`` of the settings it had there,
    or of the adapter itself where they are not known.

    Args:
        record: Of the run.
        determines_result: Whether a key of the configuration, by its full name, belongs to a job's identity, given
            what the job trains, a ``lora.method``.
    """
    lora = record.config["lora"]
    adapted = lora["method"] == "lora"
    kept: Settings = {LORA: spelled(lora["modules"]) if adapted and lora["modules"] else method_of(record)}
    for key, value in flat(record.config).items():
        if key not in _SAID_OTHERWISE and determines_result(key, lora["method"]):
            value = _COMES_TO.get(key, _plain)(value)
            kept[key] = spelled(value) if isinstance(value, list | dict) else value
    if adapted and kept["alpha"] is None:
        kept["alpha"] = 2 * record.config["rank"]
    kept["precision"] = record.precision
    of_rows = "fingerprint" if record.config["data"].get("train_rows") is None else "drawn_from"
    if of_rows in record.data:  # older records do not say what a subset was drawn from
        kept["data"] = str(record.data[of_rows])[:6]
    start = record.base.get("warm_start")
    if start and "settings" in start:  # older records know the folder alone
        kept["warm_start"] = start["task"]
        kept["warm_start.settings"] = str(start["settings"] or start["fingerprint"])[:6]
    kept["version"] = record.versions["lightning-lora"]
    return kept


def _plain(value: Any) -> Any:
    """A number that is whole as a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def axes_of(runs: Sequence[Settings]) -> tuple[str, ...]:
    """The settings that have several values, what was trained and its size first.

    ``alpha`` is not one of them where it is twice the rank throughout, as it is unless it is set.
    """
    order = dict.fromkeys([*_SIZE, "lr", *(key for run in runs for key in run)])
    values = {key: {run[key] for run in runs if key in run} for key in order}
    if all(run["alpha"] == 2 * _number(run["rank"]) for run in runs if "alpha" in run):
        values["alpha"] = set()
    return tuple(key for key in order if len(values[key]) > 1)


def following_what_is_trained(runs: Sequence[Settings], axes: Sequence[str]) -> dict[str, dict[str, Value]]:
    """The settings that what is trained decides, as a learning rate tuned for each: axis -> ``lora`` -> value.

    Rank and alpha are never among them: an adapter's size is part of what it is.
    """
    if LORA not in axes:
        return {}
    decided = {}
    for axis in axes:
        values: dict[str, set[Value]] = {}
        for run in runs:
            if axis in run:
                values.setdefault(str(run[LORA]), set()).add(run[axis])
        if axis not in _SIZE and all(len(found) == 1 for found in values.values()):
            decided[axis] = {trained: found.pop() for trained, found in values.items()}
    return decided


def label_of(settings: Mapping[str, Value], axes: Sequence[str]) -> str:
    """An option in words: ``qv, rank 8, alpha 16``.

    Args:
        settings: Of a run of the option.
        axes: What to say of them; where nothing varies, what was trained.
    """
    last = [axis.rpartition(".")[2] for axis in axes]
    names = {axis: axis if last.count(name) > 1 else name for axis, name in zip(axes, last, strict=True)}
    said = [f"{names[axis]} {spelled(settings[axis])}" for axis in axes if axis in settings and axis != LORA]
    return ", ".join([str(settings[LORA]), *said] if LORA in axes or not said else said)


def each_at_its_own(axis: str, runs: Sequence[Settings], axes: Sequence[str]) -> bool:
    """Whether a setting varies between options but not within one that the others make, as one that was tuned does."""
    others = [other for other in axes if other != axis]
    values: dict[tuple[Value, ...], set[Value]] = {}
    for run in runs:
        values.setdefault(tuple(run.get(other) for other in others), set()).add(run.get(axis))
    return axis in axes and all(len(found) == 1 for found in values.values())


def _number(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)
