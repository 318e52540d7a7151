"""Who stands at the line although its turn has long had green is bound elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from networks.city import Detector
from networks.pieces import join_pieces
from tests.signals.small_graphs import Road, small_network
from twin.fusion_kernels import doubt_movements, make
from twin.lane_vehicles import make_lanes, make_pool, make_streets

ROADS = [Road("W", "J", 200.0), Road("J", "N", 200.0), Road("J", "E", 200.0), Road("J", "S", 200.0)]
PROTECTED, GIVES_WAY, RED = 3, 2, 0


@pytest.fixture
def lists():
    network = small_network(ROADS)
    streets = make_streets(network, (Detector("stop", 0, 198.0, "stop"),), join_pieces(network))
    lanes = make_lanes(streets, np.full(3, 1.0 / 3.0))
    pool = make_pool(streets)
    v = make.py_func(streets, pool, lanes, 0, 199.0, 0.0, 1.0, 0.0)
    pool.movement[v] = 0
    lanes.stop_live[0], lanes.stop_busy_s[0] = True, 20.0
    return streets, pool, lanes, v


@pytest.mark.parametrize(
    ("colours", "open_s", "allowed"),
    [
        ((PROTECTED, RED, RED), 10.0, {1, 2}),
        ((PROTECTED, PROTECTED, RED), 10.0, {2}),
        ((PROTECTED, PROTECTED, PROTECTED), 10.0, {0}),  # all open: something else holds it
        ((PROTECTED, RED, RED), 2.0, {0}),  # drivers need a moment
        ((GIVES_WAY, RED, RED), 10.0, {0}),  # may be waiting for its gap
    ],
)
def test_green_in_vain_tells_the_turn(lists, colours, open_s, allowed):
    streets, pool, lanes, v = lists
    lanes.open[:] = colours
    lanes.open_s[:] = np.where(lanes.open == PROTECTED, open_s, 0.0)
    doubt_movements(streets, pool, lanes, 30.0)
    assert int(pool.movement[v]) in allowed
    assert bool(pool.sure[v]) == (0 not in allowed)


def test_a_standing_tail_beyond_the_junction_explains_the_wait(lists):
    streets, pool, lanes, v = lists
    lanes.open[:] = (PROTECTED, RED, RED)
    lanes.open_s[:] = (10.0, 0.0, 0.0)
    make.py_func(streets, pool, lanes, int(streets.to_lane[0]), 6.0, 0.0, 1.0, 0.0)
    doubt_movements(streets, pool, lanes, 30.0)
    assert int(pool.movement[v]) == 0


def test_a_free_loop_says_nothing(lists):
    streets, pool, lanes, v = lists
    lanes.stop_busy_s[0] = 0.0
    lanes.open[:] = (PROTECTED, RED, RED)
    lanes.open_s[:] = (10.0, 0.0, 0.0)
    doubt_movements(streets, pool, lanes, 30.0)
    assert int(pool.movement[v]) == 0
