"""Networks drawn by hand for tests: one lane an edge, every turn allowed but the one back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from networks import graph
from networks.graph import EdgeTable, Floats, LaneTable, MovementTable, Network, Ragged
from networks.state import QUANTILES, Estimate, Forecast, NetworkState, VehicleTable

LIMIT_MPS = 10.0


class Road(NamedTuple):
    origin: str
    target: str
    length_m: float
    allowed: int = graph.PASSENGER

    @property
    def id(self) -> str:
        return f"{self.origin}{self.target}"


def small_network(roads: Sequence[Road]) -> Network:
    nodes = tuple(sorted({n for r in roads for n in (r.origin, r.target)}))
    count = len(roads)
    turns = [
        (i, j)
        for i, a in enumerate(roads)
        for j, b in enumerate(roads)
        if a.target == b.origin and a.origin != b.target
    ]
    length_m = np.array([r.length_m for r in roads])
    ints = np.zeros(count, np.int32)
    empty = Ragged(np.zeros(count + 1, np.int32), np.zeros(0))
    edges = EdgeTable(
        tuple(r.id for r in roads), length_m, np.full(count, LIMIT_MPS), ints + 1,
        np.arange(count + 1, dtype=np.int32),
        np.array([nodes.index(r.origin) for r in roads], np.int32),
        np.array([nodes.index(r.target) for r in roads], np.int32), ints, ("",) * count, empty,
    )  # fmt: skip
    lanes = LaneTable(
        tuple(f"{r.id}_0" for r in roads), np.arange(count, dtype=np.int32), ints, length_m, np.full(count, 3.2),
        np.full(count, LIMIT_MPS), np.array([r.allowed for r in roads], np.int32), empty,
    )  # fmt: skip
    pairs = np.array(turns, np.int32).reshape(-1, 2)
    none = np.full(len(turns), -1, np.int32)
    movements = MovementTable(
        pairs[:, 0], pairs[:, 1], np.zeros(len(turns), np.int32), np.zeros(len(turns)), np.full(len(turns), 5.0),
        none, none, edges.to_node[pairs[:, 0]], np.zeros(len(turns), np.bool_), ((),) * len(turns),
    )  # fmt: skip
    return Network(
        "small",
        None,
        (0.0, 0.0),
        (0.0, 0.0, 1.0, 1.0),
        nodes,
        np.zeros((len(nodes), 2)),
        edges,
        lanes,
        movements,
        (),
        "",
    )


def asking(network: Network, trips: Sequence[tuple[int, str, str]], *, now_s: float = 1000.0) -> NetworkState:
    """A state with equipped cars (id, edge, destination) at the start of their edges."""
    count, edges = len(trips), len(network.edges.ids)
    at = network.edge_index
    vehicles = VehicleTable(
        np.array([t[0] for t in trips], np.int64), np.array([at[t[1]] for t in trips], np.int32), np.zeros(count),
        np.zeros(count), np.zeros(count, np.int32), np.full(count, -1, np.int32), np.ones(count, np.bool_),
        np.array([at[t[2]] for t in trips], np.int32), np.ones(count), np.zeros(count),
    )  # fmt: skip
    unknown = Estimate.unknown(edges)
    return NetworkState(now_s, unknown, unknown, unknown, unknown, unknown, unknown, vehicles, (), 1.0, ())


def speeds_ahead(speed_mps: Floats, *, now_s: float = 1000.0, flow_vps: float = 0.0) -> Forecast:
    """A forecast (H, E) of sure speeds, 5 min apart."""
    horizons, edges = speed_mps.shape
    spread = np.ones(len(QUANTILES))
    return Forecast(
        now_s, 300.0 * np.arange(1, horizons + 1), QUANTILES, np.full((horizons, edges, len(QUANTILES)), flow_vps),
        speed_mps[..., None] * spread, np.zeros((horizons, edges, 4)), np.ones(edges, np.bool_),
        ("test",),
    )  # fmt: skip
