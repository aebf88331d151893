"""Takes points of cost or speed and accuracy, gives those that no other point beats in both."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]], is_cost: bool) -> list[int]:
    """Places in `points` of the Pareto front, by rising x.

    points: (x, accuracy). More accuracy is better; of x less is better where it `is_cost`, else more. Of equal points the
    first counts; a point that is only as good as another in one thing and worse in the other is not on the front.
    """
    sign = 1 if is_cost else -1
    order = sorted(range(len(points)), key=lambda place: (sign * points[place][0], -points[place][1], place))
    front: list[int] = []
    for place in order:  # from the best x on: each step to a worse one must gain accuracy
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front if is_cost else front[::-1]
