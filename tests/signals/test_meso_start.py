"""The mesoscopic model started in the middle of the traffic; walkers and green arrows at its turns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from networks.graph import RIGHT, Floats, Network
from networks.state import Estimate, Forecast, NetworkState, VehicleTable
from signals.meso import MesoModel, build_meso, car_demand, timing_of
from signals.meso_start import model_ahead, place
from tests.signals.meso_streets import SPEED_MPS, Edge, Turn, build_street, crossroads, programme


@settings(max_examples=25)
@example(
    gaps_s=[0.0] * 6 + [19.0] + [0.0] * 3,
    green_s=5,
    cut_s=34,
    seed=3,
    ways=[(0, 1, 2)] * 9 + [(1, 2)] + [(0, 1, 2)] * 50,
)
@given(
    gaps_s=st.lists(st.floats(0.0, 20.0), min_size=1, max_size=60),
    green_s=st.integers(5, 60),
    cut_s=st.integers(1, 500),
    seed=st.integers(0, 5),
    ways=st.lists(st.sampled_from([(0, 1, 2), (0, 1, 3), (0, 1), (1, 2), (4, 3)]), min_size=60, max_size=60),
)
def test_a_run_cut_in_two_loses_nobody_and_no_delay(
    gaps_s: list[float], green_s: int, cut_s: int, seed: int, ways: list[tuple[int, ...]]
) -> None:
    network = crossroads(float(green_s))
    depart_s = 7.0 + np.cumsum(gaps_s)
    demand = car_demand(depart_s, [list(way) for way in ways[: len(depart_s)]])
    model = build_meso(network, demand, begin_s=7.0, end_s=700.0)
    timing = timing_of(network)
    whole = model.run(timing, seed=seed)
    before, start = model.stop(timing, 7.0 + cut_s, seed=seed)
    after = model.run(timing, start=start)
    due = int((depart_s < 700.0).sum())
    assert before.arrived + after.arrived + after.running + after.never_inserted == due
    assert after.vehicles == due - before.arrived
    swapped_s = network.signals[0].programmes[0].cycle_s + 2.0  # who is last in a green, of two in the same second
    assert before.vehicle_s + after.vehicle_s == pytest.approx(whole.vehicle_s, rel=0.01, abs=swapped_s)
    total_s = (before.mean_delay_s + after.mean_delay_s) * len(model.demand)
    assert total_s == pytest.approx(whole.mean_delay_s * len(model.demand), rel=0.01, abs=swapped_s)


def test_without_ties_a_cut_changes_nothing_at_all() -> None:
    """Two lanes that act in the same second may swap; one after the other they cannot."""
    network = build_street(
        [Edge("in", "a", "b", 300.0), Edge("mid", "b", "c", 100.0), Edge("out", "c", "d", 100.0)],
        [Turn("in", 0, "mid", 0), Turn("mid", 0, "out", 0, link=0)],
        programme(("G", 20.0), ("y", 3.0), ("r", 37.0)),
    )
    demand = car_demand(np.arange(0.0, 600.0, 4.1), [[0, 1, 2]] * 147)
    model, timing = build_meso(network, demand, begin_s=0.0, end_s=900.0), timing_of(network)
    whole = model.run(timing)
    for cut_s in (30.0, 61.0, 200.0, 455.0):
        before, start = model.stop(timing, cut_s)
        after = model.run(timing, start=start)
        assert before.mean_delay_s + after.mean_delay_s == pytest.approx(whole.mean_delay_s, abs=1e-9)
        assert model.score([timing], start=start)[0, 0] == after.mean_delay_s


@pytest.mark.parametrize("at_s", [-1.0, 10.5, 901.0])
def test_runs_stop_at_whole_seconds_of_their_span(at_s: float) -> None:
    model = build_meso(crossroads(), car_demand(np.zeros(1), [[0, 1]]), begin_s=0.0, end_s=900.0)
    with pytest.raises(ValueError, match="cannot stop"):
        model.stop(timing_of(model.network), at_s)


def approach(lamps: str, length_m: float = 300.0) -> Network:
    return build_street(
        [Edge("in", "a", "b", length_m), Edge("out", "b", "c", 300.0)],
        [Turn("in", 0, "out", 0, link=0)],
        programme(*((lamp, 30.0) for lamp in lamps)),
    )


def test_a_queue_at_red_waits_for_the_rest_of_it_only() -> None:
    """Four cars stand at a red that began twelve seconds ago and lasts thirty."""
    network = approach("rG")
    demand = car_demand(np.full(4, 1012.0), [[0, 1]] * 4, speed_dev=0.0)
    model = build_meso(network, demand, begin_s=1012.0, end_s=1300.0)
    where_m = 300.0 - 7.5 * np.arange(4.0)
    model, start = place(model, np.zeros(4, np.int32), where_m, np.zeros(4))
    timing = timing_of(network, [dataclasses.replace(network.signals[0].programme, offset_s=1000.0)])
    found = model.run(timing, start=start)
    assert found.arrived == 4
    assert 18.0 < found.mean_delay_s < 18.0 + 10.0  # the rest of red, then one after the other
    later = timing_of(network, [dataclasses.replace(network.signals[0].programme, offset_s=1010.0)])
    assert model.run(later, start=start).mean_delay_s - found.mean_delay_s == pytest.approx(10.0, abs=0.1)


def test_who_finds_no_room_waits_to_enter_before_the_others() -> None:
    network = approach("r", length_m=45.0)
    demand = car_demand(np.concatenate([np.zeros(20), [5.0]]), [[0, 1]] * 21)
    model = build_meso(network, demand, begin_s=0.0, end_s=120.0)
    model, start = place(model, np.zeros(20, np.int32), np.linspace(45.0, 0.0, 20), np.zeros(20))
    found = model.run(timing_of(network), start=start)
    assert found.running == 6  # 45 m, 7.5 m a car
    assert found.never_inserted == 15
    assert found.arrived == 0


def seen(network: Network, vehicles: VehicleTable, flow_vps: Floats) -> NetworkState:
    edges, lanes, moves = len(network.edges.ids), len(network.lanes.ids), len(network.movements.turn)
    sure = np.ones(edges, np.bool_)
    flow = Estimate(flow_vps, np.zeros(edges), np.zeros(edges), sure)
    unknown = Estimate.unknown
    return NetworkState(
        1e6, flow, unknown(edges), unknown(edges), unknown(lanes), unknown(lanes), unknown(moves), vehicles,
        (None,), 1.0, (),
    )  # fmt: skip


def cars(lane: list[int], position_m: list[float], movement: list[int], certainty: list[float]) -> VehicleTable:
    count, none = len(lane), np.full(len(lane), -1, np.int32)
    return dataclasses.replace(
        VehicleTable.empty(), id=np.arange(count), lane=np.array(lane, np.int32), position_m=np.array(position_m),
        speed_mps=np.full(count, SPEED_MPS), kind=np.zeros(count, np.int32), movement=np.array(movement, np.int32),
        equipped=np.zeros(count, np.bool_), destination_edge=none, certainty=np.array(certainty),
        age_s=np.zeros(count),
    )  # fmt: skip


def test_the_streets_ahead_hold_what_is_believed_and_what_is_forecast() -> None:
    network = crossroads()
    vehicles = cars([0, 0, 0, 0, 1], [100.0, 80.0, 60.0, 40.0, 30.0], [-1, -1, -1, -1, 2], [0.5, 0.5, 0.5, 0.5, 1.0])
    state = seen(network, vehicles, np.array([0.1, 0.0, 0.0, 0.0, 0.05]))
    model, start = model_ahead(network, state, None, clock_s=0.0, span_s=600.0)
    assert int((start.lane["tail"] - start.lane["head"])[: len(network.lanes.ids)].sum()) == 3
    assert len(model.demand) == pytest.approx(3 + 60 + 30, abs=2)
    quantiles = (0.1, 0.5, 0.9)
    flow = np.zeros((2, 5, 3))
    flow[0, 0], flow[1, 0] = (0.0, 0.2, 0.9), (0.0, 0.4, 0.9)
    ahead = Forecast(
        1e6 - 60.0, np.array([300.0, 600.0]), quantiles, flow, flow, np.zeros((2, 5, 4)), np.ones(5, np.bool_), ("a",)
    )
    model, start = model_ahead(network, state, ahead, clock_s=0.0, span_s=600.0)
    entering = model.demand.depart_s[3:]
    assert len(entering) == pytest.approx(0.2 * 240.0 + 0.4 * 300.0, abs=1.0)
    assert (entering < 240.0).sum() == pytest.approx(48.0, abs=1.0)
    found = model.run(timing_of(network), start=start)
    assert found.arrived + found.running + found.never_inserted == len(model.demand)


def turn_over_a_crossing(lanes_out: int) -> Network:
    """A right turn (link 0) into a street that walkers (link 1) cross while it has green, forty seconds of ninety."""
    network = build_street(
        [Edge("in", "a", "b", 3000.0), Edge("out", "b", "c", 300.0, lanes_out)],
        [Turn("in", 0, "out", 0, link=0)],
        programme(("gG", 30.0), ("gr", 10.0), ("rr", 50.0)),
    )
    crossed = np.array([[False, True], [True, False]])
    signal = dataclasses.replace(network.signals[0], foes=crossed, pedestrian=np.array([False, True]))
    turning = dataclasses.replace(network.movements, turn=np.full(1, RIGHT, np.int32))
    return dataclasses.replace(network, signals=(signal,), movements=turning)


def served_per_cycle(network: Network, walkers_vph: float) -> float:
    demand = car_demand(np.arange(0.0, 3600.0, 2.0), [[0, 1]] * 1800, speed_dev=0.0)
    model: MesoModel = build_meso(
        network, demand, begin_s=0.0, end_s=3690.0, saturation_vph=np.full(1, 1800.0),
        walkers_vph=np.array([0.0, walkers_vph]),
    )  # fmt: skip
    return float(model.run(timing_of(network)).edge_left_veh[0] / (3690.0 - 216.0) * 90.0)


@pytest.mark.parametrize(("walkers_vph", "lanes_out"), [(200.0, 1), (600.0, 1), (600.0, 2), (3000.0, 1)])
def test_walkers_take_from_a_turn_what_the_capacity_manual_says(walkers_vph: float, lanes_out: int) -> None:
    """HCM 2010, chapter 31: walkers occupy the conflict zone, over the part of the turn's green that they share."""
    network = turn_over_a_crossing(lanes_out)
    in_walk_vph = min(walkers_vph * 90.0 / 30.0, 5000.0)
    occupied = in_walk_vph / 2000.0 if in_walk_vph <= 1000.0 else 0.4 + in_walk_vph / 10000.0
    felt = (1.0 if lanes_out == 1 else 0.6) * min(occupied, 0.9) * 30.0 / 40.0
    ratio = served_per_cycle(network, walkers_vph) / served_per_cycle(network, 0.0)
    assert ratio == pytest.approx(1.0 - felt, abs=0.06)


def test_who_turns_at_a_green_arrow_stands_first() -> None:
    """One car at a time: nothing to lose on green, a stop of a second and setting off again at the arrow."""
    lost_s = []
    for lamps in ("G", "s"):
        network = approach(lamps)
        demand = car_demand(np.arange(0.0, 600.0, 30.0), [[0, 1]] * 20, speed_dev=0.0)
        lost_s.append(build_meso(network, demand, begin_s=0.0, end_s=900.0).run(timing_of(network)).mean_delay_s)
    setting_off_s = SPEED_MPS / 2.6 / 2.0
    assert lost_s[1] - lost_s[0] == pytest.approx(1.0 + setting_off_s, abs=1.0)
