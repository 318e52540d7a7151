"""The graph between places that are edges of a road network, and what the network knows of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import shapely

from forecasting.recording import Recording
from networks.coordinates import to_wgs84
from networks.errors import InputError
from networks.graph import Network

_KMH = 3.6


def on_streets(recording: Recording, network: Network) -> Recording:
    """The recording with its places joined where a movement leads from one to the other, middle to middle.

    Raises InputError when a place is no edge of the network.
    """
    edges = network.edges
    index = {name: k for k, name in enumerate(edges.ids)}
    unknown = next((place for place in recording.places if place not in index), None)
    if unknown is not None:
        raise InputError(f"{recording.name}: place {unknown!r} is no edge of the network {network.name}")
    at = np.array([index[place] for place in recording.places])
    place = np.full(len(edges.ids), -1)
    place[at] = np.arange(len(at))
    from_edge = network.lanes.edge[network.movements.from_lane]
    to_edge = network.lanes.edge[network.movements.to_lane]
    ends = place[np.stack([from_edge, to_edge])]
    ends = np.unique(ends[:, (ends >= 0).all(axis=0)], axis=1).astype(np.int64)
    attributes = dict(recording.attributes) | {
        "lanes": edges.lane_count[at].astype(np.float64),
        "limit_kmh": edges.speed_limit_mps[at] * _KMH,
        "length_m": edges.length_m[at],
    }
    if network.projection:
        middles = [_middle(np.asarray(edges.shape_xy[k], np.float64).reshape(-1, 2)) for k in at]
        xy = np.array(middles)
        attributes["lon"], attributes["lat"] = to_wgs84(network, xy[:, 0], xy[:, 1])
    length_m = edges.length_m[at][ends].mean(axis=0).astype(np.float32)
    return replace(recording, edges=ends, edge_length_m=length_m, attributes=attributes)


def _middle(xy: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[float, float]:
    point = shapely.line_interpolate_point(shapely.LineString(xy), 0.5, normalized=True)
    return float(point.x), float(point.y)
