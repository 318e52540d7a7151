"""The network as GeoDataFrames in WGS-84, UTM or any other coordinate reference system.

Imports geopandas: keep it out of processes that run SUMO.
"""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS

from networks import graph
from networks.coordinates import to_wgs84, utm_epsg
from networks.errors import NetworkError
from networks.graph import Network, Ragged

WGS84 = 4326
LAYERS = ("edges", "lanes", "movements", "signals", "crossings", "nodes")
_TURN_NAMES = {graph.STRAIGHT: "straight", graph.LEFT: "left", graph.RIGHT: "right", graph.U_TURN: "u_turn"}
_CLASSES = {
    "passenger": graph.PASSENGER,
    "bus": graph.BUS,
    "truck": graph.TRUCK,
    "bicycle": graph.BICYCLE,
    "pedestrian": graph.PEDESTRIAN,
    "emergency": graph.EMERGENCY,
    "tram": graph.TRAM,
}


def layers(network: Network, crs: int | str = WGS84) -> dict[str, gpd.GeoDataFrame]:
    """All `LAYERS` in a coordinate reference system (EPSG number or PROJ string).

    Raises NetworkError when the network has no georeference.
    """
    makers = (edges_frame, lanes_frame, movements_frame, signals_frame, crossings_frame, nodes_frame)
    return {name: make(network, crs) for name, make in zip(LAYERS, makers, strict=True)}


def utm_of(network: Network) -> int:
    """EPSG code of the UTM zone in which the network's middle lies."""
    west, south, east, north = network.bounds_m
    lon, lat = to_wgs84(network, (west + east) / 2, (south + north) / 2)
    return utm_epsg(float(lon), float(lat))


def edges_frame(network: Network, crs: int | str = WGS84) -> gpd.GeoDataFrame:
    """One row an edge: ids, name, length, limit, motor lanes, the nodes it joins, its middle line."""
    edges, nodes = network.edges, np.array(network.nodes, dtype=object)
    columns = {
        "id": list(edges.ids),
        "name": list(edges.names),
        "from_node": nodes[edges.from_node],
        "to_node": nodes[edges.to_node],
        "length_m": edges.length_m,
        "speed_limit_mps": edges.speed_limit_mps,
        "lane_count": edges.lane_count,
        "priority": edges.priority,
    }
    return _frame(network, columns, _lines(edges.shape_xy), crs)


def lanes_frame(network: Network, crs: int | str = WGS84) -> gpd.GeoDataFrame:
    """One row a lane, with the classes that may use it, space separated."""
    lanes = network.lanes
    edge_ids = np.array(network.edges.ids, dtype=object)
    columns = {
        "id": list(lanes.ids),
        "edge": edge_ids[lanes.edge],
        "index": lanes.index,
        "length_m": lanes.length_m,
        "width_m": lanes.width_m,
        "speed_limit_mps": lanes.speed_limit_mps,
        "allowed": [" ".join(name for name, bit in _CLASSES.items() if mask & bit) for mask in lanes.allowed],
    }
    return _frame(network, columns, _lines(lanes.shape_xy), crs)


def movements_frame(network: Network, crs: int | str = WGS84) -> gpd.GeoDataFrame:
    """One row a lane-to-lane movement, drawn straight from stop line to exit."""
    moves, shapes = network.movements, network.lanes.shape_xy
    lane_ids = np.array(network.lanes.ids, dtype=object)
    signal_ids = np.array([*(s.id for s in network.signals), ""], dtype=object)
    stop_at, exit_at = shapes.offsets[moves.from_lane + 1] - 2, shapes.offsets[moves.to_lane]
    flat = shapes.values
    ends = np.stack(
        [np.stack([flat[stop_at], flat[stop_at + 1]], axis=1), np.stack([flat[exit_at], flat[exit_at + 1]], axis=1)],
        axis=1,
    )
    columns = {
        "from_lane": lane_ids[moves.from_lane],
        "to_lane": lane_ids[moves.to_lane],
        "turn": [_TURN_NAMES[int(turn)] for turn in moves.turn],
        "signal": signal_ids[moves.signal],
        "link": moves.link,
        "length_m": moves.length_m,
        "speed_mps": moves.speed_mps,
        "yields": moves.yields,
    }
    return _frame(network, columns, shapely.linestrings(ends), crs)


def signals_frame(network: Network, crs: int | str = WGS84) -> gpd.GeoDataFrame:
    """One row a signal, at the middle of its junctions."""
    signals = network.signals
    middles = np.array([network.node_xy[list(s.nodes)].mean(axis=0) for s in signals]).reshape(-1, 2)
    columns = {
        "id": [s.id for s in signals],
        "links": np.array([s.link_count for s in signals], np.int32),
        "stages": np.array([len(s.stages) for s in signals], np.int32),
        "crossings": np.array([len(s.crossings) for s in signals], np.int32),
        "programme": [s.programme.id for s in signals],
        "cycle_s": np.array([s.programme.cycle_s for s in signals], np.float64),
        "yellow_s": np.array([s.yellow_s for s in signals], np.float64),
    }
    return _frame(network, columns, shapely.points(middles), crs)


def crossings_frame(network: Network, crs: int | str = WGS84) -> gpd.GeoDataFrame:
    """One row a signalised pedestrian crossing."""
    rows = [(s, c) for s in network.signals for c in s.crossings if len(c.shape) >= 4]
    columns = {
        "id": [c.id for _, c in rows],
        "signal": [s.id for s, _ in rows],
        "edges": [" ".join(network.edges.ids[e] for e in c.edges) for _, c in rows],
        "length_m": np.array([c.length_m for _, c in rows], np.float64),
        "width_m": np.array([c.width_m for _, c in rows], np.float64),
    }
    lines = [shapely.linestrings(np.array(c.shape).reshape(-1, 2)) for _, c in rows]
    return _frame(network, columns, np.array(lines, dtype=object), crs)


def nodes_frame(network: Network, crs: int | str = WGS84) -> gpd.GeoDataFrame:
    """One row a junction."""
    return _frame(network, {"id": list(network.nodes)}, shapely.points(network.node_xy), crs)


def _lines(shapes: Ragged) -> Any:
    points = shapes.values.reshape(-1, 2)
    owner = np.repeat(np.arange(len(shapes)), np.diff(shapes.offsets) // 2)
    return shapely.linestrings(points, indices=owner)


def _frame(network: Network, columns: dict[str, Any], geometry: Any, crs: int | str) -> gpd.GeoDataFrame:
    if network.projection is None:
        raise NetworkError(f"network {network.name!r} has no georeference: its metres belong to no place on earth")
    dx, dy = network.net_offset_m
    placed = shapely.transform(geometry, lambda xy: xy - np.array([dx, dy]))
    frame = gpd.GeoDataFrame(columns, geometry=placed, crs=CRS.from_user_input(network.projection))
    return frame.to_crs(CRS.from_user_input(crs))
