"""Kinds of settings: what a value of the schema may be, in a form that checks it, explains it and names the nearest.

A kind is a dataclass field whose metadata holds a `Setting`; `check` walks the fields. Standard library only.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from lightning_lora.spelling import did_you_mean

LONGEST_TEXT = 1024
"""Characters in one text value; names that become files are held to `LONGEST_NAME` bytes."""
LONGEST_NAME = 255


class ConfigError(ValueError):
    """A mistake of the user's in a setting; the message is one line that says what is allowed."""


@dataclass(frozen=True)
class Setting:
    """What one key means and takes.

    Attributes:
        doc: What the key does, in a phrase.
        allowed: What its value may be, in words that complete "must be".
        accepts: Whether a value is allowed.
        names: The names it may take, where it takes names; for the nearest one to a typing error.
        otherwise: What null means, where that is a value of its own.
    """

    doc: str
    allowed: str
    accepts: Callable[[Any], bool]
    names: tuple[str, ...] = ()
    otherwise: str = ""


def spelled(value: Any) -> str:
    """A value on one line, as typed on a command line; a float keeps its point: 1.0 batches are all, 1 is one."""
    if _is_list(value):
        line = f"[{','.join(map(spelled, value))}]"
    elif value is None or isinstance(value, bool):
        line = "null" if value is None else str(value).lower()
    else:
        line = str(value)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


def shown(value: Any) -> str:
    """A value as a message shows it: `spelled`, and cut after 60 characters."""
    line = spelled(value)
    return line if len(line) <= 60 else f"{line[:57]}..."


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something; the name of its type where none does."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their full names, ``{"lora": {"dropout": 0}}`` as ``{"lora.dropout": 0}``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def refusal(key: str, value: Any, setting: Setting) -> ConfigError:
    """The error for a value that the key does not take."""
    wrong = next((item for item in value if item not in setting.names), "") if _is_list(value) else value
    hint = did_you_mean(str(wrong), setting.names)
    return ConfigError(f"{key}={shown(value)} is not allowed: {key} must be {setting.allowed}{hint}")


def check(section: object, prefix: str = "") -> None:
    """Check every setting of a dataclass.

    Args:
        section: An instance of a dataclass whose fields were made by this module.
        prefix: Where the dataclass stands in the whole config, with its dot: ``"lora."``.

    Raises:
        ConfigError: for the first value that is not allowed. None is allowed where it is the default.
    """
    for entry in fields(section):  # type: ignore[arg-type]
        setting = entry.metadata.get("setting")
        value = getattr(section, entry.name)
        if setting is None or (value is None and entry.default is None):
            continue
        if not setting.accepts(value):
            raise refusal(prefix + entry.name, value, setting)


def _setting(default: Any, setting: Setting) -> Any:
    metadata = {"setting": setting}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def whole(default: int | None, low: int, doc: str, high: int | None = None, also: int | None = None) -> Any:
    """A whole number of at least ``low``, at most ``high``, or exactly ``also``."""
    span = f"a whole number, {low} or more" if high is None else f"a whole number from {low} to {high}"
    allowed = span if also is None else f"{also} or {span}"
    top = math.inf if high is None else high
    return _setting(
        default, Setting(doc, allowed, lambda value: _is_whole(value) and (low <= value <= top or value == also))
    )


def positive(default: float | None, doc: str, otherwise: str = "", high: int | None = None) -> Any:
    """A finite number above zero, at most ``high``; ``otherwise`` says what null means."""
    allowed = "a finite number above 0" + ("" if high is None else f", at most {high}")
    allowed += f", or null ({otherwise})" if otherwise else ""
    top = sys.float_info.max if high is None else high
    return _setting(
        default,
        Setting(doc, allowed, lambda value: _is_number(value) and 0 < value <= top, otherwise=otherwise),
    )


def not_negative(default: float, doc: str) -> Any:
    """A finite number of at least zero."""
    return _setting(default, Setting(doc, "a finite number, 0 or more", lambda v: _is_number(v) and 0 <= v < math.inf))


def fraction(default: float, doc: str) -> Any:
    """A number in [0, 1)."""
    return _setting(default, Setting(doc, "a number from 0 up to, not including, 1", _is_fraction))


def share(default: float | None, doc: str) -> Any:
    """A number in (0, 1), or none."""
    return _setting(default, Setting(doc, "a number between 0 and 1, or null", lambda v: _is_number(v) and 0 < v < 1))


def fractions(default: Sequence[float], doc: str, count: int) -> Any:
    """A list of ``count`` numbers in [0, 1)."""
    allowed = f"a list of {count} numbers from 0 up to, not including, 1"
    return _setting(list(default), Setting(doc, allowed, lambda v: len(v) == count and all(map(_is_fraction, v))))


def numbers(default: Sequence[int] | None, doc: str) -> Any:
    """A list of whole numbers from zero, each of them once."""

    def accepts(value: Any) -> bool:
        return len(value) > 0 and all(_is_whole(item) and item >= 0 for item in value) and len(set(value)) == len(value)

    return _setting(default, Setting(doc, "a list of different numbers from 0, such as [0,1]", accepts))


def batches(default: float, doc: str, or_none: bool = False) -> Any:
    """A whole number of batches, or a fraction of all of them; zero only where that switches the setting off."""
    allowed = "a whole number of batches from 1, or a fraction of all above 0 and up to 1.0"
    allowed += ", or 0 (off)" if or_none else ""

    def accepts(value: Any) -> bool:
        if or_none and _is_number(value) and value == 0:
            return True
        return (_is_whole(value) and value >= 1) or (isinstance(value, float) and 0 < value <= 1)

    return _setting(default, Setting(doc, allowed, accepts))


def devices(default: int | str, doc: str) -> Any:
    """A number of devices, -1 or "auto" for all, or a list of device numbers."""

    def accepts(value: Any) -> bool:
        if _is_list(value):
            return len(value) > 0 and all(_is_whole(item) and item >= 0 for item in value)
        return value == "auto" or (_is_whole(value) and (value >= 1 or value == -1))

    allowed = "a number of devices from 1, -1 or auto for all, or a list of device numbers such as [0,1]"
    return _setting(default, Setting(doc, allowed, accepts))


def device_count(value: Any) -> Any:
    """What `devices` accepts, with a list as its length: which devices they are decides nothing."""
    return len(value) if _is_list(value) else value


def batch_limit(value: Any) -> Any:
    """What `batches` accepts, with a share as text: of the numbers, 1.0 (all batches) would be equal to 1 (one)."""
    return str(value) if isinstance(value, float) and value else value or 0


def one_of(default: str | None, names: Sequence[str], doc: str) -> Any:
    """One of some names."""
    return _setting(default, Setting(doc, f"one of {', '.join(names)}", lambda value: value in names, tuple(names)))


def some_of(default: Sequence[str] | None, names: Sequence[str], doc: str) -> Any:
    """A list of some names."""
    allowed = f"a list of names among {', '.join(names)}"
    kept = default if default is None else list(default)
    return _setting(kept, Setting(doc, allowed, lambda value: set(value) <= set(names), tuple(names)))


def flag(default: bool | None, doc: str) -> Any:
    """True or false."""
    return _setting(default, Setting(doc, "true or false", lambda value: isinstance(value, bool)))


def text(default: str | None, doc: str, allowed: str = "", accepts: Callable[[str], bool] = lambda value: True) -> Any:
    """A printable text that is not empty; ``allowed`` and ``accepts`` narrow it."""
    words = allowed or f"text of 1 to {LONGEST_TEXT} printable characters"
    return _setting(default, Setting(doc, words, lambda value: _is_text(value) and accepts(value)))


def texts(default: Sequence[str] | None, doc: str, allowed: str = "a list of texts", most: int | None = None) -> Any:
    """A list of texts, ``most`` of them at most."""
    kept = default if default is None else list(default)
    limit = math.inf if most is None else most
    return _setting(kept, Setting(doc, allowed, lambda value: len(value) <= limit and all(map(_is_text, value))))


def blocks(doc: str) -> Any:
    """Numbers of blocks: a list, a range ``"4-11"`` or one number; `parse_blocks` gives the tuple."""
    allowed = "a list of block numbers from 0 such as [0,1], or a range such as 4-11"
    return _setting(None, Setting(doc, allowed, lambda value: parse_blocks(value) is not None))


def parse_blocks(value: Any) -> tuple[int, ...] | None:
    """Block numbers in rising order, each once; None where the value does not say any."""
    if isinstance(value, str):
        first, dash, last = value.strip().partition("-")
        if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last) < LONGEST_TEXT):
            return None
        return tuple(range(int(first), int(last) + 1))
    items = list(value) if _is_list(value) else [value]
    if not items or not all(_is_whole(item) and item >= 0 for item in items):
        return None
    return tuple(sorted(set(items)))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float)


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and value.isprintable()


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)
