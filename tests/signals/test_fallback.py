"""Where sensors say too little, control steps down junction by junction, and says so."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import sumolib

from networks.graph import Network
from networks.readers.sumo import read_sumo
from networks.sensors import approach_edges
from networks.state import Estimate, Forecast, NetworkState, VehicleTable
from signals.controllers.max_pressure import MaxPressure
from signals.fallback import DOWN_AFTER_S, UP_AFTER_S, Chain, Level
from signals.lamps import LampRecord
from signals.plan import Proposal
from signals.thin_approaches import ThinApproaches

NOW_S = 1_772_000_000.0


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = tmp_path_factory.mktemp("cross") / "net.net.xml"
    command = [sumolib.checkBinary("netgenerate"), "--grid", "--grid.x-number", "2", "--grid.y-number", "1"]
    command += ["--grid.length", "220", "--grid.attach-length", "200", "-j", "traffic_light", "--no-turnarounds"]
    subprocess.run([*command, "--no-warnings", "-o", str(path)], check=True, capture_output=True)
    return read_sumo(path)


class Listener:
    """A controller that keeps what it was asked."""

    name = "listener"

    def __init__(self, network: Network) -> None:
        self._inner = MaxPressure(network)
        self.state: NetworkState | None = None

    def propose(
        self,
        state: NetworkState,
        forecast: Forecast | None,
        lamps: Sequence[LampRecord | None],
        *,
        valid_from_s: float,
    ) -> list[Proposal]:
        self.state = state
        return self._inner.propose(state, forecast, lamps, valid_from_s=valid_from_s)


def state_of(network: Network, *, lost: Sequence[int] = (), flow_vps: float | None = 0.1) -> NetworkState:
    """Sensors follow every lane but those of the lost edges; mean flows are known unless None."""
    lanes, edges = len(network.lanes.ids), len(network.edges.ids)
    gone = np.isin(network.lanes.edge, list(lost))
    followed = Estimate(np.zeros(lanes), np.where(gone, np.inf, 0.5), np.where(gone, 3600.0, 1.0), ~gone)
    share = (
        1.0 / np.maximum(np.bincount(network.movements.from_lane, minlength=lanes), 1)[network.movements.from_lane]
    )
    ones = np.ones(len(share))
    flow = Estimate.unknown(edges)
    if flow_vps is not None:
        flow = Estimate(np.full(edges, flow_vps), np.full(edges, 1e-4), np.zeros(edges), np.ones(edges, np.bool_))
    return NetworkState(
        now_s=NOW_S,
        edge_flow_vps=flow,
        edge_speed_mps=Estimate.unknown(edges),
        edge_density_vpm=Estimate.unknown(edges),
        lane_queue_veh=followed,
        lane_vehicles=followed,
        movement_share=Estimate(share, 0 * ones, 0 * ones, ones > 0),
        vehicles=VehicleTable.empty(),
        lamps=(None,) * len(network.signals),
        coverage=1.0,
        unhealthy=(),
    )


def standing_lamps(network: Network) -> list[LampRecord | None]:
    return [LampRecord.start(s.stages[0].state, NOW_S) for s in network.signals]


def edges_of(network: Network, signal: int) -> list[int]:
    return [edge for edge, s in approach_edges(network).items() if s == signal]


def ask(chain: Chain, network: Network, state: NetworkState) -> list[Proposal]:
    return list(chain.propose(state, None, standing_lamps(network), valid_from_s=state.now_s + 1.0))


def settled(chain: Chain, network: Network, state: NetworkState) -> list[Proposal]:
    """The answer once the delays against flapping are over."""
    for second in range(int(UP_AFTER_S) + 1):
        answer = ask(chain, network, replace(state, now_s=NOW_S + second))
    return answer


def test_full_sight_changes_nothing(network):
    chain, listener = Chain(network, MaxPressure(network)), Listener(network)
    state = state_of(network)
    proposals = ask(chain, network, state)
    assert proposals == listener.propose(state, None, standing_lamps(network), valid_from_s=NOW_S + 1.0)
    assert [s.level for s in chain.standings] == [Level.VEHICLES] * 2
    assert chain.explain() == ()


def test_a_thin_approach_gets_expected_vehicles_and_is_named(network):
    lost = edges_of(network, 0)[0]
    listener = Listener(network)
    chain = Chain(network, listener)
    proposals = settled(chain, network, state_of(network, lost=[lost]))
    assert [s.level for s in chain.standings] == [Level.QUEUES, Level.VEHICLES]
    table = listener.state.vehicles
    assert len(table.lane) > 0
    assert set(network.lanes.edge[table.lane]) == {lost}
    assert network.edges.ids[lost] in proposals[0].plan.reason
    assert "thin" not in proposals[1].plan.reason
    assert len(chain.explain()) == 1


@pytest.mark.parametrize(("flow_vps", "many"), [(0.1, True), (None, False)])
def test_without_flows_or_with_little_sight_the_junction_keeps_its_own_programme(network, flow_vps, many):
    edges = edges_of(network, 0)
    chain = Chain(network, MaxPressure(network))
    proposals = settled(chain, network, state_of(network, lost=edges[: 3 if many else 1], flow_vps=flow_vps))
    assert chain.standings[0].level == Level.FIXED
    assert [p.plan.signal for p in proposals] == [1]
    assert "own programme" in chain.explain()[0]


def test_a_junction_steps_down_and_up_with_delay_and_never_trusts_lost_sensors(network):
    chain = Chain(network, MaxPressure(network))
    good, bad = state_of(network), state_of(network, lost=edges_of(network, 0))
    levels = {}
    for second in range(200):
        state = replace(bad if 10 <= second < 60 else good, now_s=NOW_S + second)
        ask(chain, network, state)
        levels[second] = chain.standings[0].level
    assert levels[9] == Level.VEHICLES
    assert levels[10] == Level.QUEUES  # at once: nobody follows the vehicles
    assert levels[10 + int(DOWN_AFTER_S)] == Level.FIXED
    assert levels[60 + int(UP_AFTER_S) - 1] == Level.FIXED
    assert levels[60 + int(UP_AFTER_S)] == Level.VEHICLES


def test_expected_queues_grow_on_red_and_shrink_on_green(network):
    edge = edges_of(network, 0)[0]
    lane = int(network.edges.first_lane[edge])
    thin = np.arange(len(network.edges.ids)) == edge
    model = ThinApproaches(network)
    red: list[LampRecord | None] = [LampRecord.start("r" * s.link_count, NOW_S) for s in network.signals]
    green: list[LampRecord | None] = [LampRecord.start("G" * s.link_count, NOW_S) for s in network.signals]
    base = state_of(network, lost=[edge])
    queue = [
        float(model.fill(replace(base, now_s=NOW_S + t), thin, red if t <= 60 else green).lane_queue_veh.value[lane])
        for t in range(90)
    ]
    assert queue[60] == pytest.approx(6.0)  # 0.1 veh/s for a minute
    assert queue[75] == pytest.approx(0.0, abs=1e-9)  # 15 s at 0.5 - 0.1 veh/s
    assert queue[:61] == sorted(queue[:61])


def test_reported_vehicles_stand_in_for_expected_ones(network):
    edge = edges_of(network, 0)[0]
    lane = int(network.edges.first_lane[edge])
    thin = np.arange(len(network.edges.ids)) == edge
    base = state_of(network, lost=[edge])
    one = VehicleTable(
        np.array([5]), np.array([lane], np.int32), np.array([50.0]), np.array([8.0]), np.zeros(1, np.int32),
        np.full(1, -1, np.int32), np.ones(1, np.bool_), np.full(1, -1, np.int32), np.ones(1), np.zeros(1),
    )  # fmt: skip
    lamps = standing_lamps(network)
    alone = ThinApproaches(network).fill(base, thin, lamps)
    beside = ThinApproaches(network).fill(replace(base, vehicles=one), thin, lamps)
    assert len(beside.vehicles.lane) == len(alone.vehicles.lane)
    assert 5 in beside.vehicles.id
