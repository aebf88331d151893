"""Labels of points in a figure, each written where it covers nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

# where a label may stand: offset in points from its point, and which of its edges is there
_PLACES = (
    *((5, 0, "left", "center"), (-5, 0, "right", "center"), (0, 5, "center", "bottom"), (0, -5, "center", "top")),
    *((4, 4, "left", "bottom"), (-4, 4, "right", "bottom"), (4, -4, "left", "top"), (-4, -4, "right", "top")),
    *((0, 13, "center", "bottom"), (0, -13, "center", "top"), (13, 9, "left", "bottom"), (-13, -9, "right", "top")),
)


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colors: Sequence[str],
    corners: Sequence[tuple[float, float]] = (),
) -> int:
    """Writes the labels, the first ones first, and gives how many found no free place and were left out.

    corners: those of a line of horizontal and vertical pieces, which no label may cover. The axes must have their final
    limits: nothing may be drawn after that which changes them.
    """
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]  # fixes the layout
    whole = axes.figure.bbox
    area = Bbox.from_extents(axes.bbox.x0, axes.bbox.y0, whole.x1, axes.bbox.y1)  # there is room at the right
    pixels = axes.transData.transform(points)
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
    ends: Any = axes.transData.transform(corners) if len(corners) else []
    pieces = pairwise(ends)
    line = [Bbox.from_extents(*np.minimum(one, other) - 1, *np.maximum(one, other) + 1) for one, other in pieces]
    num_lost = 0
    for place, label in enumerate(labels):
        others = [box for index, box in enumerate(taken) if index != place] + line
        for x, y, horizontal, vertical in _PLACES:
            text = axes.annotate(
                label, points[place], (x, y), textcoords="offset points", ha=horizontal, va=vertical, fontsize=8,
                color=colors[place], annotation_clip=False,
            )  # fmt: skip
            text.set_in_layout(False)
            box = text.get_window_extent(renderer)
            if _holds(area, box) and not any(box.overlaps(other) for other in others):
                taken.append(box)
                break
            text.remove()
        else:
            num_lost += 1
    return num_lost


def _holds(area: Bbox, box: Bbox) -> bool:
    return all(area.containsx(x) for x in (box.x0, box.x1)) and all(area.containsy(y) for y in (box.y0, box.y1))
