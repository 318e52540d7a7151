"""The graph between places that are edges of a road network, and what the network knows of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely

from forecasting.recording import Recording
from forecasting.series import Float32s
from networks.coordinates import to_wgs84
from networks.errors import InputError
from networks.graph import Ints, Network

_KMH = 3.6


@dataclass(frozen=True, slots=True)
class Links:
    """Which edge leads into which, and how far it is from middle to middle."""

    ends: Ints  # (2, L) from, to
    length_m: Float32s  # (L,)


def links_of(network: Network) -> Links:
    """The edges of a network that movements join, each pair once."""
    moves, lanes, edges = network.movements, network.lanes, network.edges
    pairs = np.unique(np.stack([lanes.edge[moves.from_lane], lanes.edge[moves.to_lane]], axis=1), axis=0)
    length = (edges.length_m[pairs[:, 0]] + edges.length_m[pairs[:, 1]]) / 2
    return Links(pairs.T.astype(np.int32), length.astype(np.float32))


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
    links = links_of(network)
    ends = place[links.ends]
    known = (ends >= 0).all(axis=0)
    attributes = dict(recording.attributes) | {
        "lanes": edges.lane_count[at].astype(np.float64),
        "limit_kmh": edges.speed_limit_mps[at] * _KMH,
        "length_m": edges.length_m[at],
    }
    if network.projection:
        middles = [_middle(np.asarray(edges.shape_xy[k], np.float64).reshape(-1, 2)) for k in at]
        xy = np.array(middles)
        attributes["lon"], attributes["lat"] = to_wgs84(network, xy[:, 0], xy[:, 1])
    return replace(recording, edges=ends[:, known], edge_length_m=links.length_m[known], attributes=attributes)


def _middle(xy: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[float, float]:
    point = shapely.line_interpolate_point(shapely.LineString(xy), 0.5, normalized=True)
    return float(point.x), float(point.y)
