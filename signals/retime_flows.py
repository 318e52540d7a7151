"""Traffic as a timing engineer tabulates it: flow per signal link and lane, and which signals are neighbours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from networks.graph import LEFT, RIGHT, STRAIGHT, U_TURN, Floats, Ints, Network

# Saturation flow of a lane by turn: HCM 2016 base 1 900 pc/h/ln with its factors for turns (0.95 left, 0.85 right).
SATURATION_VPH = {STRAIGHT: 1900.0, LEFT: 1805.0, RIGHT: 1615.0, U_TURN: 1500.0}


@dataclass(frozen=True)
class TurnFlows:
    """Vehicles of the demand by turn from edge to edge over `span_s`."""

    network: Network
    pairs: Mapping[tuple[int, int], float]  # (edge, next edge) -> vehicles
    span_s: float

    @cached_property
    def movement_vps(self) -> Floats:
        """(M,) flow of each movement: a turn's vehicles spread evenly over the lanes that may make it."""
        movements, lanes = self.network.movements, self.network.lanes
        members: dict[tuple[int, int], list[int]] = defaultdict(list)
        motor = (lanes.allowed[movements.from_lane] & lanes.allowed[movements.to_lane] & 1) > 0
        source, target = lanes.edge[movements.from_lane], lanes.edge[movements.to_lane]
        for m in range(len(source)):
            members[int(source[m]), int(target[m])].append(m)
        flow_vps = np.zeros(len(source))
        for pair, vehicles in self.pairs.items():
            ways = members.get(pair, [])
            ways = [m for m in ways if motor[m]] or ways
            for m in ways:
                flow_vps[m] += vehicles / self.span_s / len(ways)
        return flow_vps

    def link_vps(self, signal: int) -> Floats:
        """(K,) flow over each link of a signal."""
        flow_vps = self.movement_vps
        return np.array([flow_vps[list(m)].sum() for m in self.network.signals[signal].link_movements])


def count_turns(network: Network, routes: Sequence[Sequence[int]], span_s: float) -> TurnFlows:
    """Turns of a list of routes (dense edges)."""
    pairs: dict[tuple[int, int], float] = defaultdict(float)
    for route in routes:
        for pair in pairwise(route):
            pairs[pair] += 1.0
    return TurnFlows(network, pairs, span_s)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The way from one signal to the next, as most vehicles drive it."""

    origin: int  # signals
    target: int
    vehicles: float  # of the demand
    travel_s: float
    origin_link: int  # most used links of both
    target_link: int


@dataclass(frozen=True)
class SignalMap:
    """Which edges and signals belong together."""

    approaches: tuple[Ints, ...]  # per signal the edges that end at it
    zones: tuple[Ints, ...]  # per signal the edges on which a change of its timing is felt
    stretches: tuple[Stretch, ...]  # the most driven ones first

    def neighbours(self, signal: int) -> set[int]:
        return {s.target for s in self.stretches if s.origin == signal} | {
            s.origin for s in self.stretches if s.target == signal
        }

    def groups(self, least_vehicles: float, longest_s: float = 60.0) -> tuple[tuple[int, ...], ...]:
        """Signals to be coordinated: joined by stretches with much traffic whose platoons still hold together."""
        home = list(range(len(self.approaches)))

        def root(n: int) -> int:
            while home[n] != n:
                n = home[n]
            return n

        for stretch in self.stretches:
            if stretch.vehicles >= least_vehicles and stretch.travel_s <= longest_s:
                low, high = sorted((root(stretch.origin), root(stretch.target)))
                home[high] = low
        members: dict[int, list[int]] = defaultdict(list)
        for n in range(len(home)):
            members[root(n)].append(n)
        return tuple(tuple(m) for m in members.values())


def signal_turns(network: Network) -> dict[tuple[int, int], tuple[int, int]]:
    """(Edge, next edge) -> the signal and the first of its links that the turn drives over."""
    movements, edge = network.movements, network.lanes.edge
    turns: dict[tuple[int, int], tuple[int, int]] = {}
    for m in np.flatnonzero(movements.signal >= 0).tolist():
        pair = int(edge[movements.from_lane[m]]), int(edge[movements.to_lane[m]])
        turns.setdefault(pair, (int(movements.signal[m]), int(movements.link[m])))
    return turns


def map_signals(network: Network, routes: Sequence[Sequence[int]]) -> SignalMap:
    """Neighbourhoods from where vehicles really drive."""
    movements, edges = network.movements, network.edges
    signal_of = signal_turns(network)
    approaches: list[set[int]] = [set() for _ in network.signals]
    for m in np.flatnonzero(movements.signal >= 0).tolist():
        approaches[int(movements.signal[m])].add(int(network.lanes.edge[movements.from_lane[m]]))
    free_s = edges.length_m / np.maximum(edges.speed_limit_mps, 1.0)
    seen: dict[tuple[int, int], dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    upstream: list[set[int]] = [set() for _ in network.signals]
    for route in routes:
        last: tuple[int, int] | None = None
        way_s, behind = 0.0, list[int]()
        for pair in pairwise(route):
            behind.append(pair[0])
            way_s += float(free_s[pair[0]])
            if pair not in signal_of:
                continue
            place = signal_of[pair]
            upstream[place[0]].update(behind)
            if last is not None and last[0] != place[0]:
                seen[last[0], place[0]][last[1], place[1]].append(way_s)
            last, way_s, behind = place, 0.0, []
    stretches = []
    for (origin, target), ways in seen.items():
        most = max(ways, key=lambda links: len(ways[links]))
        vehicles = float(sum(len(w) for w in ways.values()))
        stretches.append(Stretch(origin, target, vehicles, float(np.median(ways[most])), *most))
    stretches.sort(key=lambda s: (-s.vehicles, s.origin, s.target))
    zones = [upstream[n] | approaches[n] for n in range(len(network.signals))]
    for s in stretches:
        zones[s.origin] |= approaches[s.target]
    return SignalMap(
        tuple(np.array(sorted(a), np.int32) for a in approaches),
        tuple(np.array(sorted(z), np.int32) for z in zones),
        tuple(stretches),
    )
