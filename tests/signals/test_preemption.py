"""Emergency vehicles find green, nobody is endangered or forgotten for it, and the junction recovers."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import sumolib
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.graph import Network
from networks.readers.sumo import read_sumo
from signals.controllers.approaches import build_stop_lines
from signals.controllers.max_pressure import MaxPressure
from signals.controllers.preemption import PRIORITY, Preemption
from signals.controllers.rolling_horizon import RollingHorizon
from signals.emergency_ways import EmergencyWays
from signals.lamps import LampRecord
from signals.plan import Proposal
from signals.priority import read_policy
from signals.rules import rules_of
from tests.signals.drawn_junctions import crossroads
from tests.signals.priority_town import T0_S, Vehicle, live, movement_between, state_of, table_of

POLICY = read_policy()
ARMS = ("n", "e", "s", "w")
SPEED_MPS = 13.0


class Silent:
    """A controller that proposes nothing."""

    name = "silent"

    def propose(self, state, forecast, lamps, *, valid_from_s) -> list[Proposal]:
        return []


def coming(origin: str, target: str, from_m: float, *, sure: bool = True):
    """Where the vehicle is at each second: it drives on at speed, and stops at a red."""
    network = crossroads()
    movement = movement_between(network, f"{origin}c", f"c{target}")
    lane, link = int(network.movements.from_lane[movement]), int(network.movements.link[movement])
    left = {"m": from_m}

    def vehicles_at(second: int, lamps: str) -> list[Vehicle]:
        if left["m"] < 0.0:
            return []
        here = Vehicle(lane, left["m"], "emergency", movement if sure else -1, speed_mps=SPEED_MPS, id=9)
        is_open = lamps[link] in "Gg"
        left["m"] = left["m"] - SPEED_MPS if is_open or left["m"] > SPEED_MPS else min(left["m"], 1.0)
        if left["m"] == 1.0 and not is_open:
            return [here._replace(before_m=1.0, speed_mps=0.0)]
        return [here]

    return vehicles_at, link


def longest_change_s() -> float:
    return rules_of(crossroads().signals[0]).shortest_wait_s


@settings(max_examples=25)
@given(
    st.sampled_from([(a, b) for a in ARMS for b in ARMS if a != b]),
    st.integers(20, 180),
    st.integers(0, 7),
    st.integers(1, 30),
    st.booleans(),
)
def test_no_red_is_longer_than_the_change_and_the_minimum_greens_need(way, from_m, stage, since_s, talks):
    """From any stage that has stood for any time, whatever the controller inside says."""
    network = crossroads()
    signal = network.signals[0]
    states = [s.state for s in signal.stages]
    state, before = states[stage % len(states)], states[(stage + 1) % len(states)]
    red = "r" * signal.link_count
    lamps = LampRecord.start(before, T0_S - 80).then(red, T0_S - since_s - 20).then(state, T0_S - since_s)
    vehicles_at, link = coming(*way, float(from_m))
    controller = Preemption(network, RollingHorizon(network) if talks else Silent(), POLICY)
    shown = live(network, controller, vehicles_at, 45, lamps)
    arrives = int(from_m / SPEED_MPS)
    first_open = next(n for n, s in enumerate(shown) if s[link] in "Gg")
    assert first_open <= max(longest_change_s(), arrives)
    if arrives > longest_change_s() + POLICY.emergency.margin_s:
        assert shown[arrives][link] in "Gg", "with time enough it is green when the vehicle comes"


def other_stage(link: int) -> str:
    return next(s.state for s in crossroads().signals[0].stages if s.state[link] == "r")


def test_the_junction_is_held_until_the_vehicle_has_passed_and_no_longer():
    network = crossroads()
    movement = movement_between(network, "nc", "cs")
    link, lane = int(network.movements.link[movement]), int(network.movements.from_lane[movement])
    lamps = LampRecord.start(other_stage(link), T0_S - 50)
    controller = Preemption(network, Silent(), POLICY)

    def vehicles_at(second: int, shown: str) -> list[Vehicle]:
        stuck = Vehicle(lane, 20.0, "emergency", movement, id=9)
        return [stuck] if second < 40 else []

    shown = live(network, controller, vehicles_at, 50, lamps)
    opened = next(n for n, s in enumerate(shown) if s[link] in "Gg")
    assert all(s[link] in "Gg" for s in shown[opened:40])
    assert controller.held == {}
    assert 0 in controller._recovering


def test_no_junction_is_held_beyond_the_limit():
    network = crossroads()
    movement = movement_between(network, "nc", "cs")
    link, lane = int(network.movements.link[movement]), int(network.movements.from_lane[movement])
    controller = Preemption(network, Silent(), POLICY)
    broken_down = [Vehicle(lane, 20.0, "emergency", movement, id=9)]
    record, last = LampRecord.start(other_stage(link), T0_S - 50), -1
    for second in range(100):
        now_s = T0_S + second
        found = controller.propose(state_of(network, broken_down, now_s), None, [record], valid_from_s=now_s + 1)
        if found:
            assert found[0].priority == PRIORITY
            record, last = record.then(found[0].plan.state_at(now_s + 1), now_s + 1), second
    assert last == POLICY.emergency.limit_s


def test_those_who_waited_weigh_more_for_a_while():
    network = crossroads()
    movement, across = movement_between(network, "nc", "cs"), movement_between(network, "ec", "cw")
    lane, side = int(network.movements.from_lane[movement]), int(network.movements.from_lane[across])
    link = int(network.movements.link[movement])
    controller = Preemption(network, Silent(), POLICY)
    lamps = LampRecord.start(other_stage(link), T0_S - 50)
    car, rival = Vehicle(side, 5.0, "car", across, id=1), Vehicle(lane, 30.0, "car", movement, id=2)

    def vehicles_at(second: int, shown: str) -> list[Vehicle]:
        return [car, rival, *([Vehicle(lane, 9.0, "emergency", movement, id=9)] if second < 20 else [])]

    live(network, controller, vehicles_at, 26, lamps)
    table = table_of(network, [car, rival])
    weights = [controller._weighed(table, [lamps], T0_S + s).weight for s in (26.0, 56.0, 200.0)]
    first, second, third = (w.tolist() for w in weights if w is not None)
    assert first[0] == pytest.approx(1.0 + POLICY.emergency.recovery_gain, abs=0.1)
    assert 1.0 < second[0] < first[0]
    assert third[0] == 1.0
    assert first[1] == 1.0, "who had green needs no amends"


def test_somebody_close_to_the_longest_red_goes_first():
    """The crossing street has been red for almost as long as allowed: the junction is not taken from it."""
    network = crossroads()
    signal = network.signals[0]
    movement = movement_between(network, "nc", "cs")
    link, lane = int(network.movements.link[movement]), int(network.movements.from_lane[movement])
    state = next(s.state for s in signal.stages if s.state[link] == "G")
    since_s = signal.max_red_s - 12.0
    lamps = LampRecord.start(other_stage(link), T0_S - 400).then("r" * signal.link_count, T0_S - since_s)
    lamps = lamps.then(state, T0_S - since_s + 10.0)
    stuck = [Vehicle(lane, 20.0, "emergency", movement, id=9)]
    shown = live(network, Preemption(network, RollingHorizon(network), POLICY), lambda *_: stuck, 60, lamps)
    served = rules_of(signal).served
    red_s = since_s
    for s in shown:
        red_s = red_s + 1.0 if all(s[k] == "r" for k in np.flatnonzero(served) if state[k] == "r") else 0.0
        assert red_s <= signal.max_red_s
    assert shown[-1][link] in "Gg", "and then it is the vehicle's turn again"


@cache
def row_of_three() -> Network:
    net = Path(mkdtemp(prefix="row-")) / "net.net.xml"
    command = [sumolib.checkBinary("netgenerate"), "--grid", "--grid.x-number", "3", "--grid.y-number", "1"]
    command += ["--grid.length", "200", "--grid.attach-length", "200", "-j", "traffic_light", "--no-turnarounds"]
    subprocess.run([*command, "--no-warnings", "-o", str(net)], check=True, capture_output=True)
    return read_sumo(net)


def test_the_way_is_cleared_ahead_along_the_known_route():
    network = row_of_three()
    lane = int(network.edges.first_lane[network.edge_index["left0A0"]])
    target = network.edge_index["C0right0"]
    table = table_of(network, [Vehicle(lane, 150.0, "emergency", destination=target, speed_mps=13.0, id=9)])
    ways = EmergencyWays(network, build_stop_lines(network))
    calls = ways.find(table, 5)
    assert [network.signals[c.signal].id for c in calls] == ["A0", "B0", "C0"]
    assert np.diff([c.arrival_s for c in calls]).min() > 10.0
    assert len(ways.find(table, 2)) == 2
    for call in calls:
        moves = [m for k in call.links for m in network.signals[call.signal].link_movements[k]]
        assert {int(network.movements.turn[m]) for m in moves} == {0}


def test_without_a_route_only_the_next_signal_is_called_for_every_turn_of_the_lane():
    network = row_of_three()
    lane = int(network.edges.first_lane[network.edge_index["left0A0"]])
    ways = EmergencyWays(network, build_stop_lines(network))
    (call,) = ways.find(table_of(network, [Vehicle(lane, 150.0, "emergency", id=9)]), 5)
    assert network.signals[call.signal].id == "A0"
    assert len(call.links) == len(network.lane_movements[lane])


def test_everything_else_is_the_wrapped_controllers_own():
    network = crossroads()
    lamps = LampRecord.start(network.signals[0].stages[0].state, T0_S - 50)
    cars = [Vehicle(0, 20.0, id=1)]
    state = state_of(network, cars, T0_S)
    plain = MaxPressure(network).propose(state, None, [lamps], valid_from_s=T0_S + 1)
    wrapped = Preemption(network, MaxPressure(network), POLICY)
    assert wrapped.name == MaxPressure.name
    assert wrapped.propose(state, None, [lamps], valid_from_s=T0_S + 1) == plain
    assert wrapped.propose(state, None, [None], valid_from_s=T0_S + 1) == []
