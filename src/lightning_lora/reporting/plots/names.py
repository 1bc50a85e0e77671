"""What options are called where room is scarce."""

from collections.abc import Collection, Sequence
from itertools import takewhile

_BETWEEN = ", "  # the settings of a label
_CUT = "…"


def fitted(labels: Sequence[str], longest: int) -> list[str]:
    """Labels in at most so many characters. Where one is longer, all go without what they share.

    That is a setting that is the same in all, and of names what all values of a setting begin or end with: beside
    ``scaling alpha_over_rank``, ``scaling alpha_over_sqrt_rank`` is ``scaling …sqrt_rank``. What is longer still lacks
    its middle.
    """
    if any(len(label) > longest for label in labels):
        labels = _without_the_shared(labels)
    return [shorten(label, longest) for label in labels]


def shorten(text: str, longest: int) -> str:
    """The text in at most so many characters, its middle left out; what no file can hold is shown as a mark."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}{_CUT}{text[-end:]}"


def _without_the_shared(labels: Sequence[str]) -> list[str]:
    settings = [[part.rpartition(" ") for part in label.split(_BETWEEN)] for label in labels]
    values: dict[str, list[str]] = {}
    for of_label in settings:
        for name, _, value in of_label:
            values.setdefault(name, []).append(value)
    cut = {name: _differing({*found}) for name, found in values.items()}
    same = {name for name, found in values.items() if len(found) == len(labels) and len({*found}) == 1}
    found = [
        _BETWEEN.join(f"{name}{space}{cut[name][value]}" for name, space, value in of_label if name not in same)
        for of_label in settings
    ]
    # One label alone shares everything; and a text with a comma of its own is no list of settings.
    return found if all(found) and len({*found}) == len({*labels}) else list(labels)


def _differing(values: Collection[str]) -> dict[str, str]:
    """For each value what is left without the words, joined by ``_``, that all begin or end with."""
    words = {value: value.split("_") for value in values}
    room = min(map(len, words.values())) - 1 if len(words) > 1 else 0
    front = min(_alike(words.values()), room)
    back = min(_alike([one[::-1] for one in words.values()]), room - front)
    return {
        value: f"{_CUT if front else ''}{'_'.join(one[front : len(one) - back])}{_CUT if back else ''}"
        for value, one in words.items()
    }


def _alike(words: Collection[Sequence[str]]) -> int:
    """With how many equal ones all begin."""
    return sum(1 for _ in takewhile(lambda place: len({*place}) == 1, zip(*words, strict=False)))
