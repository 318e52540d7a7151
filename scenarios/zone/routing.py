"""Cheapest routes on the drawn network, and how full they make its junctions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from networks.graph import LEFT, RIGHT, Floats, Ints, Network

# Mean control delay met by a turn at a signal when it is empty, s: red half the time less what coordination saves.
TURN_DELAY_S = {LEFT: 35.0, RIGHT: 8.0}
THROUGH_DELAY_S = 16.0
ACCESS_LEFT_DELAY_S = 8.0
SPEED_SHARE = 0.9  # of the limit that free traffic holds
# Share of the cycle that a lane gets, for judging how full it is before any plan exists.
GREEN_SHARE = {LEFT: 0.14, RIGHT: 0.45}
GREEN_SHARE_THROUGH = 0.30
LANE_VPH = 1750.0
LOAD_WEIGHT, LOAD_POWER = 3.0, 4.0  # delay = empty delay * (1 + weight * load ** power), after the BPR function


class Router:
    """Edge-to-edge graph for one class of vehicles, with costs that grow with the load put on it."""

    def __init__(self, network: Network, allowed: int) -> None:
        m, lanes = network.movements, network.lanes
        usable = (lanes.allowed[m.from_lane] & lanes.allowed[m.to_lane] & allowed) > 0
        start, end = lanes.edge[m.from_lane[usable]], lanes.edge[m.to_lane[usable]]
        pairs, first, self._lanes = np.unique(
            np.stack([start, end], axis=1), axis=0, return_index=True, return_counts=True
        )
        self.start: Ints = pairs[:, 0].astype(np.int32)
        self.end: Ints = pairs[:, 1].astype(np.int32)
        self._turn = m.turn[usable][first]
        self._signal = m.signal[usable][first] >= 0
        self._edges = network.edges
        self._count = len(network.edges.ids)
        self._travel_s = network.edges.length_m / (network.edges.speed_limit_mps * SPEED_SHARE)
        self._arc_of = {(int(a), int(b)): i for i, (a, b) in enumerate(pairs)}

    def costs_s(self, load_vph: Floats) -> Floats:
        """Seconds of each arc: its turn under that load (veh/h per arc), and the edge it leads to."""
        by_turn = np.array([TURN_DELAY_S.get(int(t), THROUGH_DELAY_S) for t in self._turn])
        green = np.array([GREEN_SHARE.get(int(t), GREEN_SHARE_THROUGH) for t in self._turn])
        full = load_vph / (self._lanes * LANE_VPH * green)
        signal_s = by_turn * (1.0 + LOAD_WEIGHT * full**LOAD_POWER)
        access_s = np.where(self._turn == LEFT, ACCESS_LEFT_DELAY_S, 0.0)
        return np.asarray(np.where(self._signal, signal_s, access_s) + self._travel_s[self.end])

    def trees(self, cost_s: Floats, origins: Sequence[int]) -> tuple[Floats, Ints]:
        """Distances (O, E) and predecessor edges (O, E; -9999 none) from each origin edge."""
        graph = csr_matrix((cost_s, (self.start, self.end)), shape=(self._count, self._count))
        distance, before = dijkstra(graph, indices=np.asarray(origins), return_predecessors=True)
        return distance, before

    def path(self, before: Ints, target: int) -> tuple[int, ...]:
        """The edges from the origin of the row `before` to `target`; empty when there is no way."""
        path = [target]
        while before[path[-1]] >= 0:
            path.append(int(before[path[-1]]))
        return tuple(reversed(path)) if len(path) > 1 else ()

    def arcs(self, path: Sequence[int]) -> list[int]:
        return [self._arc_of[pair] for pair in pairwise(path)]

    @property
    def arc_count(self) -> int:
        return len(self.start)

    def length_m(self, path: Sequence[int]) -> float:
        return float(self._edges.length_m[list(path)].sum())
