"""Whether a name is known, and the known ones closest to one that is misspelt. Standard library only."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names closest to ``name``, the closest first: none, one, or up to three that are about as close."""
    ratios = {candidate: difflib.SequenceMatcher(None, name.lower(), candidate.lower()).ratio() for candidate in known}
    best = max(ratios.values(), default=0.0)
    close = [candidate for candidate, ratio in ratios.items() if ratio >= max(0.5, best - 0.17)]
    return sorted(close, key=lambda candidate: -ratios[candidate])[:3]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of an error line: ``"; did you mean 'x'?"``, or nothing where no known name is close."""
    near = [repr(candidate) for candidate in nearest(name, known)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def check_known(setting: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError where a setting's value is none of the known names; the message lists them."""
    names = list(known)
    if name not in names:
        choices = ", ".join(names)
        raise ValueError(f"{setting}={name!r} is unknown; choose one of {choices}{did_you_mean(str(name), names)}")
