"""How listed vehicles start, end their trips, and answer to reports and counts that contradict each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.city import Detector
from networks.pieces import join_pieces
from tests.signals.small_graphs import Road, small_network
from twin import fusion_kernels
from twin.fusion_kernels import (
    STANDSTILL_GAP_M,
    FirstSights,
    Reports,
    apply_occupancy,
    apply_reports,
    apply_upstream_counts,
    move_all,
    tidy,
)
from twin.lane_vehicles import make_lanes, make_pool, make_streets

IN, OUT, ON = 0, 1, 2  # lanes of the roads below, in their order
ROADS = [Road("W", "J", 200.0), Road("J", "K", 200.0), Road("K", "E", 200.0)]
STOP, UP = Detector("stop", IN, 198.0, "stop"), Detector("up", IN, 100.0, "upstream")


def lists(*detectors: Detector, ends_frac: float = 0.0):
    network = small_network(ROADS)
    streets = make_streets(network, detectors, join_pieces(network), np.full(3, ends_frac))
    lanes, pool = make_lanes(streets, np.ones(2)), make_pool(streets)
    lanes.stop_live[:] = streets.stop_m >= 0
    lanes.up_live[:] = streets.up_m >= 0
    return streets, pool, lanes


def put(held, lane: int, position_m: float, speed_mps: float = 0.0) -> int:
    make = getattr(fusion_kernels.make, "py_func", fusion_kernels.make)  # jitted or, for coverage, plain
    return int(make(*held, lane, position_m, speed_mps, 1.0, 0.0))


def report(held, v: int, lane: int, position_m: float, speed_mps: float, now_s: float, *, off_m: float = 0.0) -> None:
    """A V2X report of vehicle `v`; `off_m` from the centre of the lane it is placed on."""
    pool = held[1]
    held_lane = int(pool.lane[v])
    one, none = np.array([position_m]), np.array([np.inf])
    believed_m = np.array([3.2 - off_m]) if lane != held_lane else np.array([off_m])
    reports = Reports(
        key=np.array([7]),
        known=np.array([v], np.int32),
        kind=np.zeros(1, np.int32),
        destination=np.array([-1], np.int32),
        lane=np.array([lane], np.int32),
        position_m=one,
        lateral_m=np.array([off_m]),
        prior_position_m=one if lane != held_lane else none,
        prior_lateral_m=believed_m,
        speed_mps=np.array([speed_mps]),
        measured_s=np.array([now_s]),
    )
    apply_reports(*held, now_s, False, reports, FirstSights(np.zeros(8, np.int64), np.full(8, -np.inf)))


def test_a_queue_starts_one_driver_a_second():
    """A driver moves a reaction time (1 s) after the one ahead has: Krauss' rule on a queue without surplus gaps."""
    held = lists()
    pool = held[1]
    queue = [put(held, IN, 199.7 - k * (5.0 + STANDSTILL_GAP_M)) for k in range(6)]
    for second in range(1, 6):
        move_all(*held, float(second))
        here = [v for v in queue if pool.lane[v] == IN]
        assert sum(pool.speed_mps[v] < 0.1 for v in here) == 6 - second


@given(
    st.lists(st.tuples(st.floats(5.0, 40.0), st.floats(0.0, 10.0)), min_size=1, max_size=8),
    st.lists(st.sampled_from([0, 3]), min_size=1, max_size=20),
)
def test_nobody_overtakes_or_drives_backwards_on_a_lane(gaps, lamps):
    held = lists()
    pool, lanes = held[1], held[2]
    place_m, order = 199.0, []
    for gap_m, speed_mps in gaps:
        if place_m > 5.0:
            order.append(put(held, IN, place_m, speed_mps))
        place_m -= 5.0 + gap_m
    for second, lamp in enumerate(lamps):
        before_m = {v: pool.position_m[v] for v in order if pool.lane[v] == IN}
        lanes.open[0] = lamp
        move_all(*held, float(second))
        here = [v for v in order if pool.lane[v] == IN]
        assert all(pool.position_m[v] >= before_m[v] for v in here)
        assert all(np.diff([pool.position_m[v] for v in here]) <= 0.0)


@pytest.mark.parametrize(("ends_frac", "expected"), [(0.0, 0), (0.25, 2), (1.0, 8)])
def test_the_share_of_trips_that_end_on_an_edge_ends_there(ends_frac, expected):
    held = lists(ends_frac=ends_frac)
    pool = held[1]
    for _ in range(8):
        put(held, OUT, 199.9, 10.0)
        for second in range(2):  # those before drive out of the way
            move_all(*held, float(second))
    assert int((pool.lane == ON).sum()) == 8 - expected


@pytest.mark.parametrize(("destination", "goes_on"), [(OUT, False), (ON, True)])
def test_who_told_a_destination_ends_the_trip_there_and_nowhere_else(destination, goes_on):
    held = lists(ends_frac=1.0)
    v = put(held, OUT, 199.9, 10.0)
    held[1].destination[v] = destination
    move_all(*held, 1.0)
    assert bool(held[1].lane[v] == ON) == goes_on


def test_an_equipped_vehicle_that_falls_silent_is_taken_for_somebody_else():
    held = lists(STOP, UP)
    pool = held[1]
    v = put(held, IN, 150.0)
    report(held, v, IN, 150.0, 0.0, 0.0)
    pool.destination[v], pool.sure[v] = ON, True
    tidy(*held, 3.0, 45.0)
    assert pool.probe[v] == 7
    tidy(*held, 6.0, 45.0)
    assert (pool.lane[v], pool.probe[v], pool.destination[v], pool.sure[v]) == (IN, 0, -1, False)


@pytest.mark.parametrize(("place_m", "taken"), [(108.0, True), (101.0, False)])
def test_a_count_is_not_for_one_just_seen_elsewhere(place_m, taken):
    """The loop at 100 m counts a rear; a car of 5 m whose front is at 101 m is still on it."""
    held = lists(UP)
    pool, lanes = held[1], held[2]
    v = put(held, IN, place_m, 2.0)
    report(held, v, IN, place_m, 2.0, 10.0)
    pool.counted[v] = False
    lanes.up_count[IN], lanes.up_mps[IN] = 1, 2.0
    apply_upstream_counts(*held, 10.0)
    assert int(lanes.listed[IN]) == (1 if taken else 2)


def test_nobody_drives_back_over_the_stop_line():
    """A report placed at the end of the lane a vehicle has just left moves neither it nor those behind it."""
    held = lists(STOP)
    pool = held[1]
    v, behind = put(held, OUT, -3.0, 1.0), put(held, IN, 190.0)
    pool.probe[v] = 7
    report(held, v, IN, 199.0, 1.0, 5.0)
    assert (pool.lane[v], pool.lane[behind]) == (OUT, IN)
    report(held, v, IN, 150.0, 1.0, 6.0)  # but it was never there
    assert pool.lane[v] == IN


def test_a_front_vehicle_that_the_free_loop_denies_stands_before_it():
    held = lists(STOP)
    pool, lanes = held[1], held[2]
    v = put(held, IN, 199.0, 3.0)
    lanes.stop_share[IN] = 0.0
    for second in range(4):
        pool.position_m[v] = 199.0
        apply_occupancy(*held, float(second))
    assert (pool.speed_mps[v], pool.position_m[v] < 198.0) == (0.0, True)


def test_who_reports_from_on_top_of_an_upstream_loop_is_counted_once():
    """A loop counts when the rear has passed: until then the count is still to come, and it is for this vehicle."""
    held = lists(UP)
    _, pool, lanes = held
    v = put(held, IN, UP.position_m + 2.0, 10.0)
    assert not pool.counted[v]
    lanes.up_count[IN], lanes.up_mps[IN] = 1, 10.0
    apply_upstream_counts(*held, 1.0)
    assert pool.counted[v]
    assert lanes.listed[IN] == 1
