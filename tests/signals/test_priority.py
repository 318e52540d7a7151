"""Policies: read strictly, weigh as they say, and move the lamps accordingly."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.errors import InputError
from networks.graph import Network
from networks.readers.sumo import read_sumo
from signals.controllers.preemption import Preemption
from signals.controllers.rolling_horizon import RollingHorizon
from signals.lamps import LampRecord
from signals.priority import DEFAULT_POLICY, expect_walkers, read_policy, weigh_vehicles
from signals.thin_approaches import _join as join_tables
from tests.signals.drawn_junctions import crossroads, drawn_net
from tests.signals.priority_town import T0_S, Vehicle, live, motor_lanes, movement_between, state_of, table_of

POLICY = read_policy()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "city.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[weights]\ncar = -1", "[weights] car"),
        ("[weights]\nhorse = 1", "[weights] horse"),
        ("[wheels]\ncar = 1", "[wheels]"),
        ("[bus]\npersons = 'many'", "[bus] persons"),
        ("[limits]\nheld_back_frac = 1.5", "[limits] held_back_frac"),
        ("[emergency]\nlimit_s = nan", "[emergency] limit_s"),
        ("[pedestrians.crossings]\nc1 = -1", "[pedestrians.crossings] c1"),
        ("weights = 3", "[weights]"),
        ("car =", "not TOML"),
    ],
)
def test_errors_name_file_table_and_key(tmp_path, text, named):
    path = written(tmp_path, text)
    with pytest.raises(InputError) as said:
        read_policy(path)
    assert str(path) in str(said.value)
    assert named in str(said.value)


def test_a_policy_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.toml"):
        read_policy(tmp_path / "nowhere.toml")


def test_what_a_file_leaves_out_stays_as_shipped(tmp_path):
    policy = read_policy(written(tmp_path, "[bus]\npersons = 3.0"))
    assert policy.bus.persons == 3.0
    assert policy.bus.full_late_s == POLICY.bus.full_late_s
    assert policy.weights == POLICY.weights
    assert read_policy(DEFAULT_POLICY) == POLICY


@given(st.floats(-1000, 1000), st.floats(0, 1000))
def test_a_later_bus_never_weighs_less_and_an_early_one_is_a_car(late_s, more_s):
    early, late, later = POLICY.bus.weigh(np.array([-1.0, late_s, late_s + more_s]))
    assert early == 1.0
    assert 1.0 <= late <= later <= POLICY.bus.persons * POLICY.bus.cap_factor


def test_kinds_lateness_and_platoons_weigh():
    network = crossroads()
    lane = motor_lanes(network, "ec")[0]
    kinds = ["car", "truck", "emergency"]
    vehicles = [Vehicle(lane, 80.0 - 10 * n, kind) for n, kind in enumerate(kinds)]
    vehicles += [Vehicle(lane, 40.0, "bus", late_s=600.0), Vehicle(lane, 30.0, "bus")]
    vehicles += [Vehicle(lane, 20.0 - 8 * n, platoon=7) for n in range(3)]
    weight = weigh_vehicles(POLICY, table_of(network, vehicles))
    w, bus, follower = POLICY.weights, POLICY.bus, POLICY.platoon.follower_factor
    assert weight[:3].tolist() == [w.car, w.truck, w.emergency]
    assert weight[3:5] == pytest.approx([bus.persons * bus.cap_factor, bus.persons * bus.unknown_factor])
    assert weight[5:].tolist() == [follower, follower, 1.0], "the one in front leads"


def test_expected_vehicles_join_weighted_ones():
    network = crossroads()
    lane = motor_lanes(network, "ec")[0]
    weighted = Preemption(network, RollingHorizon(network), POLICY)._weighed(
        table_of(network, [Vehicle(lane, 20.0, "bus")]), [None], T0_S
    )
    plain = state_of(network, [Vehicle(lane, 5.0)], T0_S).vehicles
    both = join_tables(weighted, plain)
    assert both.weight is not None
    assert both.weight[0] > 5.0
    assert both.weight[1] == 1.0


def first_green(shown: list[str], link: int) -> int:
    return next((second for second, state in enumerate(shown) if state[link] in "Gg"), len(shown))


@cache
def without_walkers() -> Network:
    return read_sumo(drawn_net("nesw"))


def east_west_green(network: Network, since_s: float = 30.0) -> tuple[LampRecord, int, int]:
    """Lamps green for so long on the east-west street; links of the straight ways from east and from north."""
    signal = network.signals[0]
    east = int(network.movements.link[movement_between(network, "ec", "cw")])
    north = int(network.movements.link[movement_between(network, "nc", "cs")])
    state = next(s.state for s in signal.stages if s.state[east] == "G" and s.state[north] == "r")
    other = next(s.state for s in signal.stages if s.state[north] == "G" and s.state[east] == "r")
    red = "r" * signal.link_count
    lamps = LampRecord.start(other, T0_S - 60).then(red, T0_S - since_s - 10).then(state, T0_S - since_s)
    return lamps, east, north


def bus_from_north(late_s: float) -> list[str]:
    network = crossroads()
    lamps, *_ = east_west_green(network)
    lane = motor_lanes(network, "ec")[0]
    straight_east, straight_north = movement_between(network, "ec", "cw"), movement_between(network, "nc", "cs")
    north_lane = int(network.movements.from_lane[straight_north])

    def vehicles_at(second: int, shown: str) -> list[Vehicle]:
        stream = [
            Vehicle(lane, 20.0 + 26.0 * n, movement=straight_east, speed_mps=13.0, id=100 + n) for n in range(5)
        ]
        return [*stream, Vehicle(north_lane, 2.0, "bus", straight_north, late_s=late_s, id=1)]

    return live(network, Preemption(network, RollingHorizon(network), POLICY), vehicles_at, 60, lamps)


def test_a_late_bus_gets_green_earlier_than_one_on_time_and_that_one_earlier_than_an_early_one():
    *_, north = east_west_green(crossroads())
    late, on_time, early = (first_green(bus_from_north(s), north) for s in (300.0, 0.0, -60.0))
    assert late <= on_time <= early
    assert late < early


def green_for_platoon(platoon: int, waiting: int) -> int:
    """Five cars come at 2.5 s on a green from the east, some stand in the north: seconds until the green ends."""
    network = without_walkers()
    lamps, east, _ = east_west_green(network, 6.0)
    straight_east, straight_north = movement_between(network, "ec", "cw"), movement_between(network, "nc", "cs")
    lane = int(network.movements.from_lane[straight_east])
    north_lane = int(network.movements.from_lane[straight_north])

    def vehicles_at(second: int, shown: str) -> list[Vehicle]:
        before_m = [5.0 + 32.0 * n - 13.0 * second for n in range(5)]
        train = [
            Vehicle(lane, b, "car", straight_east, speed_mps=13.0, platoon=platoon, id=n + 1)
            for n, b in enumerate(before_m)
            if b > 0.0
        ]
        return [
            *train,
            *(Vehicle(north_lane, 2.0 + 7.5 * n, movement=straight_north, id=90 + n) for n in range(waiting)),
        ]

    shown = live(network, Preemption(network, RollingHorizon(network), POLICY), vehicles_at, 14, lamps)
    return next((second for second, state in enumerate(shown) if state[east] != "G"), len(shown))


def test_a_platoon_is_not_split_when_that_costs_little():
    last_over = int((5.0 + 32.0 * 4) / 13.0)
    together = [green_for_platoon(3, waiting) for waiting in range(1, 16, 3)]
    apart = [green_for_platoon(-1, waiting) for waiting in range(1, 16, 3)]
    assert together[0] >= last_over - 1, "the last one, 16 m before the line by then, is too near to stop"
    assert all(t >= a for t, a in zip(together, apart, strict=True))
    assert any(t > a for t, a in zip(together, apart, strict=True)), "nothing to hold together"


def test_walkers_grow_with_the_red_and_get_their_green():
    network, (lamps, *_) = crossroads(), east_west_green(crossroads())
    signal = network.signals[0]
    assert not expect_walkers(POLICY, network).expect(0, lamps, T0_S)[0].any(), "those not seen count for nothing"
    expected = POLICY.pedestrians.model_copy(update={"expected_factor": 0.1})
    policy = POLICY.model_copy(update={"pedestrians": expected})
    walkers = expect_walkers(policy, network)
    waiting, rate = walkers.expect(0, lamps, T0_S)
    closed = np.array([c == "r" for c in lamps.state])
    assert (rate > 0.0).tolist() == signal.pedestrian.tolist()
    assert (waiting[~closed] == 0.0).all()
    assert waiting[closed & signal.pedestrian].min() > 0.0
    later, _ = walkers.expect(0, lamps, T0_S + 30.0)
    grown = 30.0 * 0.1 * policy.weights.pedestrian * policy.pedestrians.rate_per_s
    assert (later - waiting)[closed & signal.pedestrian] == pytest.approx(grown)
    shown = live(network, RollingHorizon(network, walkers=walkers), lambda *_: [], 60, lamps)
    crossing = int(np.flatnonzero(closed & signal.pedestrian)[0])
    assert first_green(shown, crossing) < 40


def test_crossings_that_the_network_lacks_are_named(tmp_path):
    policy = read_policy(written(tmp_path, "[pedestrians.crossings]\nnowhere = 0.2"))
    with pytest.raises(InputError, match="nowhere"):
        expect_walkers(policy, crossroads())
    known = crossroads().signals[0].crossings[0]
    busy = read_policy(written(tmp_path, f'[pedestrians.crossings]\n"{known.id}" = 0.5'))
    assert expect_walkers(busy, crossroads()).rate_per_s[0][known.links[0]] == pytest.approx(0.5 / len(known.links))


def test_long_red_ends_the_privileges_of_a_bus():
    """East-west has waited for most of the longest red: the buses from the north count as cars."""
    network = crossroads()
    lamps, east, north = east_west_green(crossroads())
    turned = LampRecord.start(lamps.state, T0_S - 200).then("r" * len(lamps.state), T0_S - 120)
    north_stage = next(s.state for s in network.signals[0].stages if s.state[north] == "G" and s.state[east] == "r")
    turned = turned.then(north_stage, T0_S - 100)
    east_move, north_move = movement_between(network, "ec", "cw"), movement_between(network, "nc", "cs")
    bus = Vehicle(int(network.movements.from_lane[north_move]), 9.0, "bus", north_move, late_s=500.0)
    car = Vehicle(int(network.movements.from_lane[east_move]), 1.0, "car", east_move)
    priority = Preemption(network, RollingHorizon(network), POLICY)
    alone = priority._weighed(table_of(network, [bus]), [turned], T0_S).weight
    held = priority._weighed(table_of(network, [bus, car]), [turned], T0_S).weight
    assert alone is not None
    assert held is not None
    assert alone[0] > 5.0
    assert held.tolist() == [1.0, 1.0]
