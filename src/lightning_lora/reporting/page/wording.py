"""Numbers and sentences of the page."""

from collections.abc import Sequence

from lightning_lora.reporting import formatting
from lightning_lora.reporting.comparison import Interval, OptionSummary, TaskComparison

MOST_NAMED = 3
_MINUS = "\N{MINUS SIGN}"


def summary_sentence(task: TaskComparison) -> str:
    """Which option is best, which cannot be told apart from it, and by how much the others are worse.

    Two options that share one of the task's groups cannot be told apart; scores are × 100.
    """
    if not task.options:
        return "No run has finished."
    best, *others = task.options
    if not others:
        return f"{_named(best)} is the only option."
    alike = [option for option in others if task.ties_with_best(option)]
    gaps = {contrast.option: contrast.difference.value for contrast in task.contrasts}
    worse = [option for option in others if option not in alike]
    parts = [f"{_named(best)} is best"]
    if alike:
        parts.append(f"{_listed(alike)} cannot be told apart from it")
    if worse:
        lost = sorted(-gaps[option.label] for option in worse)
        span = " to ".join(dict.fromkeys([points(lost[0]), points(lost[-1])]))
        who = f"{_named(worse[0])} is" if len(worse) == 1 else f"the other {len(worse)} are"
        parts.append(f"{who} worse by {span} points")
    return "; ".join(parts) + "."


def _named(option: OptionSummary) -> str:
    return f"{option.label} ({points(option.mean.value)})"


def _listed(options: Sequence[OptionSummary]) -> str:
    """A list in words; of a long one the beginning, and how many more."""
    names = [_named(option) for option in options]
    if len(names) > MOST_NAMED + 1:
        names[MOST_NAMED:] = [f"{len(names) - MOST_NAMED} others"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def points(fraction: float) -> str:
    """A fraction × 100, to one decimal."""
    return _typeset(formatting.points(fraction))


def difference(fraction: float) -> str:
    """A difference × 100 with its sign, to two decimals."""
    return _typeset(formatting.points(fraction, decimals=2, signed=True))


def interval(score: Interval, *, signed: bool = False) -> str:
    """The ends of an interval × 100, in brackets; nothing where it has none, or no width."""
    decimals = 2 if signed else 1
    return _typeset(formatting.ends(score, "[{}, {}]", decimals=decimals, signed=signed, without=""))


def _typeset(number: str) -> str:
    """With a minus sign, which a terminal and a file go without."""
    return number.replace("-", _MINUS)
