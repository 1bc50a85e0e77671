"""Numbers and sentences of the page."""

from collections.abc import Sequence

from lightning_lora.reporting.comparison import Interval, OptionSummary, TaskComparison

MOST_NAMED = 3
MINUS = "\N{MINUS SIGN}"


def summary_sentence(task: TaskComparison) -> str:
    """Which option is best, which cannot be told apart from it, and by how much the others are worse.

    Two options that share one of the task's groups cannot be told apart; scores are × 100.
    """
    if not task.options:
        return "No run has finished."
    best, *others = task.options
    if not others:
        return f"{_named(best)} is the only option."
    alike = [option for option in others if set(task.groups[best.label]) & set(task.groups[option.label])]
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
    return f"{100 * fraction:.1f}".replace("-", MINUS)


def difference(fraction: float) -> str:
    """A difference × 100 with its sign, to two decimals."""
    return f"{100 * fraction:+.2f}".replace("-", MINUS)


def interval(score: Interval, *, signed: bool = False) -> str:
    """The ends of an interval × 100, in brackets; nothing where it has none."""
    if score.low is None or score.high is None:
        return ""
    written = difference if signed else points
    return f"[{written(score.low)}, {written(score.high)}]"


def probability(p: float | None) -> str:
    """A p-value to three decimals; a smaller one as such."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def three_digits(number: float) -> str:
    """A positive number to three significant digits, whole from 100 on."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
