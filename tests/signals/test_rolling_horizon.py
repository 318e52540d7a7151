"""Rolling-horizon control: textbook choices, honest roll-outs, and never a plan that the proof of safety refuses."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sumolib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from networks.graph import VEHICLE_SPACE_M, Network, Ragged
from networks.readers.sumo import read_sumo
from networks.state import Estimate, NetworkState, VehicleTable
from signals.arbiter import decide
from signals.controllers import junction_choice
from signals.controllers import junction_choice_kernels as kernels
from signals.controllers.approach_rows import NOWHERE, ApproachRows, LaneRoom
from signals.controllers.approaches import build_stop_lines
from signals.controllers.junction_choice import (
    ApproachView,
    Choice,
    Tuning,
    build_model,
    choose,
    driven_speed_mps,
    travel_time_s,
)
from signals.controllers.relays import relay
from signals.controllers.rolling_horizon import RollingHorizon
from signals.lamps import LampRecord
from signals.plan import LampStep, Proposal
from signals.rules import rules_of
from signals.safety import find_violations
from signals.transitions import settle
from tests.twin.small_city import small_network

NOW_S = 1_772_000_000.0
WEST, SOUTH = 0, 1  # links, lanes and stages of the small town's one signal: "Gr" opens west, "rG" opens south
TOWN = small_network()
MODEL = build_model(TOWN, 0)
TUNING = Tuning()


def view_of(west=(), south=(), *, stopped=True, weight=1.0, space=(20.0, 20.0), refill=0.5) -> ApproachView:
    """Vehicles by their earliest arrivals, seconds from the plan's begin."""
    arrival_s = np.array([*sorted(west), *sorted(south)], float)
    return ApproachView(
        lane_first=np.array([0, len(west), len(west) + len(south)]),
        arrival_s=arrival_s,
        link=np.array([WEST] * len(west) + [SOUTH] * len(south), np.int64),
        weight=np.full(len(arrival_s), weight),
        stopped=np.full(len(arrival_s), stopped) & (arrival_s <= 0.0),
        lane_fill=np.zeros(2),
        space_veh=np.array(space),
        refill_vps=np.full((2, TUNING.horizon_s), refill),
        press=np.zeros(2),
        stalled_s=np.zeros(2),
        jam_frac=np.zeros(2),
        inside=np.zeros(2),
        walkers=np.zeros(2),
        walker_rate=np.zeros(2),
    )


def choice_from(state: str, view: ApproachView, since_s: float = 30.0, tuning: Tuning = TUNING) -> Choice:
    choice = choose(MODEL, standing(state, since_s), view, tuning, now_s=NOW_S)
    assert choice is not None
    return choice


def standing(state: str, since_s: float) -> LampRecord:
    other = "rG" if state == "Gr" else "Gr"
    return LampRecord.start(other, NOW_S - 100).then("rr", NOW_S - since_s - 1).then(state, NOW_S - since_s)


@pytest.mark.parametrize(("state", "west", "south", "target"), [("Gr", 0, 4, SOUTH), ("rG", 4, 0, WEST)])
def test_the_only_queue_gets_green_at_once(state, west, south, target):
    choice = choice_from(state, view_of([0.0] * west, [0.0] * south))
    assert (choice.target, choice.hold_s) == (target, 0.0)
    assert choice.cost_veh_s < choice.next_best_veh_s
    assert choice.served_veh == pytest.approx(4.0)


@pytest.mark.parametrize("state", ["Gr", "rG"])
def test_a_queue_that_has_green_goes_on_at_saturation_flow(state):
    queue = [0.0] * 6
    choice = choice_from(state, view_of(queue if state == "Gr" else (), queue if state == "rG" else ()))
    assert choice.target == choice.stage or choice.hold_s > 10.0
    assert choice.crossing_s.tolist() == [TUNING.headway_s * n for n in range(6)]


def test_green_is_kept_for_a_platoon_that_arrives_in_a_few_seconds():
    platoon = [1.0 + 2.0 * n for n in range(5)]
    choice = choice_from("Gr", view_of(west=platoon, south=[0.0]))
    assert choice.target == choice.stage or choice.hold_s >= 8.0
    assert choice.crossing_s[:5].max() <= platoon[-1] + TUNING.headway_s


def test_green_is_not_kept_for_a_platoon_that_is_far_away():
    choice = choice_from("Gr", view_of(west=[50.0, 52.0, 54.0], south=[0.0] * 3))
    assert (choice.target, choice.hold_s) == (SOUTH, 0.0)


@pytest.mark.parametrize(
    ("west", "passes"),
    [
        ((2.9,), True),  # before the end of green at second 3
        ((3.4,), True),  # too near to stop when the yellow comes
        ((3.6,), False),
        ((1.2, 1.2), False),  # a fifth of a second late, but behind another: slow enough to stop
    ],
)
def test_the_last_one_over_the_line_is_too_near_to_stop(monkeypatch, west, passes):
    """Green in the west ends after three seconds."""
    asked = []
    search = kernels.search
    monkeypatch.setattr(
        junction_choice.kernels, "search", lambda *question: asked.append(question) or search(*question)
    )
    choice_from("Gr", view_of(west=west, south=[0.0] * 8))
    layout, moment, drivers, allowed, *_, targets_max = asked[0]
    desk = kernels.make_desk(layout, moment, drivers, 3)
    useful = kernels._find_useful(layout, moment, allowed, desk, drivers, targets_max)
    kernels._begin(layout, moment, desk)
    sequence = np.array([WEST, SOUTH]), np.array([3.0, 50.0])
    kernels._roll(layout, moment, drivers, desk, useful, *sequence, 2, False, np.inf, 0, drivers.horizon_s, 1)
    assert (desk.crossing_s[len(west) - 1] <= 4.0) == passes


def test_a_queue_before_a_full_street_is_not_served():
    """Twelve wait for a full street that does not empty, three have room: the three go."""
    jam = view_of([0.0] * 3, [0.0] * 12, space=(20.0, 0.0), refill=0.0)
    choice = choice_from("rG", jam)
    assert choice.target == WEST
    assert (choice.crossing_s[3:] >= TUNING.horizon_s).all()
    assert choice_from("rG", view_of([0.0] * 3, [0.0] * 12)).crossing_s[3:].min() < 10.0


def test_a_lane_whose_first_driver_is_held_loses_its_green_to_those_who_can_go():
    both = view_of([0.0] * 6, [0.0] * 3)
    assert choice_from("Gr", both).target == WEST or choice_from("Gr", both).hold_s > 0.0
    held = choice_from("Gr", replace(both, stalled_s=np.array([15.0, 0.0])))
    assert (held.target, held.hold_s) == (SOUTH, 0.0)
    assert held.crossing_s[:6].min() >= 15.0


def test_persons_weigh():
    """Two buses full of people before three cars: the weight decides, not the count."""
    cars_and_buses = view_of([0.0] * 3, [0.0] * 2)
    heavy = np.array([1.0, 1.0, 1.0, 30.0, 30.0])
    full = ApproachView(
        **{f: getattr(cars_and_buses, f) for f in ApproachView.__slots__ if f != "weight"}, weight=heavy
    )
    assert choice_from("Gr", full).target == SOUTH


arrivals = st.lists(st.floats(0.0, 70.0), max_size=14)


@settings(max_examples=150)
@given(arrivals, arrivals, st.sampled_from(["Gr", "rG"]), st.integers(5, 80))
def test_roll_outs_keep_order_headway_and_lamps(west, south, state, since_s):
    """FIFO a lane, nobody before arriving, headway between followers, nobody before the change has cleared."""
    view = view_of(west, south)
    choice = choice_from(state, view, float(since_s))
    for lane, count in ((WEST, len(west)), (SOUTH, len(south))):
        begin = int(view.lane_first[lane])
        crossing_s = choice.crossing_s[begin : begin + count]
        over = crossing_s < TUNING.horizon_s
        assert (np.diff(over.astype(int)) <= 0).all(), "nobody overtakes in a lane"
        assert (np.diff(crossing_s[over]) >= TUNING.headway_s).all()
        assert (crossing_s >= view.arrival_s[begin : begin + count]).all()
        if lane != choice.stage:
            earliest_s = choice.hold_s if choice.target == lane else 0.0
            assert (crossing_s >= earliest_s + rules_of(MODEL.signal).clear_s[choice.stage, lane]).all()
    assert choice.served_veh == pytest.approx(float((choice.crossing_s < TUNING.horizon_s).sum()))
    assert 0.0 <= choice.cost_veh_s <= choice.next_best_veh_s


@settings(max_examples=40)
@given(arrivals, arrivals, st.floats(0.5, 4.0))
def test_a_weight_common_to_all_changes_no_choice(west, south, factor):
    one, all_of_them = (choice_from("Gr", view_of(west, south, weight=w)) for w in (1.0, factor))
    assert all_of_them.cost_veh_s == pytest.approx(factor * one.cost_veh_s)
    assert all_of_them.served_veh == pytest.approx(factor * one.served_veh)


@pytest.mark.parametrize("hold_s", [20.0, 54.0, 200.0])
def test_a_plan_stands_no_longer_than_the_longest_red_allows(hold_s):
    """South has been red for 150 of at most 180 s; its green comes in time, later, or never."""
    record = standing("Gr", 149.0)
    steps = (LampStep("Gr", hold_s), LampStep("yr", 3.0), LampStep("rr", 1.0), LampStep("rG", 60.0))
    controller = RollingHorizon(TOWN)
    plan = controller._plan(0, record, steps, NOW_S, "")
    assert plan.valid_until_s == NOW_S + (60.0 if hold_s <= 26.0 else 30.0)
    assert not find_violations(plan, TOWN.signals[0], record)


def test_lamps_between_two_stages_leave_no_choice():
    assert choose(MODEL, LampRecord.start("yr", NOW_S), view_of(), TUNING, now_s=NOW_S) is None


def test_only_allowed_stages_are_chosen():
    queue = view_of(west=[0.0] * 10)
    record = standing("Gr", 30.0)
    choice = choose(MODEL, record, queue, TUNING, now_s=NOW_S, allowed=np.array([False, True]))
    assert choice is not None
    assert (choice.target, choice.hold_s) == (SOUTH, 0.0)
    assert choose(MODEL, record, queue, TUNING, now_s=NOW_S, allowed=np.zeros(2, bool)) is None


def test_travel_times_follow_the_laws_of_motion():
    distance_m, limit_mps, none = np.array([4.0]), np.array([14.0]), np.zeros(1)
    assert travel_time_s(distance_m, none, limit_mps)[0] == pytest.approx(2.0)  # 2 m/s2 from rest over 4 m
    assert travel_time_s(np.array([140.0]), limit_mps, limit_mps)[0] == pytest.approx(10.0)
    # 14 m/s after 7 s and 49 m, the other 70 m at the limit
    assert travel_time_s(np.array([119.0]), none, limit_mps)[0] == pytest.approx(12.0)
    assert travel_time_s(np.array([140.0]), np.array([30.0]), limit_mps)[0] == pytest.approx(10.0)


@given(st.floats(0, 500), st.floats(0, 500), st.floats(0, 30), st.floats(3, 25))
def test_further_away_is_later_and_nobody_beats_the_limit(near_m, further_m, speed_mps, limit_mps):
    distance_m = np.array(sorted((near_m, near_m + further_m)))
    times_s = travel_time_s(distance_m, np.full(2, speed_mps), np.full(2, limit_mps))
    assert times_s[0] <= times_s[1] + 1e-6
    assert (times_s >= distance_m / limit_mps - 1e-6).all()


def test_drivers_keep_their_own_speed_near_the_limit_and_change_it_with_the_lane():
    def speed(distance_m, here_m, limits_mps, now_mps):
        limits = np.array([limits_mps[0]]), np.array([limits_mps[1]])
        return driven_speed_mps(np.array([distance_m]), np.array([here_m]), limits, np.array([now_mps]))[0]

    assert speed(200.0, 200.0, (14.0, 14.0), 0.0) == pytest.approx(14.0)  # stands: will drive as allowed
    assert speed(200.0, 200.0, (14.0, 14.0), 12.5) == pytest.approx(12.5)
    assert speed(200.0, 200.0, (14.0, 14.0), 30.0) == pytest.approx(16.8)  # a fifth above, no more
    # 100 m at 10 m/s and 100 m at 20 m/s take 15 s
    assert speed(200.0, 100.0, (10.0, 20.0), 0.0) == pytest.approx(200.0 / 15.0)


@given(st.floats(0, 300), st.floats(0, 300), st.floats(3, 25), st.floats(3, 25), st.floats(0, 40))
def test_nobody_is_thought_to_drive_far_off_the_limits(distance_m, here_m, here_mps, line_mps, now_mps):
    limits = np.array([here_mps]), np.array([line_mps])
    speed = driven_speed_mps(np.array([distance_m]), np.array([here_m]), limits, np.array([now_mps]))[0]
    assert 0.8 * min(here_mps, line_mps) - 1e-6 <= speed <= 1.2 * max(here_mps, line_mps) + 1e-6


def rows_of(signal=(), link=(), distance_m=(), *, wait_s=0.0, stopped=True) -> ApproachRows:
    distance = np.array(distance_m, float)
    return ApproachRows(
        signal=np.array(signal, np.int32),
        link=np.array(link, np.int32),
        movement=np.full(len(distance), -1, np.int32),
        distance_m=distance,
        arrival_s=distance / 10.0,
        wait_s=np.full(len(distance), wait_s),
        weight=np.ones(len(distance)),
        stopped=np.full(len(distance), stopped),
        onward_signal=np.full(len(distance), -1, np.int32),
        onward_link=np.full(len(distance), -1, np.int32),
        onward_m=np.zeros(len(distance)),
    )


def room_in(network: Network) -> LaneRoom:
    count = len(network.lanes.ids)
    return LaneRoom(np.zeros(count), np.ones(count))


def follow(record: LampRecord, plan, seconds: int, *, from_s: float) -> LampRecord:
    for second in range(seconds):
        record = record.then(plan.state_at(from_s + second), from_s + second)
    return record


def test_a_queue_that_never_ends_starves_nobody():
    """West presses for ten minutes, nobody is known in the south: its lamp is never red beyond the longest red."""
    controller, record = RollingHorizon(TOWN), LampRecord.start("rG", NOW_S).then("rr", NOW_S + 3)
    queue = rows_of([0] * 12, [WEST] * 12, [7.5 * n for n in range(12)])
    longest_s = 0.0
    for cycle in range(120):
        now_s = NOW_S + 4 + 5.0 * cycle
        if cycle == 0:
            record = record.then("Gr", now_s)
        (proposal,) = controller.plan(queue, room_in(TOWN), [record], valid_from_s=now_s)
        decision = decide([proposal], TOWN.signals, [record], now_s=now_s, first_version=0)
        assert decision.refused == ()
        record = follow(record, proposal.plan, 5, from_s=now_s)
        if record.state[SOUTH] == "r" and np.isfinite(record.since_s[SOUTH]):
            longest_s = max(longest_s, now_s + 5 - record.since_s[SOUTH])
    assert 60.0 < longest_s <= TOWN.signals[0].max_red_s


@pytest.mark.parametrize(
    ("stands_s", "space_veh", "kept"),
    [(3.0, 20.0, True), (20.0, 20.0, False), (20.0, 0.0, False)],
)
def test_nobody_waits_for_a_lane_whose_first_driver_does_not_go(stands_s, space_veh, kept):
    """Seven stand in the west, at green for half a minute, three in the south: who does not go needs no green."""
    assert stays_open(TOWN, stands_s, space_veh) == kept


@pytest.mark.parametrize(("space_veh", "kept"), [(20.0, True), (0.0, False)])
def test_who_waits_for_his_gap_is_given_time(space_veh, kept):
    """He gives way to a stream without lamps; where his exit is full it is not the gap that he lacks."""
    moves = replace(
        TOWN.movements,
        signal=np.array([0, -1], np.int32),
        gives_way_to=Ragged(np.array([0, 1, 1], np.int32), np.array([1], np.int32)),
    )
    assert stays_open(replace(TOWN, movements=moves), 20.0, space_veh) == kept


def stays_open(network: Network, stands_s: float, space_veh: float) -> bool:
    queues = rows_of([0] * 10, [WEST] * 7 + [SOUTH] * 3, [2.0 + 7.5 * n for n in (*range(7), *range(3))])
    rows = replace(queues, wait_s=np.full(10, stands_s), movement=np.array([WEST] * 7 + [SOUTH] * 3, np.int32))
    room = room_in(network)
    room.vehicles[network.movements.to_lane[WEST]] = (
        network.lanes.length_m[network.movements.to_lane[WEST]] / VEHICLE_SPACE_M - space_veh
    )
    (proposal,) = RollingHorizon(network).plan(rows, room, [standing("Gr", 30.0)], valid_from_s=NOW_S)
    return [proposal.plan.state_at(NOW_S + s) for s in range(5)] == ["Gr"] * 5


def test_a_young_green_is_kept_to_its_minimum():
    record = standing("Gr", 1.0)
    queue = rows_of([0] * 8, [SOUTH] * 8, [7.5 * n for n in range(8)])
    (proposal,) = RollingHorizon(TOWN).plan(queue, room_in(TOWN), [record], valid_from_s=NOW_S)
    shown = [proposal.plan.state_at(NOW_S + s) for s in range(12)]
    assert shown[:4] == ["Gr"] * 4
    assert shown[4:7] == ["yr"] * 3
    assert "rG" in shown


def test_a_change_under_way_is_completed():
    controller = RollingHorizon(TOWN)
    record = standing("Gr", 30.0)
    queue = rows_of([0] * 8, [SOUTH] * 8, [7.5 * n for n in range(8)])
    (first,) = controller.plan(queue, room_in(TOWN), [record], valid_from_s=NOW_S)
    record = follow(record, first.plan, 2, from_s=NOW_S)
    assert record.state == "yr"
    (second,) = controller.plan(rows_of(), room_in(TOWN), [record], valid_from_s=NOW_S + 2)
    assert [second.plan.state_at(NOW_S + s) for s in range(2, 12)] == [
        first.plan.state_at(NOW_S + s) for s in range(2, 12)
    ]


def test_signals_without_lamps_or_inside_a_foreign_change_get_no_plan():
    controller = RollingHorizon(TOWN)
    assert controller.plan(rows_of(), room_in(TOWN), [None], valid_from_s=NOW_S) == []
    assert controller.plan(rows_of(), room_in(TOWN), [LampRecord.start("yr", NOW_S)], valid_from_s=NOW_S) == []


def test_the_fused_state_is_read_like_rows():
    """Five standing vehicles that the state believes in on the southern approach turn the lamps."""
    count = 5
    vehicles = VehicleTable(
        id=np.arange(count, dtype=np.int64),
        lane=np.full(count, SOUTH, np.int32),
        position_m=98.0 - 7.5 * np.arange(count),
        speed_mps=np.zeros(count),
        kind=np.zeros(count, np.int32),
        movement=np.full(count, -1, np.int32),
        equipped=np.zeros(count, bool),
        destination_edge=np.full(count, -1, np.int32),
        certainty=np.ones(count),
        age_s=np.zeros(count),
    )
    lanes, edges = Estimate.unknown(4), Estimate.unknown(4)
    state = NetworkState(
        NOW_S - 1, edges, edges, edges, lanes, lanes, Estimate.unknown(2), vehicles, (None,), 1.0, ()
    )
    record = standing("Gr", 30.0)
    (proposal,) = RollingHorizon(TOWN).propose(state, None, [record], valid_from_s=NOW_S)
    assert proposal.plan.steps[-1].state == "rG"
    assert "5 waiting" in proposal.plan.reason
    gone = NetworkState(
        **{f: getattr(state, f) for f in NetworkState.__slots__ if f != "vehicles"}, vehicles=VehicleTable.empty()
    )
    (kept,) = RollingHorizon(TOWN).propose(gone, None, [record], valid_from_s=NOW_S)
    assert kept.plan.steps[-1].state == "Gr"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Two signals 200 m apart."""
    path = tmp_path_factory.mktemp("pair") / "net.net.xml"
    subprocess.run(
        [
            *(sumolib.checkBinary("netgenerate"), "--grid", "--grid.x-number", "2", "--grid.y-number", "1"),
            *("--grid.length", "200", "--grid.attach-length", "150", "--default.lanenumber", "1"),
            *("-j", "traffic_light", "--no-turnarounds", "--no-warnings", "-o", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return read_sumo(path)


def link_between(network: Network, from_edge: str, to_edge: str) -> tuple[int, int]:
    """(signal, link) of the movement from one edge to another."""
    movements, lanes = network.movements, network.lanes
    edge = [network.edges.ids.index(name) for name in (from_edge, to_edge)]
    (row,) = np.flatnonzero((lanes.edge[movements.from_lane] == edge[0]) & (lanes.edge[movements.to_lane] == edge[1]))
    return int(movements.signal[row]), int(movements.link[row])


def coming(proposals: list[Proposal], signal: int) -> int:
    (reason,) = [p.plan.reason for p in proposals if p.plan.signal == signal]
    found = re.search(r"(\d+) coming", reason)
    assert found is not None
    return int(found[1])


def test_what_one_junction_lets_go_is_expected_at_the_next(pair):
    signal, link = link_between(pair, "left0A0", "A0B0")
    ahead = 1 - signal
    open_here = next(s.state for s in pair.signals[signal].stages if s.state[link] == "G")
    lamps = [
        LampRecord.start(open_here if i == signal else s.stages[0].state, NOW_S - 60)
        for i, s in enumerate(pair.signals)
    ]
    controller = RollingHorizon(pair)
    queue = rows_of([signal] * 3, [link] * 3, [2.0, 9.5, 17.0])
    first = controller.plan(queue, room_in(pair), lamps, valid_from_s=NOW_S)
    assert coming(first, ahead) == 0, "nothing was known there yet"
    second = controller.plan(rows_of(), room_in(pair), lamps, valid_from_s=NOW_S + 1)
    assert 1 <= coming(second, ahead) <= 3
    much_later = controller.plan(rows_of(), room_in(pair), lamps, valid_from_s=NOW_S + 120)
    assert coming(much_later, ahead) == 0


def test_who_comes_to_no_other_signal_is_not_expected_there(pair):
    signal, link = link_between(pair, "left0A0", "A0B0")
    open_here = next(s.state for s in pair.signals[signal].stages if s.state[link] == "G")
    lamps = [
        LampRecord.start(open_here if i == signal else s.stages[0].state, NOW_S - 60)
        for i, s in enumerate(pair.signals)
    ]
    controller = RollingHorizon(pair)
    queue = replace(rows_of([signal] * 3, [link] * 3, [2.0, 9.5, 17.0]), onward_signal=np.full(3, NOWHERE, np.int32))
    controller.plan(queue, room_in(pair), lamps, valid_from_s=NOW_S)
    assert coming(controller.plan(rows_of(), room_in(pair), lamps, valid_from_s=NOW_S + 1), 1 - signal) == 0


@pytest.mark.parametrize(("straight", "expected"), [(0.0, 0), (0.5, 10), (1.0, 20)])
def test_where_a_street_parts_those_are_expected_whom_the_shares_send(tmp_path, straight, expected):
    """Signals at both ends of a street, and a node between where the others turn off for good."""
    path = tmp_path / "net.net.xml"
    subprocess.run(
        [
            *(sumolib.checkBinary("netgenerate"), "--grid", "--grid.x-number", "3", "--grid.y-number", "1"),
            *("--grid.length", "100", "--grid.attach-length", "150", "--default.lanenumber", "1"),
            *("--tls.set", "A0,C0", "--no-turnarounds", "--no-warnings", "-o", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    network = read_sumo(path)
    moves, edge = network.movements, network.lanes.edge
    signal, link = link_between(network, "left0A0", "A0B0")
    begin, end = (network.edges.ids.index(name) for name in ("A0B0", "B0C0"))
    out = edge[moves.from_lane] == begin
    shares = np.where(out, np.where(edge[moves.to_lane] == end, straight, (1.0 - straight) / (out.sum() - 1)), 1.0)
    (here,) = network.signals[signal].link_movements[link]
    rows = replace(rows_of([signal] * 20, [link] * 20, [2.0] * 20), movement=np.full(20, here, np.int32))
    relayed = relay(rows, [(np.arange(20), np.arange(20.0))], network, build_stop_lines(network, shares), NOW_S)
    assert relayed is not None
    assert abs(len(relayed.signal) - expected) <= 1
    assert set(relayed.signal) <= {1 - signal}


def test_a_turn_that_gives_way_waits_for_its_gap(pair):
    """Left against a stream with a vehicle every three seconds, then a gap: it goes after the last of them."""
    signal, left = link_between(pair, "left0A0", "A0top0")
    _, against = link_between(pair, "B0A0", "A0left0")
    model = build_model(pair, signal)
    stage = next(i for i, s in enumerate(model.stage_states) if s[left] == "g" and s[against] == "G")
    stream = np.arange(0.0, 16.0, 3.0)
    lanes = {
        int(model.layout.link_lane[left]): [(0.0, left)],
        int(model.layout.link_lane[against]): [(t, against) for t in stream],
    }
    vehicles = [v for lane in range(len(model.lanes)) for v in lanes.get(lane, [])]
    view = ApproachView(
        lane_first=np.cumsum([0, *(len(lanes.get(lane, [])) for lane in range(len(model.lanes)))]),
        arrival_s=np.array([v[0] for v in vehicles]),
        link=np.array([v[1] for v in vehicles], np.int64),
        weight=np.ones(len(vehicles)),
        stopped=np.zeros(len(vehicles), bool),
        lane_fill=np.zeros(len(model.lanes)),
        space_veh=np.full(len(model.outs), 20.0),
        refill_vps=np.full((len(model.outs), TUNING.horizon_s), 0.5),
        press=np.zeros(len(model.lanes)),
        stalled_s=np.zeros(len(model.lanes)),
        jam_frac=np.zeros(len(model.outs)),
        inside=np.zeros(len(model.link_of)),
        walkers=np.zeros(len(model.link_of)),
        walker_rate=np.zeros(len(model.link_of)),
    )
    model.layout.inside_room[:] = 0.0  # nobody waits beyond the stop line
    only = np.arange(len(model.stage_states)) == stage
    record = LampRecord.start(model.stage_states[stage], NOW_S - 30)
    choice = choose(model, record, view, TUNING, now_s=NOW_S, allowed=only)
    assert choice is not None
    turn_s = float(choice.crossing_s[view.link == left][0])
    through_s = choice.crossing_s[view.link == against]
    assert through_s == pytest.approx(stream)
    assert through_s.max() < turn_s < TUNING.horizon_s


@pytest.fixture(scope="module")
def bologna(shared_data: Path) -> Network:
    folder = shared_data / "networks" / "bologna_joined"
    return read_sumo(folder / "net.net.xml.gz", (folder / "tls.add.xml",))


def check_stages(network: Network) -> None:
    for index, signal in enumerate(network.signals):
        for state in build_model(network, index).stage_states:
            green = np.array([c in "Gg" for c in state[: signal.link_count]])
            assert green.any()
            assert not signal.conflicts[np.ix_(green, green)].any()


def test_no_stage_opens_a_conflict(pair):
    check_stages(pair)


def test_no_stage_of_a_real_city_opens_a_conflict(bologna):
    check_stages(bologna)


@st.composite
def walks(draw, model) -> LampRecord:
    """Lamps as some legal sequence of stages has left them at NOW_S, in a stage or inside a change."""
    states = st.sampled_from(model.stage_states)
    at_s = NOW_S - 400.0
    record = LampRecord.start(draw(states), at_s)
    shown: list[tuple[float, str]] = []
    now = record
    while at_s < NOW_S:
        target = draw(states)
        for step in (
            *settle(model.signal, now, target, at_s),
            LampStep(target, float(draw(st.integers(5, 45)))),
        ):
            shown.append((at_s, step.state))
            now = now.then(step.state, at_s)
            at_s += step.duration_s
    for begin_s, state in shown:
        if begin_s < NOW_S:
            record = record.then(state, begin_s)
    return record


def check_cycles(data: st.DataObject, network: Network, controller: RollingHorizon, most_signals: int) -> None:
    """Three cycles of random traffic from random lamps: every proposal is approved."""
    count = len(network.signals)
    chosen = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=most_signals), "signals")
    lamps: list[LampRecord | None] = [None] * count
    for index in sorted(chosen):
        lamps[index] = data.draw(walks(controller.models[index]), f"lamps of {index}")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "traffic"))
    for cycle in range(3):
        now_s = NOW_S + 5.0 * cycle
        proposals = controller.plan(
            random_rows(rng, network, sorted(chosen)), random_room(rng, network), lamps, valid_from_s=now_s
        )
        decision = decide(proposals, network.signals, lamps, now_s=now_s - 1.0, first_version=0)
        assert [str(v) for _, violations in decision.refused for v in violations] == []
        plans = {p.plan.signal: p.plan for p in proposals}
        for index, record in enumerate(lamps):
            if record is not None:
                plan = plans.get(index)
                lamps[index] = follow(record, plan, 5, from_s=now_s) if plan is not None else None


def random_rows(rng: np.random.Generator, network: Network, signals: list[int]) -> ApproachRows:
    count = int(rng.integers(0, 25)) * len(signals)
    signal = rng.choice(np.array(signals, np.int32), count)
    wanted = [[k for k, m in enumerate(network.signals[i].link_movements) if m] for i in signal]
    stopped = rng.random(count) < 0.5
    return ApproachRows(
        signal=signal,
        link=np.array([rng.choice(links) for links in wanted], np.int32),
        movement=np.full(count, -1, np.int32),
        distance_m=rng.uniform(0, 300, count),
        arrival_s=rng.uniform(-2, 60, count),
        wait_s=np.where(stopped, rng.uniform(0, 200, count), 0.0),
        weight=rng.uniform(0.05, 1.0, count),
        stopped=stopped,
        onward_signal=np.full(count, -1, np.int32),
        onward_link=np.full(count, -1, np.int32),
        onward_m=np.zeros(count),
    )


def random_room(rng: np.random.Generator, network: Network) -> LaneRoom:
    lanes = len(network.lanes.ids)
    return LaneRoom(rng.uniform(0, 30, lanes) * (rng.random(lanes) < 0.3), rng.random(lanes))


HYPOTHESIS = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@HYPOTHESIS
@given(data=st.data())
def test_every_plan_is_approved_on_a_drawn_net(pair, data):
    check_cycles(data, pair, RollingHorizon(pair), 2)


@pytest.fixture(scope="module")
def bologna_models(bologna: Network) -> RollingHorizon:
    return RollingHorizon(bologna)


@HYPOTHESIS
@given(data=st.data())
def test_every_plan_is_approved_in_a_real_city(bologna, bologna_models, data):
    controller = RollingHorizon.__new__(RollingHorizon)
    outflow = np.full_like(bologna_models._outflow, np.nan)
    controller.__dict__.update(bologna_models.__dict__, _targets={}, _chosen={}, _outflow=outflow)
    check_cycles(data, bologna, controller, 6)
