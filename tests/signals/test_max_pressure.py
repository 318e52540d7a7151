"""Max pressure serves what waits and has room, and its plans are proven like any other's."""

from __future__ import annotations

import numpy as np
import pytest

from networks.graph import Network
from networks.readers.sumo import read_sumo
from networks.state import Estimate, NetworkState, VehicleTable
from signals.arbiter import decide
from signals.controllers.max_pressure import MaxPressure
from signals.lamps import LampRecord

NOW_S = 1_772_000_000.0


@pytest.fixture(scope="module")
def network(shared_data) -> Network:
    return read_sumo(shared_data / "resco/cologne8/cologne8.net.xml.gz")


def known(values):
    return Estimate(values, np.ones_like(values), np.zeros_like(values), np.ones(len(values), bool))


def state_of(network: Network, vehicles) -> NetworkState:
    edges = Estimate.unknown(len(network.edges.ids))
    return NetworkState(
        now_s=NOW_S,
        edge_flow_vps=edges,
        edge_speed_mps=edges,
        edge_density_vpm=edges,
        lane_queue_veh=known(vehicles),
        lane_vehicles=known(vehicles),
        movement_share=Estimate.unknown(len(network.movements.from_lane)),
        vehicles=VehicleTable.empty(),
        lamps=(None,) * len(network.signals),
        coverage=1.0,
        unhealthy=(),
    )


def propose(network, vehicles, records):
    return MaxPressure(network).propose(state_of(network, vehicles), None, records, valid_from_s=NOW_S + 1)


def test_the_stage_of_the_only_queue_is_chosen(network):
    for signal in network.signals:
        for goal in signal.stages:
            link = next((k for k, c in enumerate(goal.state) if c == "G" and signal.link_movements[k]), None)
            if link is None:
                continue
            vehicles = np.zeros(len(network.lanes.ids))
            vehicles[network.movements.from_lane[list(signal.link_movements[link])]] = 12.0
            for start in signal.stages:
                records = [LampRecord.start(start.state, NOW_S) if s is signal else None for s in network.signals]
                (proposal,) = propose(network, vehicles, records)
                assert proposal.plan.steps[-1].state[link] in "Gg"


def test_a_full_street_ahead_takes_the_pressure_away(network):
    """The queue that has room is served, though a longer one waits for a full street."""
    movements = network.movements
    signal, first, second = next(
        (s, a, b)
        for s in network.signals
        for a in range(s.link_count)
        for b in range(s.link_count)
        if s.conflicts[a, b] and "G" in [x.state[a] for x in s.stages] and "G" in [x.state[b] for x in s.stages]
    )
    vehicles = np.zeros(len(network.lanes.ids))
    rows = [list(signal.link_movements[k]) for k in (first, second)]
    vehicles[movements.from_lane[rows[1]]] = 8.0
    vehicles[movements.from_lane[rows[0]]] = 12.0
    records = [LampRecord.start("r" * s.link_count, NOW_S) if s is signal else None for s in network.signals]
    lane = movements.from_lane[rows[0][0]]
    ahead = movements.to_lane[movements.from_lane == lane]
    assert propose(network, vehicles, records)[0].plan.steps[-1].state[first] in "Gg"
    vehicles[ahead] = 100.0
    assert propose(network, vehicles, records)[0].plan.steps[-1].state[second] in "Gg"


def test_half_an_hour_of_its_plans_is_approved_and_starves_nobody(network):
    """Queues at random and one that always presses: every cycle's plans are safe, every served link gets green."""
    rng = np.random.default_rng(4)
    controller = MaxPressure(network)
    records: list[LampRecord] = [LampRecord.start(s.stages[0].state, NOW_S) for s in network.signals]
    greens = [np.zeros(s.link_count, bool) for s in network.signals]
    favourite = rng.random(len(network.lanes.ids)) < 0.05
    for cycle in range(360):
        now_s = NOW_S + 5.0 * cycle
        vehicles = np.where(favourite, 15.0, rng.poisson(1.0, len(favourite)).astype(float))
        proposals = controller.propose(state_of(network, vehicles), None, records, valid_from_s=now_s)
        decision = decide(proposals, network.signals, records, now_s=now_s, first_version=0)
        assert decision.refused == ()
        for approved in decision.approved:
            index = approved.plan.signal
            for second in range(5):
                lamps = approved.plan.state_at(now_s + second)
                records[index] = records[index].then(lamps, now_s + second)
                greens[index] |= np.array([c in "Gg" for c in lamps])
    for signal, green in zip(network.signals, greens, strict=True):
        served = np.any([[c in "Gg" for c in s.state] for s in signal.stages], axis=0)
        assert (green == served).all()


def test_signals_that_are_not_heard_of_get_no_plan(network):
    assert propose(network, np.zeros(len(network.lanes.ids)), [None] * len(network.signals)) == []


def test_a_young_green_is_not_given_up(network):
    signal = network.signals[0]
    a, b = signal.stages[0].state, signal.stages[1].state
    record = LampRecord.start("r" * signal.link_count, NOW_S - 60).then(a, NOW_S - 2)
    records = [record if s is signal else None for s in network.signals]
    vehicles = np.zeros(len(network.lanes.ids))
    for link in (k for k, c in enumerate(b) if c == "G" and a[k] == "r"):
        vehicles[network.movements.from_lane[list(signal.link_movements[link])]] = 20.0
    (proposal,) = propose(network, vehicles, records)
    assert [s.state for s in proposal.plan.steps] == [a]
