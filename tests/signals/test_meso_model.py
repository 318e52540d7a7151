"""The mesoscopic model against textbook traffic: delays at a signal, queues, spill-back, merges, right of way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from networks.errors import ShapeError
from networks.graph import Floats, Network
from signals.delay import uniform_delay_s, webster_delay_s
from signals.meso import build_meso, car_demand, timing_of, timing_of_day
from tests.signals.meso_streets import SPEED_MPS, Edge, Turn, build_street, crossroads, programme

CYCLE_S, GREEN_S = 90.0, 40.0
SATURATION_VPS = 0.5


def approach(length_m: float = 1500.0, green_s: float = GREEN_S) -> Network:
    """One lane to a signal and away from it."""
    return build_street(
        [Edge("in", "a", "b", length_m), Edge("out", "b", "c", 300.0)],
        [Turn("in", 0, "out", 0, link=0)],
        programme(("G", green_s), ("r", CYCLE_S - green_s)),
    )


def delay_s(network: Network, depart_s: Floats, end_s: float, seed: int = 0) -> float:
    """Mean delay at the signal of cars that all want one speed: what they lose beside an endless green."""
    demand = car_demand(depart_s, [[0, 1]] * len(depart_s), speed_dev=0.0)
    saturation = np.full(len(network.movements.turn), SATURATION_VPS * 3600.0)
    model = build_meso(network, demand, begin_s=0.0, end_s=end_s, saturation_vph=saturation)
    free = dataclasses.replace(network.signals[0], programmes=(programme(("G", CYCLE_S)),))
    always = timing_of(dataclasses.replace(network, signals=(free,)))
    return model.run(timing_of(network), seed=seed).mean_delay_s - model.run(always, seed=seed).mean_delay_s


@pytest.mark.parametrize("degree", [0.21, 0.43, 0.62, 0.83])
def test_even_arrivals_wait_as_webster_says(degree: float) -> None:
    flow_vps = degree * SATURATION_VPS * GREEN_S / CYCLE_S
    depart_s = np.arange(0.0, 7200.0, 1.0 / flow_vps)
    found = delay_s(approach(), depart_s, 9000.0)
    expected = uniform_delay_s(CYCLE_S, GREEN_S - 2.0, flow_vps, SATURATION_VPS)
    assert found == pytest.approx(expected + 2.0, rel=0.15)  # 2 s: what setting off again costs


@pytest.mark.parametrize("degree", [0.5, 0.8, 0.9])
def test_random_arrivals_wait_as_webster_says(degree: float) -> None:
    flow_vps = degree * SATURATION_VPS * (GREEN_S - 2.0) / CYCLE_S
    found = []
    for seed in range(6):
        gaps_s = np.random.default_rng(seed).exponential(1.0 / flow_vps, int(14400 * flow_vps))
        depart_s = np.cumsum(gaps_s)
        found.append(delay_s(approach(), depart_s[depart_s < 14400.0], 16000.0, seed))
    expected = webster_delay_s(CYCLE_S, GREEN_S - 2.0, flow_vps, SATURATION_VPS)
    assert np.mean(found) == pytest.approx(expected + 2.0, rel=0.2)


def test_a_queue_clears_when_the_kinematic_wave_says() -> None:
    """Red for 120 s, arrivals at half the saturation flow: the queue is gone after as long a time of green."""
    network = build_street(
        [Edge("in", "a", "b", 2000.0), Edge("out", "b", "c", 300.0)],
        [Turn("in", 0, "out", 0, link=0)],
        programme(("r", 300.0), ("G", 3300.0)),
    )
    depart_s = np.arange(0.0, 1200.0, 2.0 / SATURATION_VPS)
    demand = car_demand(depart_s, [[0, 1]] * len(depart_s), speed_dev=0.0)
    saturation = np.full(1, SATURATION_VPS * 3600.0)
    reach_s = 2000.0 / (SPEED_MPS - 0.65)
    gone_s = 300.0 + (300.0 - reach_s)
    queues = []
    for end_s in (gone_s - 60.0, gone_s + 40.0):
        model = build_meso(network, demand, begin_s=0.0, end_s=end_s, saturation_vph=saturation)
        queues.append(model.run(timing_of(network)).edge_left_veh[0] - (end_s - reach_s) * SATURATION_VPS / 2.0)
    assert queues[0] < -5.0
    assert queues[1] == pytest.approx(0.0, abs=3.0)


def test_a_full_street_holds_back_the_one_before() -> None:
    network = build_street(
        [Edge("far", "a", "b", 500.0), Edge("near", "b", "c", 75.0), Edge("out", "c", "d", 100.0)],
        [Turn("far", 0, "near", 0, length_m=1.0), Turn("near", 0, "out", 0, link=0)],
        programme(("r", 600.0)),
    )
    depart_s = np.arange(0.0, 200.0, 4.0)
    demand = car_demand(depart_s, [[0, 1, 2]] * len(depart_s))
    found = build_meso(network, demand, begin_s=0.0, end_s=600.0).run(timing_of(network))
    assert found.edge_left_veh[0] == 10.0  # 76 m of street, 7.5 m a car
    assert found.edge_max_queue_veh[0] == len(depart_s) - 10.0
    assert found.jammed
    assert found.arrived == 0


def test_a_full_turning_lane_blocks_those_who_go_straight() -> None:
    """One lane feeds a short edge with a lane for each turn; the left lane never opens."""
    edges = [
        Edge("in", "a", "b", 500.0), Edge("pocket", "b", "c", 40.0, 2),
        Edge("straight", "c", "d", 100.0), Edge("left", "c", "e", 100.0),
    ]  # fmt: skip
    turns = [
        Turn("in", 0, "pocket", 0, length_m=0.1), Turn("in", 0, "pocket", 1, length_m=0.1),
        Turn("pocket", 0, "straight", 0, link=0), Turn("pocket", 1, "left", 0, link=1),
    ]  # fmt: skip
    network = build_street(edges, turns, programme(("Gr", 60.0)))
    routes = [[0, 1, 3] if i % 2 else [0, 1, 2] for i in range(40)]
    demand = car_demand(np.arange(0.0, 160.0, 4.0), routes)
    found = build_meso(network, demand, begin_s=0.0, end_s=900.0).run(timing_of(network))
    assert found.edge_left_veh[3] == 0.0
    assert found.edge_left_veh[2] == 6.0  # five left-turners fill 40 m, the sixth stands before the pocket


def test_two_streets_share_the_one_they_merge_into() -> None:
    edges = [Edge("one", "a", "c", 1000.0), Edge("two", "b", "c", 1000.0), Edge("out", "c", "d", 1000.0)]
    network = build_street(edges, [Turn("one", 0, "out", 0), Turn("two", 0, "out", 0)])
    depart_s = np.concatenate([np.arange(0.0, 1800.0, 2.6)] * 2)
    demand = car_demand(depart_s, [[0, 2]] * (len(depart_s) // 2) + [[1, 2]] * (len(depart_s) // 2))
    found = build_meso(network, demand, begin_s=0.0, end_s=1800.0).run(timing_of(network))
    one, two = found.edge_left_veh[:2]
    capacity_veh = 1725.0 / (1.0 + 0.1 + 0.275 + 7.5 / (SPEED_MPS - 0.65))  # headway of moving drivers
    assert 0.85 * capacity_veh < one + two <= capacity_veh + 2.0  # some set off from standing
    assert 0.7 < one / two < 1.4  # without right of way it is chance who goes first, but nobody starves


def test_who_gives_way_waits_for_gaps_and_leaves_the_lane_free_meanwhile() -> None:
    """An opposed left turn: alone it flows, against a stream it waits; with a place inside, those behind pass."""
    edges = [
        Edge("in", "a", "c", 400.0), Edge("opposing", "b", "c", 400.0), Edge("straight", "c", "b", 400.0),
        Edge("left", "c", "d", 400.0), Edge("back", "c", "a", 400.0),
    ]  # fmt: skip

    def run(opposed: bool, inner_m: float) -> Floats:
        turns = [
            Turn("in", 0, "straight", 0, link=0),
            Turn("in", 0, "left", 0, link=1, gives_way_to=(2,), length_m=20.0, inner_m=inner_m),
            Turn("opposing", 0, "back", 0, link=2),
        ]
        network = build_street(edges, turns, programme(("GgG", 60.0), ("rrr", 30.0)))
        main = np.arange(0.0, 900.0, 6.0)
        routes = [[0, 3] if i % 4 == 0 else [0, 2] for i in range(len(main))]
        stream = np.arange(0.0, 900.0, 2.8) if opposed else np.zeros(0)
        demand = car_demand(np.concatenate([main, stream]), routes + [[1, 4]] * len(stream))
        return build_meso(network, demand, begin_s=0.0, end_s=900.0).run(timing_of(network)).edge_left_veh

    alone, opposed, boxed = run(False, 0.0), run(True, 0.0), run(True, 9.0)
    assert opposed[0] < 0.7 * alone[0]
    assert boxed[0] > 1.2 * opposed[0]
    assert opposed[1] == pytest.approx(boxed[1], rel=0.05)  # who has the way does not mind


def test_coordinated_offset_beats_the_opposite_one() -> None:
    """Two signals 500 m apart: the green that meets the platoon against the red that does."""
    edges = [Edge("in", "a", "b", 300.0), Edge("mid", "b", "c", 500.0), Edge("out", "c", "d", 200.0)]
    turns = [Turn("in", 0, "mid", 0, link=0), Turn("mid", 0, "out", 0, link=1)]
    travel_s = 500.0 / SPEED_MPS
    network = build_street(edges, turns, programme(("Gr", 30.0), ("rr", 30.0)))
    demand = car_demand(np.arange(0.0, 1800.0, 6.0), [[0, 1, 2]] * 300)
    model = build_meso(network, demand, begin_s=0.0, end_s=2400.0)
    shift = round(travel_s) + 3

    def second(second_from: int) -> list[tuple[str, float]]:
        lamps = [("G" if t < 30 else "r") + ("G" if (t - second_from) % 60 < 30 else "r") for t in range(60)]
        return [(lamp, 1.0) for lamp in lamps]

    good, bad = (timing_of(network, [programme(*second(s % 60))]) for s in (shift, shift + 30))
    scores = model.score([good, bad], seeds=(0, 1, 2))
    assert scores.shape == (2, 3)
    assert (scores[0] + 10.0 < scores[1]).all()


def test_scores_equal_runs_whatever_the_threads() -> None:
    network = approach()
    demand = car_demand(np.arange(0.0, 900.0, 5.0), [[0, 1]] * 180)
    model = build_meso(network, demand, begin_s=0.0, end_s=1200.0)
    timings = [timing_of(network, [programme(("G", g), ("r", 60.0))]) for g in (20.0, 30.0, 40.0)]
    expected = [[model.run(t, seed=s).mean_delay_s for s in (3, 4)] for t in timings]
    assert model.score(timings, (3, 4), workers=1).tolist() == expected
    assert model.score(timings, (3, 4), workers=2).tolist() == expected


def test_offset_and_time_of_day_follow_sumo() -> None:
    """At second t the phase (t - offset) mod cycle shows; a later programme takes over in its own phase."""
    network = approach(length_m=100.0)
    demand = car_demand(np.array([0.0]), [[0, 1]])
    model = build_meso(network, demand, begin_s=0.0, end_s=600.0)

    def waits(timing: object) -> float:
        return model.run(timing).mean_delay_s  # type: ignore[arg-type]

    red_first = programme(("r", 60.0), ("G", 30.0))
    assert 45.0 < waits(timing_of(network, [red_first])) < 60.0
    shifted = dataclasses.replace(red_first, offset_s=-60.0)
    assert waits(timing_of(network, [shifted])) < 5.0
    dark = programme(("r", 90.0))
    assert 190.0 < waits(timing_of_day(network, [[(0.0, dark), (200.0, programme(("G", 90.0)))]])) < 200.0
    assert waits(timing_of_day(network, [[(0.0, dark)]])) > 550.0


def test_programmes_must_fit_the_signals() -> None:
    network = approach()
    with pytest.raises(ShapeError, match="2 programmes for 1 signals"):
        timing_of(network, [programme(("G", 1.0)), programme(("G", 1.0))])
    with pytest.raises(ShapeError, match="does not fit"):
        timing_of(network, [programme(("G", 0.0))])


@settings(max_examples=25)
@given(
    gaps_s=st.lists(st.floats(0.0, 20.0), min_size=1, max_size=60),
    green_s=st.floats(5.0, 60.0),
    end_s=st.floats(10.0, 900.0),
    seed=st.integers(0, 5),
    ways=st.lists(st.sampled_from([(0, 1, 2), (0, 1, 3), (0, 1), (1, 2), (4, 3)]), min_size=60, max_size=60),
)
@example([15.03, 0.5], 53.6, 16.8, 3, [(4, 3)] * 60)  # due in the last second, after an end that is not a whole one
def test_no_vehicle_is_lost_or_made(
    gaps_s: list[float], green_s: float, end_s: float, seed: int, ways: list[tuple[int, ...]]
) -> None:
    network = crossroads(green_s)
    depart_s = np.cumsum(gaps_s)
    demand = car_demand(depart_s, [list(way) for way in ways[: len(depart_s)]])
    model = build_meso(network, demand, begin_s=0.0, end_s=end_s)
    found = model.run(timing_of(network), seed=seed)
    due = int((depart_s < end_s).sum())
    assert found.vehicles == due
    assert found.arrived + found.running + found.never_inserted == due
    assert found.mean_delay_s >= -1e-6
    assert found.vehicle_s <= due * end_s + 1e-6
    assert found.edge_delay_s.sum() == pytest.approx(found.mean_delay_s * due, abs=1e-6)
