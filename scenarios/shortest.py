"""Fastest free routes, as SUMO gives them to trips, and the ways that jams make the fastest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from networks.graph import Ints, Network
from scenarios.shortest_kernels import trace_ways

MINOR_S = 1.5  # SUMO's default penalty of a link that gives way (--weights.minor-penalty)
DRAWS = 48  # of random jams; on two real cities they hold 99 % and 94 % of the ways SUMO's drivers chose instead
MOST_OTHERS = 8
MEAN_HOLD_S, JAMMED_FRAC = 60.0, 0.08
MOST_WORK = 2e8  # origins times edges times draws: larger cities get fewer draws
LONGEST_WAY = 1024  # edges


class Leg(NamedTuple):
    """From an edge to an edge, for one class of vehicle (a bit of graph.PASSENGER ...)."""

    origin: int
    target: int
    allowed: int


class Ways(NamedTuple):
    """The fastest free way, ends included, empty where there is none; others, likeliest first."""

    own: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]


def find_ways(network: Network, legs: Iterable[Leg], *, others: bool) -> dict[Leg, Ways]:
    """Ways of each distinct leg.

    With `others`, every draw holds traffic up for a random time on a few random edges that end at a signal or give
    way; the ways that then are fastest and differ from the free one are kept, those that came up most often first.
    """
    found: dict[Leg, Ways] = {}
    distinct = sorted(set(legs))
    for bit in sorted({leg.allowed for leg in distinct}):
        mine = [leg for leg in distinct if leg.allowed == bit]
        origins, tree = np.unique([leg.origin for leg in mine], return_inverse=True)
        target = np.array([leg.target for leg in mine], np.int32)
        free = _ways(_graph(network, bit, 0), origins, tree.astype(np.int32), target)
        seen: list[dict[tuple[int, ...], int]] = [{} for _ in mine]
        draws = min(DRAWS, int(MOST_WORK / (len(origins) * len(network.edges.ids)))) if others else 0
        for draw in range(1, draws + 1):
            ways = _ways(_graph(network, bit, draw), origins, tree.astype(np.int32), target)
            for i in np.flatnonzero((ways != free).any(axis=1)).tolist():
                way = _forward(ways[i])
                seen[i][way] = seen[i].get(way, 0) + 1
        for i, leg in enumerate(mine):
            ranked = sorted(seen[i], key=lambda way, count=seen[i]: (-count[way], way))  # type: ignore[misc]
            found[leg] = Ways(_forward(free[i]), tuple(way for way in ranked[:MOST_OTHERS] if way))
    return found


def _forward(row: Ints) -> tuple[int, ...]:
    return tuple(row[row >= 0][::-1].tolist())


def _ways(graph: Any, origins: NDArray[np.int64], tree: Ints, target: Ints) -> Ints:
    """(N, LONGEST_WAY) edges of each way backwards, -1 behind; empty rows where there is none."""
    reach_s, before = dijkstra(graph, indices=origins, return_predecessors=True)
    ways = np.full((len(target), min(LONGEST_WAY, graph.shape[0])), -1, np.int32)
    trace_ways(before, tree, target, ways)
    ways[~np.isfinite(reach_s[tree, target])] = -1
    return ways


def _graph(network: Network, bit: int, draw: int) -> Any:
    """Cost of an arc: time inside the junction, what giving way costs, and time on the edge entered."""
    moves, lanes = network.movements, network.lanes
    usable = (lanes.allowed[moves.from_lane] & lanes.allowed[moves.to_lane] & bit) > 0
    source, target = lanes.edge[moves.from_lane][usable], lanes.edge[moves.to_lane][usable]
    time_s = network.edges.length_m / np.maximum(network.edges.speed_limit_mps, 0.1)
    if draw:
        rng = np.random.default_rng(draw)
        held = np.unique(lanes.edge[moves.from_lane[(moves.signal >= 0) | moves.yields]])
        time_s[held] += rng.exponential(MEAN_HOLD_S, len(held)) * (rng.random(len(held)) < JAMMED_FRAC)
    turn_s = moves.length_m / np.maximum(moves.speed_mps, 0.1) + MINOR_S * (moves.yields & (moves.signal < 0))
    cost_s = turn_s[usable] + time_s[target]
    order = np.lexsort((cost_s, target, source))
    source, target, cost_s = source[order], target[order], cost_s[order]
    first = np.ones(len(source), np.bool_)
    first[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
    count = len(network.edges.ids)
    return csr_array((cost_s[first], (source[first], target[first])), shape=(count, count))
