"""The mirror against a street that is another run with other demand, on a small grid of signals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from networks.batches import ControlNotice
from networks.city import CityFolder, Coverage, load_network
from networks.graph import Network
from networks.sensors import approach_edges
from networks.state import Estimate, LampView, NetworkState, VehicleTable
from tests.grids import draw_grid
from twin.mirror import Mirror, MirrorEstimate

TIMEOUT_S = 60.0
CYCLE_S = 5.0


def demand(scale: float) -> str:
    flows = [("A3A2 A2A1 A1A0", 500), ("D0C0 C0B0 B0A0", 350), ("A1B1 B1C1 C1D1", 600), ("B3B2 B2B1 B1B0", 450)]
    rows = [
        f'<flow id="f{k}" begin="0" end="1200" vehsPerHour="{scale * rate}" departLane="best">'
        f'<route edges="{edges}"/></flow>'
        for k, (edges, rate) in enumerate(flows)
    ]
    return f"<routes>{''.join(rows)}</routes>"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> CityFolder:
    folder = tmp_path_factory.mktemp("grid")
    net = draw_grid(folder / "net.net.xml", 4, 200, "--default-junction-type", "traffic_light")
    routes = folder / "demand.rou.xml"
    routes.write_text(demand(1.0))
    return CityFolder("grid", folder, net, (routes,), (), (), 0.0, 1200.0, 1.7e9, Coverage())


@pytest.fixture(scope="module")
def network(city: CityFolder) -> Network:
    return load_network(city)


@pytest.fixture(scope="module")
def street(city: CityFolder, network: Network) -> tuple[MirrorEstimate, ...]:
    """Ten minutes of a street with 60 % more traffic than the city's engineers believe, every cycle."""
    busier = city.folder / "busier.rou.xml"
    busier.write_text(demand(1.6))
    with closing(Mirror(replace(city, routes=(busier,)), network, seed=99, correct=False)) as run:
        run.start()
        return tuple(follow(run, blank(network, city.epoch_s + t)) for t in np.arange(CYCLE_S, 601, CYCLE_S))


@pytest.fixture
def mirror(city: CityFolder, network: Network) -> Iterator[Mirror]:
    with closing(Mirror(city, network)) as handle:
        handle.start()
        yield handle


def blank(network: Network, now_s: float) -> NetworkState:
    """A state of which nothing is known but the time."""
    edges, lanes = Estimate.unknown(len(network.edges.ids)), Estimate.unknown(len(network.lanes.ids))
    shares = Estimate.unknown(len(network.movements.turn))
    lamps = (None,) * len(network.signals)
    return NetworkState(now_s, edges, edges, edges, lanes, lanes, shares, VehicleTable.empty(), lamps, 0.0, ())


def seen(network: Network, truth: MirrorEstimate) -> NetworkState:
    """The street as loops on all signalised approaches would tell it."""
    approach = np.zeros(len(network.edges.ids), np.bool_)
    approach[list(approach_edges(network))] = True
    lane = approach[network.lanes.edge]

    def known(value: np.ndarray, where: np.ndarray) -> Estimate:
        return Estimate(value, np.full(len(value), 0.25), np.where(where, 1.0, np.inf), where)

    return replace(
        blank(network, truth.now_s),
        edge_flow_vps=known(truth.edge_flow_vps, approach),
        lane_vehicles=known(truth.lane_vehicles, lane),
        lane_queue_veh=known(truth.lane_queue_veh, lane),
    )


def follow(mirror: Mirror, state: NetworkState) -> MirrorEstimate:
    mirror.assimilate(state)
    assert mirror.wait(TIMEOUT_S), mirror.failure
    latest = mirror.latest()
    assert latest is not None
    assert latest.now_s == state.now_s
    return latest


def test_signals_show_the_reported_lamps_and_else_their_programme(
    mirror: Mirror, network: Network, city: CityFolder
) -> None:
    signal = network.signals[5]
    lamps = "".join("G" if k % 3 == 0 else "r" for k in range(signal.link_count))
    now_s = city.epoch_s + 5.0
    view = LampView(lamps, np.full(signal.link_count, -np.inf), now_s, 1)
    reported = tuple(view if k == 5 else None for k in range(len(network.signals)))
    state = replace(blank(network, now_s), lamps=reported)
    first = follow(mirror, state)
    assert first.lamps[5] == lamps
    later = follow(mirror, replace(state, now_s=now_s + 10.0))
    assert later.lamps[5] == lamps
    silent = follow(mirror, replace(state, now_s=now_s + 20.0))
    assert silent.lamps[5] != lamps
    assert silent.lamps[5] == silent_programme(network, city, now_s + 20.0)


def silent_programme(network: Network, city: CityFolder, now_s: float) -> str:
    """The state of the shipped programme in the second before `now_s`, in step with SUMO's clock."""
    programme = network.signals[5].programme
    place_s = (now_s - 1.0 - city.epoch_s + city.begin_s - programme.offset_s) % programme.cycle_s
    for phase in programme.phases:
        if place_s < phase.duration_s:
            return phase.state
        place_s -= phase.duration_s
    raise AssertionError("beyond the cycle")


def test_correction_brings_the_mirror_closer_to_the_street(
    city: CityFolder, network: Network, street: tuple[MirrorEstimate, ...]
) -> None:
    errors = {}
    for correct in (False, True):
        with closing(Mirror(city, network, correct=correct)) as mirror:
            mirror.start()
            run = [follow(mirror, seen(network, truth)) for truth in street]
        pairs = list(zip(run, street, strict=True))[60:]
        errors[correct] = (
            np.mean([np.abs(m.edge_flow_vps - s.edge_flow_vps).mean() for m, s in pairs]),
            np.mean([np.abs(m.lane_vehicles - s.lane_vehicles).mean() for m, s in pairs]),
        )
        last = run[-1]
        assert last.departed == last.arrived + last.running + last.removed
        changes = [c.action for m in run for c in m.changes]
        for action, total in (
            ("insert", last.inserted),
            ("remove", last.removed),
            ("copy", last.copied),
            ("thin", last.thinned),
        ):
            assert changes.count(action) == total
        assert (last.copied > 50) == correct
    assert errors[True][0] < 0.5 * errors[False][0]
    assert errors[True][1] < 0.7 * errors[False][1]


def test_killed_mirror_says_so_takes_states_and_comes_back_from_its_snapshot(
    city: CityFolder, network: Network, street: tuple[MirrorEstimate, ...], mirror: Mirror
) -> None:
    before = [follow(mirror, seen(network, truth)) for truth in street[:30]][-1]
    mirror.kill()
    assert not mirror.alive
    for truth in street[30:40]:
        mirror.assimilate(seen(network, truth))
    assert mirror.latest() is before
    assert mirror.behind_s == pytest.approx(50.0)
    mirror.restart()
    assert mirror.wait(TIMEOUT_S), mirror.failure
    after = mirror.latest()
    assert mirror.alive
    assert after is not None
    assert after.now_s == street[39].now_s
    assert after.departed > before.departed
    assert after.departed == after.arrived + after.running + after.removed
    assert np.abs(after.lane_vehicles - street[39].lane_vehicles).mean() < 1.0
    assert follow(mirror, seen(network, street[40])).now_s == street[40].now_s


def test_restart_before_any_snapshot_begins_anew(mirror: Mirror, network: Network, city: CityFolder) -> None:
    follow(mirror, blank(network, city.epoch_s + 10.0))
    mirror.kill()
    mirror.restart()
    mirror.assimilate(blank(network, city.epoch_s + 20.0))
    assert mirror.wait(TIMEOUT_S), mirror.failure
    assert mirror.latest().now_s == city.epoch_s + 20.0  # type: ignore[union-attr]


def test_city_that_sumo_cannot_load_fails_with_the_reason(city: CityFolder, network: Network, tmp_path: Path) -> None:
    broken = tmp_path / "broken.rou.xml"
    broken.write_text('<routes><vehicle id="v" depart="0"><route edges="nowhere"/></vehicle></routes>')
    with closing(Mirror(replace(city, routes=(broken,)), network)) as mirror:
        mirror.start()
        mirror.assimilate(blank(network, city.epoch_s + 5.0))
        assert not mirror.wait(TIMEOUT_S)
        assert not mirror.alive
        assert "nowhere" in mirror.failure


def test_a_mirror_that_keeps_dying_is_started_ever_less(city: CityFolder, network: Network, tmp_path: Path) -> None:
    broken = tmp_path / "broken.rou.xml"
    broken.write_text('<routes><vehicle id="v" depart="0"><route edges="nowhere"/></vehicle></routes>')
    lives = []
    with closing(Mirror(replace(city, routes=(broken,)), network)) as mirror:
        mirror.start()
        for _ in range(16):
            mirror.restart()
            if mirror.alive:
                lives.append(True)
                mirror.kill()
    assert 3 < len(lives) < 9


def test_a_state_from_the_past_moves_nothing(mirror: Mirror, network: Network, city: CityFolder) -> None:
    first = follow(mirror, blank(network, city.epoch_s + 30.0))
    mirror.assimilate(blank(network, city.epoch_s + 20.0))
    mirror.assimilate(blank(network, city.epoch_s + 35.0))
    assert mirror.wait(TIMEOUT_S)
    latest = mirror.latest()
    assert latest is not None
    assert latest.now_s == first.now_s + 5.0


def test_a_closure_that_is_announced_holds_on_the_mirror_and_ends(
    mirror: Mirror, network: Network, city: CityFolder
) -> None:
    edge = network.edge_index["B1C1"]
    works = ControlNotice("works", edge, (), np.nan, city.epoch_s + 120.0, city.epoch_s + 420.0, city.epoch_s)
    flows = {}
    for into_s in np.arange(20.0, 1001.0, 20.0):
        mirror.assimilate(blank(network, city.epoch_s + into_s), [works] if into_s < 420 else [])
        assert mirror.wait(TIMEOUT_S), mirror.failure
        latest = mirror.latest()
        assert latest is not None
        flows[into_s] = latest
    before, during, after = (flows[s].edge_flow_vps[edge] for s in (120.0, 420.0, 1000.0))
    assert during < 0.3 * before
    assert after > 0.5 * before
    detour = network.edge_index["C1D1"]
    assert flows[420.0].edge_flow_vps[detour] > 0.5 * before, "they come another way"
    assert flows[1000.0].departed == flows[1000.0].arrived + flows[1000.0].running + flows[1000.0].removed
