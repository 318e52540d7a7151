"""What we tell over C-V2X: SPAT, MAP and RSI as values of `networks.day_one`, from plans, network and notices.

Field meanings after T/CSAE-53 as its message modules name them; every value is checked by the encoder's constraints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from networks import day_one
from networks.batches import ControlNotice
from networks.coordinates import to_wgs84
from networks.errors import InputError
from networks.graph import LEFT, RIGHT, STRAIGHT, U_TURN, Floats, Network, Ragged
from signals.formats.spat_csae53 import to_spat
from signals.formats.spat_times import Intersection, minute_of_year
from signals.plan import SignalPlan
from twin.numbering import Numbering

MOST_POINTS, MOST_PATH_POINTS, MOST_EVENTS = 31, 32, 8
_MANOEUVRE_BIT = {STRAIGHT: 0, LEFT: 1, RIGHT: 2, U_TURN: 3}
_OFFSET_BITS = (12, 14, 16, 18, 22, 24)
_PATH_RADIUS = 30  # decimetres: half a lane and some


def spat_value(
    network: Network,
    numbering: Numbering,
    plans: Sequence[SignalPlan],
    *,
    now_s: float,
    count: int,
    sure_until_s: float,
) -> dict[str, Any]:
    """The lamps of some signals. Raises InputError for more than a message holds, or for plans not yet valid."""
    numbers = numbering.signals
    told = [
        Intersection(p, numbers[p.signal].groups, numbers[p.signal].node, numbers[p.signal].region) for p in plans
    ]
    return to_spat(told, now_s=now_s, count=count, sure_until_s=sure_until_s)


def map_value(network: Network, numbering: Numbering, signal: int, *, now_s: float, count: int) -> dict[str, Any]:
    """One signal: its approaches with their lanes, where each leads, and the phase that it obeys.

    Raises NetworkError without a georeference, InputError for what the message cannot hold.
    """
    moves, lanes, edges = network.movements, network.lanes, network.edges
    numbers = numbering.signals[signal]
    nodes = network.signals[signal].nodes
    lon, lat = _reference(network, network.node_xy[list(nodes)].mean(axis=0))
    own = np.flatnonzero(moves.signal == signal)
    links = []
    for edge in sorted(set(lanes.edge[moves.from_lane[own]].tolist())):
        rows = own[lanes.edge[moves.from_lane[own]] == edge]
        ways: dict[tuple[int, int], dict[str, Any]] = {}
        for row in rows:
            way = _way(network, numbering, int(row))
            ways.setdefault((way["remoteIntersection"]["id"], way.get("phaseId", 0)), way)
        links.append(
            {
                "upstreamNodeId": numbering.node_reference(int(edges.from_node[edge])),
                "speedLimits": [{"type": "vehicleMaxSpeed", "speed": _speed(float(edges.speed_limit_mps[edge]))}],
                "linkWidth": _centimetres(sum(float(lanes.width_m[k]) for k in _lanes_of(network, edge))),
                "points": _points(network, edges.shape_xy, edge, lon, lat),
                "movements": list(ways.values()),
                "lanes": [_lane(network, numbering, lane, rows, lon, lat) for lane in _lanes_of(network, edge)],
            }
        )
    node = {
        "id": numbering.node_reference(nodes[0]) | {"id": numbers.node},
        "refPos": {"lat": lat, "long": lon},
        "inLinks": links,
    }
    return {"msgCnt": count % 128, "timeStamp": minute_of_year(now_s)[0], "nodes": [node]}


def rsi_value(
    network: Network,
    numbering: Numbering,
    unit: str,
    notices: Sequence[ControlNotice],
    *,
    event_type: int,
    now_s: float,
    count: int,
) -> dict[str, Any]:
    """Closures and works as events of one type, each with its link, its lanes and the line of the edge.

    Raises InputError for none, or for more than a message holds.
    """
    if not 0 < len(notices) <= MOST_EVENTS:
        raise InputError(f"an RSI message holds 1 to {MOST_EVENTS} events, not {len(notices)}")
    edges = network.edges
    lon, lat = _reference(network, np.reshape(edges.shape_xy[notices[0].edge], (-1, 2))[0])
    events = []
    for number, notice in enumerate(notices):
        link: dict[str, Any] = {
            "upstreamNodeId": numbering.node_reference(int(edges.from_node[notice.edge])),
            "downstreamNodeId": numbering.node_reference(int(edges.to_node[notice.edge])),
        }
        if notice.lanes:
            end = int(edges.first_lane[notice.edge + 1])
            bits = sum(1 << (15 - (end - lane)) for lane in notice.lanes if 1 <= end - lane <= 15)
            link["referenceLanes"] = (bits.to_bytes(2, "big"), 16)
        path = [p["posOffset"] for p in _points(network, edges.shape_xy, notice.edge, lon, lat)]
        events.append(
            {
                "rteId": number,
                "eventType": event_type,
                "eventSource": "government",
                "eventPos": path[0],
                "timeDetails": {
                    "startTime": minute_of_year(notice.begin_s)[0],
                    "endTime": minute_of_year(notice.end_s)[0],
                },
                "referencePaths": [{"activePath": path, "pathRadius": _PATH_RADIUS}],
                "referenceLinks": [link],
            }
        )
    identity = unit.encode("ascii", "replace")[:8].ljust(8, b"\0")
    return {
        "msgCnt": count % 128,
        "moy": minute_of_year(now_s)[0],
        "id": identity,
        "refPos": {"lat": lat, "long": lon},
        "rtes": events,
    }


def _way(network: Network, numbering: Numbering, movement: int) -> dict[str, Any]:
    moves = network.movements
    edge = int(network.lanes.edge[moves.to_lane[movement]])
    phase = numbering.signals[int(moves.signal[movement])].groups[int(moves.link[movement])]
    remote = {"remoteIntersection": numbering.node_reference(int(network.edges.to_node[edge]))}
    return remote | ({"phaseId": phase} if phase else {})


def _lane(
    network: Network, numbering: Numbering, lane: int, rows: np.ndarray[Any, np.dtype[Any]], lon: int, lat: int
) -> dict[str, Any]:
    moves, lanes = network.movements, network.lanes
    told: dict[str, Any] = {"laneID": _lane_number(network, lane), "laneWidth": _centimetres(lanes.width_m[lane])}
    own = [int(row) for row in rows if moves.from_lane[row] == lane]
    if own:
        told["maneuvers"] = _manoeuvres([int(moves.turn[row]) for row in own])
        told["connectsTo"] = []
        for row in own[:16]:
            way = _way(network, numbering, row)
            connecting = {
                "lane": _lane_number(network, int(moves.to_lane[row])),
                "maneuver": _manoeuvres([int(moves.turn[row])]),
            }
            told["connectsTo"].append({**way, "connectingLane": connecting})
    told["speedLimits"] = [{"type": "vehicleMaxSpeed", "speed": _speed(float(lanes.speed_limit_mps[lane]))}]
    told["points"] = _points(network, lanes.shape_xy, lane, lon, lat)
    return told


def _lanes_of(network: Network, edge: int) -> range:
    """Lanes of an edge from the left."""
    return range(int(network.edges.first_lane[edge + 1]) - 1, int(network.edges.first_lane[edge]) - 1, -1)


def _lane_number(network: Network, lane: int) -> int:
    return int(network.edges.first_lane[network.lanes.edge[lane] + 1]) - lane


def _manoeuvres(turns: Sequence[int]) -> tuple[bytes, int]:
    bits = 0
    for turn in turns:
        bits |= 1 << (15 - _MANOEUVRE_BIT[turn])
    return bits.to_bytes(2, "big"), 12


def _reference(network: Network, xy_m: Floats) -> tuple[int, int]:
    lon, lat = to_wgs84(network, float(xy_m[0]), float(xy_m[1]))
    return round(float(lon) / day_one.ANGLE_UNIT_DEG), round(float(lat) / day_one.ANGLE_UNIT_DEG)


def _points(network: Network, shapes: Ragged, row: int, lon: int, lat: int) -> list[dict[str, Any]]:
    """A line as road points relative to a reference, evenly thinned to what a message holds."""
    xy = np.reshape(shapes[row], (-1, 2)).astype(np.float64)
    if len(xy) > MOST_POINTS:
        at_m = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
        even = np.linspace(0.0, at_m[-1], MOST_POINTS)
        xy = np.stack([np.interp(even, at_m, xy[:, 0]), np.interp(even, at_m, xy[:, 1])], axis=1)
    lons, lats = to_wgs84(network, xy[:, 0], xy[:, 1])
    return [
        {
            "posOffset": _offset(
                round(float(x) / day_one.ANGLE_UNIT_DEG), round(float(y) / day_one.ANGLE_UNIT_DEG), lon, lat
            )
        }
        for x, y in zip(lons, lats, strict=True)
    ]


def _offset(lon: int, lat: int, reference_lon: int, reference_lat: int) -> dict[str, Any]:
    """PositionOffsetLLV in the shortest form that holds it."""
    east, north = lon - reference_lon, lat - reference_lat
    for number, bits in enumerate(_OFFSET_BITS, start=1):
        half = 1 << (bits - 1)
        if -half <= east < half and -half <= north < half:
            return {"offsetLL": (f"position-LL{number}", {"lon": east, "lat": north})}
    return {"offsetLL": ("position-LatLon", {"lon": lon, "lat": lat})}


def _speed(speed_mps: float) -> int:
    return min(round(speed_mps / day_one.SPEED_UNIT_MPS), day_one.NO_SPEED - 1)


def _centimetres(length_m: float) -> int:
    return min(round(100.0 * float(length_m)), 32_767)
