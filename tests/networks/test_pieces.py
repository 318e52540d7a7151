"""Streets that a network draws in pieces are followed to their stop line, and their loops lie where a street's do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from networks.graph import Network
from networks.pieces import StreetPieces, join_pieces
from networks.readers.sumo import read_sumo
from networks.sensors import approach_edges, cabinets, place_detectors
from tests.signals.drawn_junctions import convert

NODES = """<node id="w" x="-300" y="0"/><node id="a" x="-100" y="0"/><node id="b" x="-30" y="0"/>
<node id="j" x="0" y="0" type="traffic_light"/><node id="e" x="200" y="0"/><node id="n" x="0" y="200"/>"""
OUT = """<edge id="out" from="j" to="e" numLanes="1" speed="13.9"/><edge id="ns" from="n" to="j" numLanes="1"/>
<edge id="sn" from="j" to="n" numLanes="1"/>"""


def pieces_of(folder: Path, street: str, nodes: str = "") -> tuple[Network, StreetPieces]:
    network = read_sumo(convert(folder, NODES + nodes, street + OUT))
    return network, join_pieces(network)


def drawn(folder: Path, *, last_lanes: int, more: str = "", nodes: str = "") -> tuple[Network, StreetPieces]:
    """A street from the west in three pieces, the last with so many lanes."""
    street = f"""<edge id="far" from="w" to="a" numLanes="1" speed="13.9" priority="9"/>
    <edge id="mid" from="a" to="b" numLanes="1" speed="13.9" priority="9"/>
    <edge id="last" from="b" to="j" numLanes="{last_lanes}" speed="13.9" priority="9"/>"""
    return pieces_of(folder, street + more, nodes)


def test_pieces_are_one_street_up_to_the_line(tmp_path):
    network, pieces = drawn(tmp_path, last_lanes=1)
    far, mid, last = (network.lane_index[f"{e}_0"] for e in ("far", "mid", "last"))
    assert pieces.line[[far, mid, last]].tolist() == [last] * 3
    whole_m = network.lanes.length_m[[far, mid, last]].sum()
    assert whole_m <= pieces.end_m[last] <= whole_m + 5.0
    marks = np.array([10.0, pieces.begin_m[mid] + 1.0, pieces.end_m[last] - 1.0])
    lane, position_m = pieces.locate(np.full(3, last), marks)
    assert lane.tolist() == [far, mid, last]
    assert position_m == pytest.approx(marks - pieces.begin_m[lane])
    alone = network.lane_index["ns_0"]
    assert (pieces.line[alone], pieces.before[alone]) == (alone, -1)


def test_a_lane_that_parts_before_the_line_belongs_to_both(tmp_path):
    network, pieces = drawn(tmp_path, last_lanes=2)
    mid = network.lane_index["mid_0"]
    lanes = [network.lane_index[f"last_{i}"] for i in range(2)]
    assert pieces.before[lanes].tolist() == [mid, mid]
    assert pieces.line[mid] in lanes
    for lane in lanes:
        assert pieces.street(np.array([mid]), np.array([lane])).tolist() == [lane]
        assert pieces.locate(np.array([lane]), np.array([pieces.end_m[mid] - 5.0]))[0].tolist() == [mid]
    assert {(mid, lane) for lane in lanes} <= set(pieces.belongings())


def test_a_street_begins_where_some_leave_it(tmp_path):
    side = '<edge id="side" from="b" to="s" numLanes="1" speed="13.9"/>'
    network, pieces = drawn(tmp_path, last_lanes=1, more=side, nodes='<node id="s" x="-30" y="-200"/>')
    assert pieces.before[network.lane_index["last_0"]] == -1


@pytest.mark.parametrize(("priority", "main", "other"), [(1, "mid_0", "side_0"), (20, "side_0", "mid_0")])
def test_a_street_is_followed_to_those_who_have_the_way(tmp_path, priority, main, other):
    side = f'<edge id="side" from="s" to="b" numLanes="1" speed="13.9" priority="{priority}"/>'
    network, pieces = drawn(tmp_path, last_lanes=1, more=side, nodes='<node id="s" x="-30" y="-200"/>')
    last = network.lane_index["last_0"]
    assert pieces.before[last] == network.lane_index[main]
    assert pieces.line[network.lane_index[other]] == network.lane_index[other]


def test_loops_lie_where_they_lie_on_a_street_in_one_piece(tmp_path):
    network, pieces = drawn(tmp_path, last_lanes=2)
    detectors = place_detectors(network, 1.0)
    along_m = {d.id: pieces.begin_m[d.lane] + d.position_m for d in detectors}
    end_m = pieces.end_m[network.lane_index["last_0"]]
    elsewhere = network.lane_index["ns_0"]
    upstream = [d for d in detectors if d.role == "upstream" and d.lane != elsewhere]
    assert len(upstream) == 1  # one loop before the lane parts
    assert end_m - along_m[upstream[0].id] == pytest.approx(100.0, abs=8.0)
    assert sum(d.role == "stop" for d in detectors) == 3
    signals = approach_edges(network)
    assert set(cabinets(network, detectors).tolist()) == set(signals.values())


def test_a_stop_loop_lies_where_those_who_wait_stand(tmp_path):
    street = """<edge id="long" from="w" to="q" numLanes="1" speed="13.9"/>
    <edge id="bit" from="q" to="j" numLanes="1" speed="13.9" length="0.9"/>"""
    network, pieces = pieces_of(tmp_path, street, '<node id="q" x="-12" y="0"/>')
    line = network.lane_index["bit_0"]
    (stop,) = [d for d in place_detectors(network, 1.0) if d.id == "bit_0_stop"]
    assert network.lanes.ids[stop.lane] == "long_0"
    before_line_m = pieces.end_m[line] - pieces.begin_m[stop.lane] - stop.position_m
    assert 1.0 < before_line_m <= 3.0  # drivers stop a metre before the line
