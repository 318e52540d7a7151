"""A network as the page draws it: polylines of edges and stop lines, in local metres."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from networks.graph import Floats, Network

_DECIMALS = 1  # a decimetre is finer than a pixel


class EdgeShape(TypedDict):
    id: str
    name: str
    limit_mps: float
    lanes: int
    xy: list[float]  # x0, y0, x1, y1 ...


class StopLine(TypedDict):
    """The end of one signalised lane, with the links that its vehicles obey."""

    signal: int
    links: list[int]
    x: float
    y: float
    heading_rad: float
    width_m: float


class NetworkView(TypedDict):
    city: str
    projection: str | None
    net_offset_m: list[float]
    bounds_m: list[float]
    edges: list[EdgeShape]
    signals: list[str]
    stop_lines: list[StopLine]


def view_network(network: Network, city: str) -> NetworkView:
    edges = network.edges
    shapes = [np.asarray(edges.shape_xy[e], np.float64) for e in range(len(edges.ids))]
    return {
        "city": city,
        "projection": network.projection,
        "net_offset_m": list(network.net_offset_m),
        "bounds_m": _bounds(shapes, network.bounds_m),
        "edges": [
            {
                "id": edges.ids[e],
                "name": edges.names[e],
                "limit_mps": round(float(edges.speed_limit_mps[e]), 2),
                "lanes": int(edges.lane_count[e]),
                "xy": np.round(shapes[e], _DECIMALS).tolist(),
            }
            for e in range(len(edges.ids))
        ],
        "signals": [s.id for s in network.signals],
        "stop_lines": _stop_lines(network),
    }


def _bounds(shapes: list[Floats], stated: tuple[float, float, float, float]) -> list[float]:
    """The box of what is drawn; a net's stated bounds may be wider or missing."""
    points = np.concatenate([s.reshape(-1, 2) for s in shapes]) if shapes else np.zeros((0, 2))
    if not len(points):
        return list(stated)
    return [*points.min(axis=0).round(_DECIMALS).tolist(), *points.max(axis=0).round(_DECIMALS).tolist()]


def _stop_lines(network: Network) -> list[StopLine]:
    links: dict[tuple[int, int], list[int]] = {}
    for index, signal in enumerate(network.signals):
        for link, movements in enumerate(signal.link_movements):
            for movement in movements:
                key = (index, int(network.movements.from_lane[movement]))
                links.setdefault(key, []).append(link)
    lines: list[StopLine] = []
    for (index, lane), obeyed in links.items():
        shape = np.asarray(network.lanes.shape_xy[lane], np.float64).reshape(-1, 2)
        if len(shape) < 2:
            continue
        (x0, y0), (x1, y1) = shape[-2], shape[-1]
        lines.append(
            {
                "signal": index,
                "links": sorted(set(obeyed)),
                "x": round(float(x1), _DECIMALS),
                "y": round(float(y1), _DECIMALS),
                "heading_rad": round(float(np.arctan2(y1 - y0, x1 - x0)), 3),
                "width_m": round(float(network.lanes.width_m[lane]), 2),
            }
        )
    return lines
