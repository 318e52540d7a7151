"""Demand of a day: routes of the city, timetables repeated, flows that SUMO counts as they were meant."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from networks.city import CityFolder
from networks.graph import Network
from scenarios.count_replay import replay
from scenarios.counts import write_routes
from scenarios.day_demand import (
    FREE_TIMES,
    Candidates,
    as_route_flows,
    day_flows,
    find_candidates,
    let_in,
    measured_lags,
    prior_flows,
    repeat_demand,
)
from scenarios.demand import read_schedule

LOOPS = ("A0B0", "B0C0", "A1B1", "B0B1")
HOURS = (6, 7)


@pytest.fixture(scope="module")
def loop_edges(tiny_network: Network) -> np.ndarray:
    return np.array([tiny_network.edge_index[name] for name in LOOPS], np.int32)


def test_candidates_hold_the_citys_own_routes_and_connect(
    tiny_city: CityFolder, tiny_network: Network, loop_edges: np.ndarray
) -> None:
    found = find_candidates(tiny_city, tiny_network, loop_edges)
    own = tuple(tiny_network.edge_index[e] for e in ["left0A0", "A0B0", "B0C0", "C0right0"])
    at = found.routes.index(own)
    assert found.prior_vph[at] == pytest.approx(480.0, abs=10)  # 120 in a quarter of an hour
    assert found.types[at] == "mix"
    assert all(b in tiny_network.edge_successors[a] for route in found.routes for a, b in pairwise(route))
    passes = np.array([[edge in route for route in found.routes] for edge in loop_edges.tolist()])
    assert np.array_equal(np.isfinite(found.free_s), passes)
    assert found.timetabled_vph.sum() == 0.0


def test_timetables_repeat_and_stay_inside(tiny_city: CityFolder, tmp_path: Path) -> None:
    path = tmp_path / "buses.rou.xml"
    assert repeat_demand(tiny_city, path, 3600.0, 7200.0, timetabled_only=True) == 4
    departs = sorted(v.depart_s for v in read_schedule([path]).values())
    assert departs == [3630.0, 4530.0, 5430.0, 6330.0]


def test_what_is_expected_is_what_sumo_counts(
    tiny_city: CityFolder, tiny_network: Network, loop_edges: np.ndarray, tmp_path: Path
) -> None:
    candidates = find_candidates(tiny_city, tiny_network, loop_edges)
    usual = np.full((24, len(LOOPS)), np.nan)
    usual[6:8] = [[200.0, 180.0, 120.0, 60.0], [300.0, 260.0, 150.0, 80.0]]
    lag_s = FREE_TIMES * candidates.free_s
    prior = prior_flows(candidates, usual, HOURS, lag_s)
    flows = day_flows(candidates, [np.ones(len(LOOPS)), np.full(len(LOOPS), 1.1)], prior, lag_s)
    path, rides = tmp_path / "day.rou.xml", tmp_path / "rides.xml"
    due = write_routes(path, tiny_network, as_route_flows(candidates, flows, HOURS), seed=1, types=candidates.types)
    vehicle_types = tmp_path / "types.rou.xml"
    vehicle_types.write_text(
        '<routes><vType id="car"/><vType id="lorry" vClass="truck"/>'
        '<vTypeDistribution id="mix" vTypes="car lorry" probabilities="0.9 0.1"/></routes>'
    )
    ran = replay(
        tiny_city,
        tiny_network,
        (vehicle_types, path),
        begin_s=21_600.0,
        end_s=28_800.0,
        seed=1,
        mesoscopic=True,
        rides=rides,
    )
    assert ran.due == due
    assert ran.pending == 0
    assert ran.count[1, loop_edges] == pytest.approx(1.1 * usual[7], rel=0.1, abs=8)
    lags = measured_lags(candidates, loop_edges, rides, tiny_network)
    assert np.array_equal(np.isfinite(lags), np.isfinite(candidates.free_s))
    assert (lags[np.isfinite(lags)] >= 0).all()


def test_who_finds_no_room_to_enter_is_left_out_and_nobody_else() -> None:
    routes = ((0, 2), (0, 3), (1, 2))
    none = np.zeros((0, 3))
    candidates = Candidates(routes, np.ones(3), ("car",) * 3, none, np.zeros(0))
    flows = np.array([[100.0, 50.0, 80.0], [200.0, 100.0, 90.0], [100.0, 50.0, 70.0]])
    begun = np.full((3, 4), np.nan)
    begun[1], begun[2] = [240.0, 89.0, 0.0, 0.0], [150.0, 71.0, 0.0, 0.0]
    begun[0] = [150.0, 80.0, 0.0, 0.0]
    kept = let_in(candidates, flows, begun)
    assert kept[0] == pytest.approx(flows[0])
    assert kept[1] == pytest.approx([160.0, 80.0, 90.0])  # 240 of 300 entered over edge 0
    assert kept[2] == pytest.approx(flows[2])  # as many entered as came; those waiting are of the hour before
