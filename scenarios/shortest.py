"""Fastest free routes, as SUMO gives them to trips: Dijkstra over the edges, each origin once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from networks.graph import Floats, Ints, Network

MINOR_S = 1.5  # SUMO's default penalty of a link that gives way (--weights.minor-penalty)


class Router:
    """Routes for one network; trees of fastest ways are kept per class of vehicle and origin."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._graphs: dict[int, csr_array] = {}
        self._trees: dict[tuple[int, int], tuple[Floats, Ints]] = {}

    def through(self, edges: Sequence[int], bit: int) -> list[int]:
        """The fastest way over the given edges in turn, ends included; empty where there is none."""
        way = [edges[0]]
        for origin, target in itertools.pairwise(edges):
            leg = self._leg(origin, target, bit)
            if not leg:
                return []
            way += leg[1:]
        return way

    def _leg(self, origin: int, target: int, bit: int) -> list[int]:
        if origin == target:
            return [origin]
        if (bit, origin) not in self._trees:
            if bit not in self._graphs:
                self._graphs[bit] = self._graph(bit)
            self._trees[bit, origin] = dijkstra(self._graphs[bit], indices=origin, return_predecessors=True)
        cost_s, before = self._trees[bit, origin]
        if not np.isfinite(cost_s[target]):
            return []
        way = [target]
        while way[-1] != origin:
            way.append(int(before[way[-1]]))
        return way[::-1]

    def _graph(self, bit: int) -> csr_array:
        """Cost of an arc: time inside the junction, what giving way costs, and time on the edge entered."""
        net = self._network
        moves, lanes = net.movements, net.lanes
        usable = (lanes.allowed[moves.from_lane] & lanes.allowed[moves.to_lane] & bit) > 0
        source, target = lanes.edge[moves.from_lane][usable], lanes.edge[moves.to_lane][usable]
        time_s = net.edges.length_m / np.maximum(net.edges.speed_limit_mps, 0.1)
        minor = moves.yields & (moves.signal < 0)
        turn_s = moves.length_m / np.maximum(moves.speed_mps, 0.1) + MINOR_S * minor
        cost = turn_s[usable] + time_s[target]
        order = np.lexsort((cost, target, source))
        source, target, cost = source[order], target[order], cost[order]
        first = np.ones(len(source), np.bool_)
        first[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
        count = len(net.edges.ids)
        return csr_array((cost[first], (source[first], target[first])), shape=(count, count))
