"""Where to write the name of a point so that it covers neither a point nor another name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT_SIZE = 8.5  # points
# A letter of matplotlib's default font is about 0.6 of its size wide; a line about 1.2 high.
LETTER_WIDTH, LINE_HEIGHT = 0.6 * FONT_SIZE, 1.2 * FONT_SIZE
GAP = 5.0  # points between a marker and its name
# (horizontal, vertical) sides to try, the preferred first: -1 left or below, 0 centred, 1 right or above.
SIDES = ((1, -1), (1, 1), (-1, 1), (-1, -1), (1, 0), (0, -1), (0, 1), (-1, 0))
DISTANCES = (1, 3, 6, 9)  # in gaps; a name further off than one gap gets a line to its point


def label_points(
    panel: Axes, places: np.ndarray, texts: Sequence[str], obstacles: np.ndarray, colour: str
) -> None:
    """Write `texts` beside `places` [N, 2] (data coordinates), away from `obstacles` [M, 2] and from each other.

    To be called on a panel whose size and scales are final. A name for which no place is free goes where it
    covers least.
    """
    to_points = 72 / panel.figure.dpi
    spots = panel.transData.transform(places) * to_points
    blocked = panel.transData.transform(np.concatenate([obstacles, places])) * to_points
    frame = panel.get_window_extent().frozen()
    edges = np.array([frame.x0, frame.y0, frame.x1, frame.y1]) * to_points
    boxes: list[np.ndarray] = []
    for place, spot, text in zip(places, spots, texts, strict=True):
        size = np.array([LETTER_WIDTH * len(text), LINE_HEIGHT])
        moves = [(side, GAP * distance) for distance in DISTANCES for side in SIDES]
        candidates = [_box(spot, size, side, gap) for side, gap in moves]
        # A near place beats a far one that is as free.
        hidden = [_covered(box, blocked, boxes, edges) + 0.01 * index for index, box in enumerate(candidates)]
        best = int(np.argmin(hidden))
        boxes.append(candidates[best])
        (horizontal, vertical), gap = moves[best]
        panel.annotate(
            text,
            place,
            xytext=(gap * horizontal, gap * vertical),
            textcoords="offset points",
            ha=("right", "center", "left")[horizontal + 1],
            va=("top", "center", "bottom")[vertical + 1],
            fontsize=FONT_SIZE,
            color=colour,
            parse_math=False,
            zorder=5,
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": colour} if gap > GAP else None,
        )


def _box(spot: np.ndarray, size: np.ndarray, side: tuple[int, int], gap: float) -> np.ndarray:
    """Left, bottom, right, top of a name on one side of a spot, `gap` points away from it."""
    centre = spot + np.array(side) * (gap + size / 2)
    return np.concatenate([centre - size / 2, centre + size / 2])


def _covered(box: np.ndarray, points: np.ndarray, boxes: list[np.ndarray], edges: np.ndarray) -> float:
    """How much a name at `box` would hide: points and names by count, and what sticks out of the frame."""
    inside = (points > box[:2] - 2).all(axis=1) & (points < box[2:] + 2).all(axis=1)
    overlapping = [bool((box[:2] < other[2:]).all() and (other[:2] < box[2:]).all()) for other in boxes]
    outside = np.maximum(edges[:2] - box[:2], 0).sum() + np.maximum(box[2:] - edges[2:] - 30, 0).sum()
    return float(inside.sum() + 2 * sum(overlapping) + outside)
