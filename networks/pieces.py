"""Approaches that a network draws in pieces: which lanes are one street lane up to a stop line.

Imported networks cut streets wherever a lane is added or an attribute changes, often a few metres before the stop
line. Loops, queues and lists of vehicles do not end there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from networks.graph import STRAIGHT, Bools, Floats, Ints, Network

JOINED_M = 100.0  # streets of such length need no further piece: upstream loops lie so far before the line


@dataclass(frozen=True)
class StreetPieces:
    """Every lane (L) as a part of a street lane, which is named by its last piece.

    A piece that parts into several lanes belongs to all of them; it is `line`d with the one straight on.
    """

    line: Ints  # (L,) street lane: the approach lane that this one only leads to, or the lane itself
    before: Ints  # (L,) the piece before this one, -1 none
    into: Ints  # (L,) movement by which one comes from it, -1 none
    begin_m: Floats  # (L,) where the lane begins on its street lane
    end_m: Floats  # (L,) where it ends there

    def locate(self, line: Ints, along_m: Floats) -> tuple[Ints, Floats]:
        """Lane and position on it of places (N,) on street lanes; in a gap: before the begin of the later."""
        lane = line.astype(np.int32)
        while True:
            before = self.before[lane]
            further = (before >= 0) & (along_m < self.end_m[before])
            if not further.any():
                return lane, along_m - self.begin_m[lane]
            lane = np.where(further, before, lane)

    def street(self, lane: Ints, believed: Ints) -> Ints:
        """Street lane of places (N,) on lanes, the one `believed` so far if the lane leads to it; -1 stays -1."""
        answer = np.where(lane >= 0, self.line[lane], -1).astype(np.int32)
        for row in np.flatnonzero((lane >= 0) & (believed >= 0) & (believed != answer)).tolist():
            piece = int(believed[row])
            while piece >= 0 and piece != lane[row]:
                piece = int(self.before[piece])
            if piece >= 0:
                answer[row] = believed[row]
        return answer

    def belongings(self) -> list[tuple[int, int]]:
        """Lane and street lane for every piece of every street lane, the lanes that are whole as well."""
        found = []
        for street in np.flatnonzero(self.line == np.arange(len(self.line))).tolist():
            piece = street
            while piece >= 0:
                found.append((piece, street))
                piece = int(self.before[piece])
        return found

    def parted_m(self, line: int) -> float:
        """Where on the street lane the first piece begins that no other street lane shares."""
        lane = line
        while (before := int(self.before[lane])) >= 0 and not self.parting[before]:
            lane = before
        return float(self.begin_m[lane]) if before >= 0 else 0.0

    @cached_property
    def parting(self) -> Bools:
        """(L,) whether the lane leads to several pieces."""
        parting: Bools = np.bincount(self.before[self.before >= 0], minlength=len(self.line)) > 1
        return parting

    @cached_property
    def beside(self) -> Ints:
        """(L,) of the street lanes that share a first piece the one that this piece is `line`d with."""
        first = np.arange(len(self.line), dtype=np.int32)
        later = np.flatnonzero(self.before >= 0)
        for lane in later[np.argsort(self.begin_m[later], kind="stable")].tolist():
            first[lane] = first[self.before[lane]]
        return self.line[first]

    def bridges(self) -> list[tuple[int, int, float]]:
        """Gaps between pieces: the lane before, the lane after, the metres from one to the other."""
        after = np.flatnonzero(self.before >= 0)
        gap_m = self.begin_m[after] - self.end_m[self.before[after]]
        return list(zip(self.before[after].tolist(), after.tolist(), gap_m.tolist(), strict=True))


def join_pieces(network: Network) -> StreetPieces:
    """Follow every signalised approach upstream until a junction where others have the way, or whose ways part."""
    lanes, moves = network.lanes, network.movements
    count = len(lanes.ids)
    line = np.arange(count, dtype=np.int32)
    before, into = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    signalised = moves.from_lane[moves.signal >= 0]
    ends = np.unique(lanes.edge[signalised[lanes.motor[signalised]]])
    chains: list[list[tuple[list[int], dict[int, int]]]] = []
    for edge in ends.tolist():
        chain: list[tuple[list[int], dict[int, int]]] = []
        reach_m, here = float(network.edges.length_m[edge]), _motor_lanes(network, edge)
        while reach_m < JOINED_M and (feeders := _sole_feeders(network, here)) is not None:
            chain.append((here, feeders))
            for lane, m in feeders.items():
                before[lane], into[lane] = moves.from_lane[m], m
            here = _motor_lanes(network, int(lanes.edge[moves.from_lane[next(iter(feeders.values()))]]))
            reach_m += float(lanes.length_m[here].max()) + float(max(moves.length_m[m] for m in feeders.values()))
        if chain:
            chains.append(chain)
    begin = np.zeros(count)
    for chain in chains:
        for here, feeders in chain:
            for lane in sorted(here, key=lambda a: int(moves.turn[feeders[a]]) == STRAIGHT):
                line[before[lane]] = lane  # straight on comes last and stays
        for here, _ in reversed(chain):
            for lane in here:
                piece = before[lane]
                begin[lane] = begin[piece] + lanes.length_m[piece] + moves.length_m[into[lane]]
    for _ in range(max(map(len, chains), default=0)):
        line = line[line]
    return StreetPieces(line, before, into, begin, begin + lanes.length_m)


def _motor_lanes(network: Network, edge: int) -> list[int]:
    own = np.arange(network.edges.first_lane[edge], network.edges.first_lane[edge + 1])
    return [int(lane) for lane in own[network.lanes.motor[own]]]


def _sole_feeders(network: Network, lanes: list[int]) -> dict[int, int] | None:
    """Lane -> the movement that leads to it, if all come from one edge that leads nowhere else; None: a junction.

    Whoever comes from elsewhere and gives way joins the street on its way.
    """
    moves, motor = network.movements, network.lanes.motor
    edge_of = network.lanes.edge
    feeders: dict[int, int] = {}
    for lane in lanes:
        rows = [int(m) for m in network.lane_feeders[lane] if motor[moves.from_lane[int(m)]]]
        main = [m for m in rows if not moves.yields[m]]
        if len(main) != 1 or any(moves.signal[m] >= 0 for m in rows):
            return None
        feeders[lane] = main[0]
    origins = {int(edge_of[moves.from_lane[m]]) for m in feeders.values()}
    if len(origins) != 1 or not lanes or origins == {int(edge_of[lanes[0]])}:
        return None
    for lane in _motor_lanes(network, origins.pop()):
        out = {int(moves.to_lane[int(m)]) for m in network.lane_movements[lane]}
        driven = {other for other in out if motor[other]}
        if not driven or not driven <= set(lanes):
            return None
    return feeders
