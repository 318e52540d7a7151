"""The fused state: exact with perfect loops, honest in silence, sane whatever comes in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.batches import Batches
from networks.graph import Floats
from networks.state import NetworkState
from tests.twin import one_street as town
from twin.fusion import Fusion

T0_S = town.T0_S
ESTIMATES = (
    "edge_flow_vps",
    "edge_speed_mps",
    "edge_density_vpm",
    "lane_queue_veh",
    "lane_vehicles",
    "movement_share",
)


class Mirror(NamedTuple):
    now_s: float
    edge_flow_vps: Floats
    edge_speed_mps: Floats
    edge_samples: Floats
    movement_vps: Floats
    edge_density_vpm: Floats
    lane_queue_veh: Floats
    lane_vehicles: Floats


def is_green(second: float) -> bool:
    return second % 60.0 >= 30.0


def check_sane(state: NetworkState, network_lengths: Floats) -> None:
    for name in ESTIMATES:
        estimate = getattr(state, name)
        for part in (estimate.value, estimate.variance, estimate.age_s):
            assert np.isfinite(part[estimate.valid]).all(), name
            assert (part[estimate.valid] >= 0).all(), name
    assert (state.lane_vehicles.value <= network_lengths / 6.5 + 5.0).all()
    assert (state.lane_queue_veh.value <= state.lane_vehicles.value + 1e-9).all()
    table = state.vehicles
    assert np.isfinite(table.position_m).all()  # below 0: in the junction before the lane
    for column in (table.speed_mps, table.certainty, table.age_s):
        assert np.isfinite(column).all()
        assert (column >= 0).all()
    assert (table.position_m <= network_lengths[table.lane]).all()
    for lane in np.unique(table.lane):
        assert (np.diff(table.position_m[table.lane == lane]) <= 0).all()


def drive(fusion: Fusion, traffic: town.Traffic, seconds: int, cycle: int = 1) -> list[tuple[NetworkState, int, int]]:
    """States with the true number of vehicles past the upstream loop and the true queue, once a cycle."""
    answers = []
    counts: list[town.Row] = []
    lamps: list[tuple[float, str]] = []
    for _ in range(seconds):
        count, share = traffic.second()
        second = float(round(traffic.now_s))
        counts += [
            (loop, count[loop], share[loop], town.FREE_MPS if count[loop] else np.nan, second) for loop in range(2)
        ]
        lamps.append((second, "G" if is_green(second) else "r"))
        if second % cycle == 0:
            state = fusion.update(town.batches(counts, lamps=lamps), T0_S + second, None)
            counts, lamps = [], []
            inside = int((traffic.positions() > town.LENGTH_M - 100.0 + town.CAR_M).sum())
            answers.append((state, inside, traffic.standing()))
    return answers


@pytest.mark.parametrize("cycle", [1, 5])
def test_perfect_loops_give_the_vehicles_between_them_and_the_queue(cycle: int) -> None:
    network = town.street()
    fusion = Fusion(network, town.detectors(), (), None)
    traffic = town.Traffic(np.cumsum(np.tile([3.0, 7.0, 4.0, 6.0], 30)), is_green)
    off, queue_off = [], []
    for state, inside, queue in drive(fusion, traffic, 400, cycle):
        between = (state.vehicles.lane == 0) & (state.vehicles.position_m > 200.0 + town.CAR_M)
        off.append(between.sum() - inside)
        queue_off.append(state.lane_queue_veh.value[0] - queue)
        check_sane(state, network.lanes.length_m)
    assert np.abs(off).max() <= 2
    assert np.abs(off).mean() < 0.5
    assert np.abs(queue_off).mean() < 1.0  # Newell's cars start at once, real ones do not


def test_a_lane_also_holds_those_whom_no_loop_has_counted_yet() -> None:
    fusion = Fusion(town.street(), town.detectors(), (), None)
    traffic = town.Traffic(np.arange(1.0, 700.0, 5.0), is_green)
    off, listed = [], []
    for second in range(1, 601):
        ((state, _, _),) = drive(fusion, traffic, 1)
        if second > 300:
            there = len(traffic.positions())
            off.append(float(state.lane_vehicles.value[0]) - there)
            listed.append(int((state.vehicles.lane == 0).sum()) - there)
    assert np.mean(listed) < -2.0
    assert abs(np.mean(off)) < 1.0


def test_flow_is_what_the_stop_line_counted() -> None:
    fusion = Fusion(town.street(), town.detectors(), (), None)
    traffic = town.Traffic(np.arange(5.0, 600.0, 6.0), is_green)
    before = 0.0
    for _ in range(300):
        count, share = traffic.second()
        second = float(round(traffic.now_s))
        before += count[0]
        rows = [(loop, count[loop], share[loop], np.nan, second) for loop in range(2)]
        state = fusion.update(
            town.batches(rows, lamps=[(second, "G" if is_green(second) else "r")]), T0_S + second, None
        )
    assert state.edge_flow_vps.value[0] == pytest.approx(before / 300.0)
    assert 0.5 / 300.0 <= np.sqrt(state.edge_flow_vps.variance[0]) <= 3.0 / 300.0  # a vehicle or two of those counted


def test_silence_grows_age_and_variance_and_names_the_loops() -> None:
    fusion = Fusion(town.street(), town.detectors(), (), None)
    last = drive(fusion, town.Traffic(np.arange(1.0, 60.0, 5.0), lambda _: False), 60)[-1][0]
    listed = len(last.vehicles.id)
    assert listed >= 5
    assert not last.unhealthy
    for second in range(65, 400, 5):
        state = fusion.update(town.batches(), T0_S + second, None)
        check_sane(state, town.street().lanes.length_m)
        assert state.edge_flow_vps.valid[0] == (second <= 60 + 120)
        if state.edge_flow_vps.valid[0]:
            assert state.edge_flow_vps.age_s[0] > last.edge_flow_vps.age_s[0]
            assert state.lane_vehicles.variance[0] >= last.lane_vehicles.variance[0] - 0.2
        last = state
    assert set(last.unhealthy) == {"loop in_0_stop: silent", "loop in_0_upstream: silent"}
    assert last.coverage == 0.0
    assert last.vehicles.certainty.sum() < 1.0


def test_a_restart_gap_lets_the_lists_fade() -> None:
    fusion = Fusion(town.street(), town.detectors(), (), None)
    before = drive(fusion, town.Traffic(np.arange(1.0, 60.0, 5.0), lambda _: False), 60)[-1][0]
    after = fusion.update(town.batches(), T0_S + 180.0, None)
    check_sane(after, town.street().lanes.length_m)
    assert after.lane_vehicles.value[0] < 0.5 * before.lane_vehicles.value[0]
    assert after.lane_vehicles.variance[0] > before.lane_vehicles.variance[0]
    assert after.lane_vehicles.age_s[0] >= 120.0


def test_a_vehicle_report_far_up_a_standing_queue_fills_it() -> None:
    """The upstream loop is 100 m before the line; a car that stands 170 m before it has a full queue ahead."""
    fusion = Fusion(town.street(), town.detectors(), (), None)
    for second in range(1, 31):
        state = fusion.update(
            town.batches(
                [(0, 0, 1.0, np.nan, second), (1, 0, 1.0, np.nan, second)],
                probes=[(7, town.LENGTH_M - 170.0, 0.0, 0.0, second)],
                lamps=[(second, "r")],
            ),
            T0_S + second,
            None,
        )
    true = 170.0 / town.SPACING_M + 1
    assert state.lane_queue_veh.value[0] == pytest.approx(true, rel=0.15)
    equipped = state.vehicles.equipped
    assert state.vehicles.id[equipped].tolist() == [7]
    assert state.vehicles.position_m[equipped][0] == pytest.approx(town.LENGTH_M - 170.0, abs=2.0)


def test_a_vehicle_that_ends_its_trip_on_the_stop_loop_does_not_stay() -> None:
    fusion = Fusion(town.street(), town.detectors(), (), None)
    for second in range(1, 20):
        passing, ending = second == 2, second == 9
        rows = [
            (0, 0, 0.3 if ending else 0.0, np.nan, second),
            (1, int(passing), 0.4 * passing, 13.0 if passing else np.nan, second),
        ]
        state = fusion.update(town.batches(rows, lamps=[(second, "r")]), T0_S + second, None)
    assert state.lane_vehicles.value[0] == 0.0


def test_one_false_detection_is_not_believed_and_a_track_is() -> None:
    fusion = Fusion(town.street(), (), (0,), None)
    for second in range(1, 6):
        ghosts = [(99, 150.0, 0.0, 5.0, second)] if second == 2 else []
        real = (1, 200.0 + 10.0 * second, 0.0, 10.0, second)
        state = fusion.update(town.batches(tracks=[real, *ghosts], lamps=[(second, "G")]), T0_S + second, None)
    assert len(state.vehicles.id) == 1
    assert state.vehicles.position_m[0] == pytest.approx(250.0, abs=1.5)
    assert state.vehicles.speed_mps[0] == pytest.approx(10.0)


def test_a_track_that_jumps_stays_one_vehicle() -> None:
    fusion = Fusion(town.street(2), (), (0,), None)
    for second in range(1, 12):
        jumped = second >= 8
        row = (1, 250.0 + (35.0 if jumped else 0.0), town.LANE_M * jumped, 0.0, second)
        state = fusion.update(town.batches(tracks=[row], lamps=[(second, "rr")]), T0_S + second, None)
        check_sane(state, town.street(2).lanes.length_m)
        assert len(state.vehicles.id) == (second > 1)
    assert state.vehicles.lane[0] == 1
    assert state.vehicles.position_m[0] == pytest.approx(285.0, abs=1.0)


def test_roadside_silence_about_a_vehicle_ends_it() -> None:
    fusion = Fusion(town.street(), town.detectors(), (0,), None)
    for second in range(1, 20):
        rows = [(0, 0, -0.0, np.nan, second), (1, int(second == 3), 0.0, 2.0, second)]
        tracks = [(1, 150.0, 0.0, 0.0, second), (2, 270.0, 0.0, 0.0, second)]
        state = fusion.update(town.batches(rows, tracks, lamps=[(second, "r")]), T0_S + second, None)
    assert sorted(state.vehicles.position_m.round()) == pytest.approx([150.0, 270.0], abs=1.0)


def test_a_stuck_stop_loop_is_named_and_no_longer_trusted() -> None:
    fusion = Fusion(town.street(), town.detectors(), (), None)
    for second in range(1, 241):
        rows = [(0, 0, 1.0, np.nan, second), (1, int(second % 10 == 0), 0.04, 12.0, second)]
        lamp = "G" if is_green(second) else "r"
        state = fusion.update(town.batches(rows, lamps=[(second, lamp)]), T0_S + second, None)
    assert state.unhealthy == ("loop in_0_stop: covered without counts",)
    assert state.edge_flow_vps.value[0] == pytest.approx(0.1, rel=0.5)  # by the list: it goes on without the loop


@pytest.mark.parametrize(("green", "named"), [("G", True), ("g", False)])
def test_who_waits_all_green_to_give_way_is_no_stuck_loop(green: str, named: bool) -> None:
    fusion = Fusion(town.street(), town.detectors(), (), None)
    for second in range(1, 201):
        rows = [(0, 0, 1.0, np.nan, second), (1, int(second % 60 == 0), 0.04, 12.0, second)]
        lamp = green if is_green(second) else "r"
        state = fusion.update(town.batches(rows, lamps=[(second, lamp)]), T0_S + second, None)
    assert state.unhealthy == (("loop in_0_stop: covered without counts",) if named else ())


def test_a_queue_over_the_upstream_loop_is_not_a_stuck_loop() -> None:
    fusion = Fusion(town.street(), town.detectors(), (), None)
    for second in range(1, 241):
        rows = [(0, 0, 1.0, np.nan, second), (1, 0, 1.0, np.nan, second)]
        state = fusion.update(town.batches(rows, lamps=[(second, "r")]), T0_S + second, None)
    assert state.unhealthy == ()
    assert state.lane_queue_veh.value[0] >= 100.0 / town.SPACING_M - 2


def test_unobserved_edges_take_the_mirror_with_its_age() -> None:
    network = town.street()
    fusion = Fusion(network, (), (), None)
    assert not fusion.update(town.batches(), T0_S + 5.0, None).edge_flow_vps.valid.any()
    turned = np.full(len(network.movements.turn), 0.2)
    mirror = Mirror(
        T0_S,
        np.full(2, 0.2),
        np.full(2, 9.0),
        np.full(2, 60.0),
        turned,
        np.full(2, 0.02),
        np.full(2, 1.0),
        np.full(2, 4.0),
    )
    state = fusion.update(town.batches(), T0_S + 10.0, mirror)
    later = fusion.update(town.batches(), T0_S + 40.0, mirror)
    assert state.edge_flow_vps.value == pytest.approx(0.2)
    assert state.lane_vehicles.value == pytest.approx(4.0)
    assert state.edge_flow_vps.age_s == pytest.approx(10.0)
    assert (later.edge_flow_vps.variance > state.edge_flow_vps.variance).all()
    assert state.coverage == 0.0


def test_lamps_remember_since_when_their_colour_stands() -> None:
    fusion = Fusion(town.street(2), (), (), None)
    fusion.update(town.batches(lamps=[(1, "rr"), (2, "Gr"), (3, "gr")]), T0_S + 3.0, None)
    state = fusion.update(town.batches(lamps=[(5, "gG"), (4, "rr")]), T0_S + 5.0, None)
    (view,) = state.lamps
    assert view is not None
    assert view.state == "gG"
    assert view.measured_at_s == T0_S + 5.0
    # green, red at 4, green again at 5: order of event time, not of arrival
    assert view.since_s.tolist() == [T0_S + 5.0, T0_S + 5.0]


rows_of_loops = st.tuples(
    st.integers(0, 3),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.one_of(st.just(np.nan), st.floats(0.0, 30.0)),
    st.integers(-5, 8),
)
rows_of_places = st.tuples(
    st.integers(0, 6),
    st.floats(-20.0, 640.0),
    st.floats(-5.0, 8.0),
    st.floats(0.0, 30.0),
    st.floats(-5.0, 8.0),
)


@settings(max_examples=60)
@given(
    cycles=st.lists(
        st.tuples(
            st.lists(rows_of_loops, max_size=12),
            st.lists(rows_of_places, max_size=12),
            st.lists(rows_of_places, max_size=12),
            st.lists(st.tuples(st.integers(-5, 8), st.sampled_from(["GG", "rr", "Gr", "yg"])), max_size=4),
            st.sampled_from([0.3, 1.0, 1.0, 5.0, 5.0, 130.0]),
        ),
        max_size=12,
    )
)
def test_whatever_comes_in_the_state_stays_sane(cycles: list[tuple[list[town.Row], ...]]) -> None:
    network = town.street(2)
    fusion = Fusion(network, town.detectors(2), (0,), None)
    now = 100.0
    for counts, tracks, probes, lamps, pause_s in cycles:
        now += float(pause_s)  # type: ignore[arg-type]
        base = np.floor(now)

        def moved(rows: list[town.Row], base: float = base) -> list[town.Row]:
            return [(*row[:-1], base + row[-1]) for row in rows]

        shown: list[tuple[float, str]] = [(base + row[0], str(row[1])) for row in lamps]
        given_batches: Batches = town.batches(moved(counts), moved(tracks), moved(probes), shown)
        check_sane(fusion.update(given_batches, T0_S + now, None), network.lanes.length_m)
