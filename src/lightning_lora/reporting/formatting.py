"""Numbers as text. Scores and differences are in points, a hundredth of the metric; what is not there is a dash."""

from lightning_lora.reporting.comparison import Interval

NOTHING = "–"
_ROUNDING = 1e-6  # records hold scores in float32


def points(value: float | None, *, decimals: int = 1, signed: bool = False) -> str:
    """A score or a difference × 100."""
    return NOTHING if value is None else f"{100 * value:{'+' if signed else ''}.{decimals}f}"


def ends(
    interval: Interval | None,
    form: str = "{} to {}",
    *,
    decimals: int = 1,
    signed: bool = False,
    without: str = NOTHING,
) -> str:
    """The ends of an interval × 100.

    Args:
        interval: It may have no ends, or no width: where two options answer alike nothing varies.
        form: What the two are written into.
        decimals: Of each.
        signed: Whether a positive one has its sign, too.
        without: What stands there for such an interval.
    """
    if interval is None or interval.low is None or interval.high is None or interval.high - interval.low < _ROUNDING:
        return without
    return form.format(*(points(end, decimals=decimals, signed=signed) for end in (interval.low, interval.high)))


def probability(p: float | None) -> str:
    """A p-value to three decimals; a smaller one as such."""
    return NOTHING if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def percent(share: float | None) -> str:
    """A share × 100: whole from 10 on, else to two digits."""
    return NOTHING if share is None else f"{100 * share:,.0f}" if share >= 0.1 else f"{100 * share:.2g}"


def three_digits(number: float) -> str:
    """A positive number to three significant digits, whole from 100 on."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
