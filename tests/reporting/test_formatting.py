"""Numbers of tables, of the page and of plots, by hand."""

import pytest

from lightning_lora.reporting.comparison import Interval
from lightning_lora.reporting.formatting import ends, points, probability, three_digits


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (points(0.9104), "91.0"),
        (points(-0.0123, decimals=2), "-1.23"),
        (points(0.0123, signed=True), "+1.2"),
        (points(None), "–"),
        (ends(Interval(0.9, 0.88, 0.91)), "88.0 to 91.0"),
        (ends(Interval(0.0, -0.01, 0.01), "[{}, {}]", decimals=2, signed=True), "[-1.00, +1.00]"),
        (ends(Interval(0.9)), "–"),
        (ends(Interval(1.0, 1.0 - 1e-9, 1.0 + 1e-9)), "–"),
        (ends(Interval(0.9, 0.899995, 0.900005), without=""), "90.0 to 90.0"),
        (ends(None), "–"),
        (ends(None, without=""), ""),
        (probability(0.0004), "<0.001"),
        (probability(0.0412), "0.041"),
        (probability(None), "–"),
        (three_digits(12345.6), "12,346"),
        (three_digits(3.14159), "3.14"),
    ],
)
def test_numbers(written: str, expected: str) -> None:
    assert written == expected
