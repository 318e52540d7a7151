"""The mirror's decisions, without a simulation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.graph import VEHICLE_SPACE_M
from twin.mirror_demand import HIGHEST, LOWEST, DemandCorrection
from twin.mirror_lamps import lamps_at
from twin.mirror_lanes import LaneTraffic, free_place, lane_traffic, rearmost_surplus
from twin.mirror_words import LampOrder


def lane_of(speeds: list[float]) -> LaneTraffic:
    """One lane with vehicles v0, v1 ... from its start."""
    ids = [f"v{k}" for k in range(len(speeds))]
    return lane_traffic(ids, [0] * len(ids), speeds, 1)


vehicles = st.lists(st.tuples(st.floats(1, 200), st.floats(0, 15)), max_size=12)


@given(vehicles, st.floats(0, 15))
def test_a_reported_queue_is_never_cut(rows: list[tuple[float, float]], reported: float) -> None:
    traffic = lane_of([r[1] for r in rows])
    row = rearmost_surplus(traffic, 0, lambda vehicle: True, reported)
    if row >= 0:
        assert traffic.vehicles[0] - 1 >= reported
        if traffic.speed_mps[row] < 2.0:
            assert traffic.queue[0] - 1 >= reported


def test_the_rearmost_goes_first_and_buses_stay() -> None:
    traffic = lane_of([8.0, 8.0, 8.0])
    assert traffic.ids[rearmost_surplus(traffic, 0, lambda vehicle: True, 0.0)] == "v0"
    assert traffic.ids[rearmost_surplus(traffic, 0, lambda vehicle: vehicle != "v0", 0.0)] == "v1"


@given(vehicles, st.booleans())
def test_a_free_place_keeps_clear_of_everyone(rows: list[tuple[float, float]], queued: bool) -> None:
    fronts, speeds = np.array(sorted(rows), np.float64).reshape(-1, 2).T
    place_m = free_place(fronts, speeds, 200.0, 14.0, queued=queued)
    if not np.isnan(place_m):
        assert 0.0 < place_m <= 200.0
        ahead, behind = fronts[fronts >= place_m], fronts[fronts < place_m]
        assert (ahead - place_m >= VEHICLE_SPACE_M - 1e-6).all()
        assert (place_m - behind >= VEHICLE_SPACE_M - 1e-6).all()


@given(st.floats(LOWEST, HIGHEST), st.integers(1, 200))
def test_departures_follow_the_factor_to_one_vehicle(factor: float, scheduled: int) -> None:
    demand = DemandCorrection.for_edges(1)
    demand.factor[0] = factor
    departed = sum(demand.copies(0, (0, 4)) for _ in range(scheduled))
    assert departed == pytest.approx(factor * scheduled, abs=1.0)


def test_factor_is_measured_less_passing_over_scheduled() -> None:
    demand = DemandCorrection.for_edges(2)
    scheduled, passing, measured = np.array([0.5, 0.5]), np.array([0.2, 0.0]), np.array([0.8, 0.6])
    for _ in range(400):
        demand.learn(scheduled, passing, measured, np.ones(2, np.bool_), 5.0)
    assert demand.factor == pytest.approx(1.2, abs=0.01)
    assert demand.overall == pytest.approx(1.2, abs=0.03)


def test_full_edges_teach_nothing() -> None:
    demand = DemandCorrection.for_edges(1)
    demand.learn(np.ones(1), np.zeros(1), np.zeros(1), np.zeros(1, np.bool_), 300.0)
    assert demand.factor[0] == 1.0


def test_lamps_change_at_their_own_second_through_yellow() -> None:
    order = LampOrder("rG", np.array([108.0, 110.0]))
    shown = [lamps_at("Gr", order, 3.0, float(second)) for second in range(103, 112)]
    assert shown == ["Gr", "Gr", "yr", "yr", "yr", "rr", "rr", "rG", "rG"]


def test_the_process_imports_nothing_that_clashes_with_libsumo() -> None:
    check = (
        "import sys, twin.mirror_process; print(sorted({'pyarrow','pandas','geopandas','duckdb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
