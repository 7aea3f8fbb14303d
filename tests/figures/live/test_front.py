"""Which points no other beats."""

import math
import random

from moe_replay.figures.live.point_history import front


def test_a_front_worked_out_by_hand():
    points = [(1, 1), (2, 3), (2, 2), (3, 3), (4, 5), (5, 4), (math.nan, 9), (0.5, math.nan), (9, math.inf)]
    assert [points[place] for place in front(points)] == [(1, 1), (2, 3), (4, 5)]


def test_none_on_a_front_is_beaten_and_all_others_are():
    draw = random.Random(1)
    for _ in range(50):
        points = [(draw.randrange(8), draw.randrange(8)) for _ in range(12)]
        found = {points[place] for place in front(points)}
        beaten = {
            one for one in points
            for other in points
            if other != one and other[0] <= one[0] and other[1] >= one[1]
        }  # fmt: skip
        assert found == set(points) - beaten
