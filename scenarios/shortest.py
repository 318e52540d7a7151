"""Fastest free routes, as SUMO gives them to trips: Dijkstra over the edges, each origin once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from networks.graph import Floats, Ints, Network

DRAWS, MOST_OTHERS, MEAN_HOLD_S, JAMMED_FRAC = 48, 8, 60.0, 0.08
MINOR_S = 1.5  # SUMO's default penalty of a link that gives way (--weights.minor-penalty)


class Router:
    """Routes for one network; trees of fastest ways are kept per class of vehicle and origin."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._graphs: dict[tuple[int, int], Any] = {}
        self._trees: dict[tuple[int, int, int], tuple[Floats, Ints]] = {}

    def through(self, edges: Sequence[int], bit: int) -> list[int]:
        """The fastest way over the given edges in turn, ends included; empty where there is none."""
        way = [edges[0]]
        for origin, target in itertools.pairwise(edges):
            leg = self._leg(origin, target, bit, 0)
            if not leg:
                return []
            way += leg[1:]
        return way

    def others(self, origin: int, target: int, bit: int) -> list[list[int]]:
        """Ways that become the fastest when signals and jams delay traffic, at most MOST_OTHERS, likeliest first.

        Each of DRAWS draws adds a random delay to every edge that ends at a signal or gives way.
        """
        own = self._leg(origin, target, bit, 0)
        seen: dict[tuple[int, ...], int] = {}
        for draw in range(1, DRAWS + 1) if own else ():
            way = tuple(self._leg(origin, target, bit, draw))
            if list(way) != own:
                seen[way] = seen.get(way, 0) + 1
        ranked = sorted(seen, key=lambda way: (-seen[way], way))
        return [list(way) for way in ranked[:MOST_OTHERS]]

    def _leg(self, origin: int, target: int, bit: int, draw: int) -> list[int]:
        if origin == target:
            return [origin]
        key = bit, draw, origin
        if key not in self._trees:
            if (bit, draw) not in self._graphs:
                self._graphs[bit, draw] = self._graph(bit, draw)
            self._trees[key] = dijkstra(self._graphs[bit, draw], indices=origin, return_predecessors=True)
        cost_s, before = self._trees[key]
        if not np.isfinite(cost_s[target]):
            return []
        way = [target]
        while way[-1] != origin:
            way.append(int(before[way[-1]]))
        return way[::-1]

    def _graph(self, bit: int, draw: int) -> Any:
        """Cost of an arc: time inside the junction, what giving way costs, and time on the edge entered."""
        net = self._network
        moves, lanes = net.movements, net.lanes
        usable = (lanes.allowed[moves.from_lane] & lanes.allowed[moves.to_lane] & bit) > 0
        source, target = lanes.edge[moves.from_lane][usable], lanes.edge[moves.to_lane][usable]
        time_s = net.edges.length_m / np.maximum(net.edges.speed_limit_mps, 0.1)
        minor = moves.yields & (moves.signal < 0)
        turn_s = moves.length_m / np.maximum(moves.speed_mps, 0.1) + MINOR_S * minor
        if draw:
            held = np.unique(lanes.edge[moves.from_lane[(moves.signal >= 0) | moves.yields]])
            time_s = time_s.copy()
            rng = np.random.default_rng(draw)
            time_s[held] += rng.exponential(MEAN_HOLD_S, len(held)) * (rng.random(len(held)) < JAMMED_FRAC)
        cost = turn_s[usable] + time_s[target]
        order = np.lexsort((cost, target, source))
        source, target, cost = source[order], target[order], cost[order]
        first = np.ones(len(source), np.bool_)
        first[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
        count = len(net.edges.ids)
        return csr_array((cost[first], (source[first], target[first])), shape=(count, count))
