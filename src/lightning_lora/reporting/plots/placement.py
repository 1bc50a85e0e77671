"""Where labels go, so that none covers another or a mark. Geometry alone; lengths are points."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """An upright rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, frame: "Box") -> float:
        """The area that a frame leaves out."""
        return (self.right - self.left) * (self.top - self.bottom) - self.overlap(frame)


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[Box] | None:
    """A box for each label near its anchor, within the frame, clear of the others and of the obstacles.

    They are placed one after the other, each at the nearest free place of those tried; None where one finds none.

    Args:
        anchors: The marks that the labels name.
        sizes: Width and height of each label.
        obstacles: What must stay visible.
        frame: Where labels may be.
    """
    taken = list(obstacles)
    for anchor, size in zip(anchors, sizes, strict=True):
        free = (
            box
            for box in _places(anchor, size)
            if box.outside(frame) < 1e-6 and not any(box.overlap(other) for other in taken)
        )
        box = next(free, None)
        if box is None:
            return None
        taken.append(box)
    return taken[len(obstacles) :]


def _places(anchor: tuple[float, float], size: tuple[float, float]) -> Iterator[Box]:
    """Boxes around an anchor, the nearest first; to the right before above, left and below."""
    x, y = anchor
    width, height = size
    for distance in (5.0, 8.0, 11.0):  # farther off, a reader would take it for another mark's
        for turn in (0, 1, 7, 4, 3, 5, 2, 6):
            across, up = math.cos(turn * math.pi / 4), math.sin(turn * math.pi / 4)
            left = x + distance * across + (across - 1) / 2 * width
            bottom = y + distance * up + (up - 1) / 2 * height
            yield Box(left, bottom, left + width, bottom + height)


def set_side_by_side(positions: Sequence[float], width: float, low: float, high: float) -> list[float]:
    """Positions on a line, from ``low`` to ``high``, at which marks of a width do not cover one another.

    Each stays at its own as far as can be; marks that are too near form a row around their middle, in order. Where the
    line is too short for all, they lie closer.
    """
    width = min(width, (high - low) / len(positions))
    rows: list[list[int]] = []

    def start(row: list[int]) -> float:
        middle = sum(positions[index] for index in row) / len(row)
        return min(max(middle - len(row) * width / 2, low), high - len(row) * width)

    for index in sorted(range(len(positions)), key=lambda i: positions[i]):
        rows.append([index])
        while len(rows) > 1 and start(rows[-2]) + len(rows[-2]) * width > start(rows[-1]):
            last = rows.pop()
            rows[-1].extend(last)
    moved = {index: start(row) + (place + 0.5) * width for row in rows for place, index in enumerate(row)}
    return [moved[index] for index in range(len(positions))]
