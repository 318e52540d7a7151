"""A vehicle that a loop denies is believed less with every second."""

from __future__ import annotations

import numpy as np
import pytest

from networks.city import Detector
from networks.pieces import join_pieces
from tests.signals.small_graphs import Road, small_network
from twin.fusion_kernels import make
from twin.lane_vehicles import make_lanes, make_pool, make_streets
from twin.street_places import StreetPlaces
from twin.vehicle_table import HELD_BELIEF, read_off


@pytest.mark.parametrize(
    ("counted", "held_s", "certainty"), [(False, 0.0, 1.0), (False, 3.0, HELD_BELIEF**3), (True, 3.0, HELD_BELIEF**3)]
)
def test_who_does_not_come_is_doubted(counted, held_s, certainty):
    network = small_network([Road("W", "J", 200.0), Road("J", "E", 200.0)])
    streets = make_streets(network, (Detector("up", 0, 100.0, "upstream"),), join_pieces(network))
    lanes, pool = make_lanes(streets, np.ones(1)), make_pool(streets)
    v = make.py_func(streets, pool, lanes, 0, 90.0, 0.0, 1.0, 0.0)
    pool.counted[v], pool.held_s[v] = counted, held_s
    places = StreetPlaces(join_pieces(network))
    assert read_off(pool, places, network, 1.0).certainty == pytest.approx([certainty])
