"""A street drawn in pieces is fused as one drawn whole: the same vehicles at the same distances from the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from networks.graph import Floats, Network
from networks.pieces import join_pieces
from networks.readers.sumo import read_sumo
from networks.sensors import place_detectors
from networks.state import NetworkState
from signals.controllers.approaches import build_stop_lines
from tests.signals.drawn_junctions import convert
from tests.twin import one_street as town
from twin import fusion_kernels
from twin.fusion import Fusion
from twin.fusion_kernels import move_all
from twin.lane_vehicles import make_lanes, make_pool, make_streets

NODES = """<node id="w" x="-300" y="0"/><node id="j" x="0" y="0" type="traffic_light"/><node id="e" x="200" y="0"/>
<node id="n" x="0" y="200"/>"""
OTHERS = """<edge id="out" from="j" to="e" numLanes="1" speed="13.9"/><edge id="ns" from="n" to="j" numLanes="1"/>"""
STREETS = {
    "whole": ("", '<edge id="last" from="w" to="j" numLanes="1" speed="13.9"/>'),
    "pieces": (
        '<node id="a" x="-90" y="0"/><node id="b" x="-22" y="0"/>',
        """<edge id="far" from="w" to="a" numLanes="1" speed="13.9"/>
        <edge id="mid" from="a" to="b" numLanes="1" speed="13.9"/>
        <edge id="last" from="b" to="j" numLanes="1" speed="13.9"/>""",
    ),
}
COMES_S = (5, 8, 11, 14)


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> dict[str, Network]:
    drawn = {}
    for name, (nodes, edges) in STREETS.items():
        folder: Path = tmp_path_factory.mktemp(name)
        drawn[name] = read_sumo(convert(folder, NODES + nodes, edges + OTHERS))
    return drawn


def watch(network: Network, seconds: int, reports: dict[int, tuple[float, float]] | None = None) -> NetworkState:
    """Loops count four vehicles, which come to a red lamp and cover the stop loop from the 22nd second on."""
    detectors = place_detectors(network, 1.0)
    own = {d.role: i for i, d in enumerate(detectors) if not network.lanes.ids[d.lane].startswith("ns")}
    fusion = Fusion(network, detectors, (), None)
    red = "r" * network.signals[0].link_count
    for second in range(1, seconds + 1):
        rows = [(float(i), 0, 0.0, np.nan, second) for i in range(len(detectors)) if i not in own.values()]
        come = second in COMES_S
        rows.append((own["upstream"], int(come), 0.4 * come, town.FREE_MPS if come else np.nan, second))
        rows.append((own["stop"], 0, float(second >= 22), np.nan, second))
        probes = [(7, *reports[second], 3.0, second)] if reports and second in reports else []
        batches = town.batches(rows, probes=probes, lamps=[(float(second), red)])
        state = fusion.update(batches, town.T0_S + second, None)
    return state


def distances(network: Network, state: NetworkState) -> Floats:
    """To the stop line, of all on the way to it from the west."""
    pieces, table = join_pieces(network), state.vehicles
    line = network.lane_index["last_0"]
    here = pieces.line[table.lane] == line
    return np.sort(pieces.end_m[line] - pieces.begin_m[table.lane[here]] - table.position_m[here])


@pytest.mark.parametrize("seconds", [13, 20, 40])
def test_loops_tell_the_same_of_a_street_in_pieces(streets, seconds):
    found = {name: distances(network, watch(network, seconds)) for name, network in streets.items()}
    assert len(found["whole"]) == sum(s <= seconds for s in COMES_S)
    assert found["pieces"] == pytest.approx(found["whole"], abs=2.0)


def test_queue_and_load_of_pieces_add_up_to_those_of_the_whole(streets):
    queues, loads = {}, {}
    for name, network in streets.items():
        state = watch(network, 40)
        on_street = join_pieces(network).line == network.lane_index["last_0"]
        queues[name] = state.lane_queue_veh.value[on_street].sum()
        loads[name] = state.lane_vehicles.value[on_street].sum()
        assert state.lane_queue_veh.valid[on_street].all()
    assert queues["whole"] == pytest.approx(4.0, abs=0.5)
    assert queues["pieces"] == pytest.approx(queues["whole"], abs=0.5)
    assert loads["pieces"] == pytest.approx(loads["whole"], abs=0.7)


def test_a_report_from_any_piece_is_of_the_vehicle_listed_there(streets):
    """Four counted and one of them equipped are four, wherever it reports from."""
    for network in streets.values():
        reports = {second: (-95.0 + 4.0 * (second - 6), -1.6) for second in range(6, 24)}
        assert len(distances(network, watch(network, 24, reports))) == 4


def test_the_movement_at_the_line_is_told_from_every_piece(streets):
    network = streets["pieces"]
    state = watch(network, 13)
    table, lines = state.vehicles, build_stop_lines(network)
    line = network.lane_index["last_0"]
    coming = join_pieces(network).line[table.lane] == line
    assert (table.lane[coming] != line).any()
    lane, _ = lines.lead(table, network)
    assert (lane[coming] == line).all()
    assert (network.movements.from_lane[lines.known_movements(table)[coming]] == line).all()


@pytest.mark.parametrize(("ends_frac", "reach_the_line"), [(0.0, 4), (0.5, 2), (1.0, 0)])
def test_trips_end_on_the_piece_where_they_end(streets, ends_frac, reach_the_line):
    network, pieces = streets["pieces"], join_pieces(streets["pieces"])
    line, mid = (network.lane_index[name] for name in ("last_0", "mid_0"))
    ends = np.zeros(len(network.lanes.ids))
    ends[mid] = ends_frac
    lists = make_streets(network, (), pieces, ends)
    pool, lanes = make_pool(lists), make_lanes(lists, np.ones(len(lists.to_lane)))
    lanes.open[:] = 0
    make = getattr(fusion_kernels.make, "py_func", fusion_kernels.make)  # jitted or, for coverage, plain
    for k in range(4):
        make(lists, pool, lanes, line, 40.0 - 10.0 * k, 10.0, 1.0, 0.0)
    for second in range(1, 61):
        move_all(lists, pool, lanes, float(second))
    assert lanes.listed[line] == reach_the_line


def test_who_comes_to_a_parting_is_spread_as_the_lanes_are_used(tmp_path):
    nodes = '<node id="b" x="-60" y="0"/>'
    edges = """<edge id="far" from="w" to="b" numLanes="1" speed="13.9"/>
    <edge id="last" from="b" to="j" numLanes="2" speed="13.9"/>"""
    network = read_sumo(convert(tmp_path, NODES + nodes, edges + OTHERS))
    pieces = join_pieces(network)
    lists = make_streets(network, (), pieces)
    lanes = make_lanes(lists, np.ones(len(lists.to_lane)))
    both = [network.lane_index[f"last_{i}"] for i in range(2)]
    lanes.stop_cum[both] = 0.25, 1.0
    part = getattr(fusion_kernels.draw_part, "py_func", fusion_kernels.draw_part)
    sent = [int(part(lists, lanes, pieces.line[network.lane_index["far_0"]])) for _ in range(100)]
    assert [sent.count(lane) for lane in both] == pytest.approx([25, 75], abs=2)
