"""Which stop line a vehicle on a lane is heading for, how far it is, and which link it will use there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from networks.graph import STRAIGHT, Bools, Floats, Ints, Network, Ragged
from networks.state import VehicleTable

REACH_M = 300.0  # how far upstream of a stop line lanes are followed through unsignalised nodes
GAP_AHEAD_M = 50.0  # whoever gives way nearer than this to a stop line is there within seconds, or nobody knows when
PARTS_MAX = 8  # lanes on the way to a stop line at most
GOLDEN = 0.6180339887498949  # additive recurrence: evenly spread draws without chance


@dataclass(frozen=True)
class StopLineMap:
    """Static maps over the dense lanes (L) of the network and over all links of all signals (X, see link_offset)."""

    signal: Ints  # (L,) signal ahead, -1 none within reach
    lane: Ints  # (L,) approach lane at that stop line (the lane itself where it is one), -1 none
    ahead_m: Floats  # (L,) from the end of the lane to the stop line
    link_offset: NDArray[np.int64]  # (S+1,)
    link_lane: Ints  # (X,) dense approach lane, -1 for a crossing
    link_out: Ints  # (X,) dense receiving lane, -1 for a crossing
    lane_links: Ints  # (L, B) links that leave an approach lane, -1 padded
    lane_moves: Ints  # (L, B) their movements
    lane_cumulative: Floats  # (L, B) their cumulative shares
    movement_link: Ints  # (M,)
    link_moves: Ragged  # (X) movements of the link, one a lane: straight on where the lane has the choice
    onward: Ints  # (L, C) movements out of a lane further up, -1 padded
    onward_cumulative: Floats  # (L, C) their cumulative shares
    gap_lane: Ints  # (L,) lane at whose end one gives way without a signal, near the stop line; -1 nowhere
    gap_beyond: Ints  # (L,) of such a lane the next one on the way to the stop line, -1 of others

    def lead(self, table: VehicleTable, network: Network) -> tuple[Ints, Floats]:
        """Approach lane that each vehicle comes to, -1 none, and the way (V,) from the end of its lane to that line.

        By where it is known to go from there, else by its own movement and those of the shares after it: lanes part
        on the way, often a few metres before a line.
        """
        moves = network.movements
        leads = (table.movement >= 0) & (moves.from_lane[np.maximum(table.movement, 0)] == table.lane)
        first = np.where(leads, table.movement, -1).astype(np.int32)
        lane, ahead_m = self.follow(table.lane.astype(np.int32), first, table.id, network)
        line = self.known_movements(table)
        lane = np.where((line >= 0) & (lane >= 0), moves.from_lane[line], lane)
        at_line = (lane >= 0) & (self.lane[lane] == lane)
        return np.where(at_line, lane, -1).astype(np.int32), ahead_m

    def follow(self, lane: Ints, first: Ints, number: NDArray[np.int64], network: Network) -> tuple[Ints, Floats]:
        """Where vehicles on these lanes (V,) come to, a stop line or away from all, and the way there (V,).

        By their first movement where it is known (-1: it is not), and by the shares, drawn by their number.
        """
        moves, length_m = network.movements, network.lanes.length_m
        lane, ahead_m, known = lane.copy(), np.zeros(len(lane)), first
        for part in range(1, PARTS_MAX + 1):
            way = np.flatnonzero((lane >= 0) & (self.lane[lane] >= 0) & (self.lane[lane] != lane))
            if not len(way):
                break
            anew = np.abs(number[way] % 2**20).astype(np.float64) + 7919.0 * part
            drawn = _draw(self.onward[lane[way]], self.onward_cumulative[lane[way]], anew)
            move = np.where(known[way] >= 0, known[way], drawn)
            ahead_m[way] += moves.length_m[move] + length_m[moves.to_lane[move]]
            lane[way] = moves.to_lane[move]
            known = np.full(len(lane), -1, np.int32)
        return lane, ahead_m

    def known_movements(self, table: VehicleTable) -> Ints:
        """Movement (V,) that each vehicle is thought to take at its next stop line, -1 where nothing is known."""
        own = table.movement
        if len(self.movement_link):
            own = np.where((own >= 0) & (self.movement_link[own] >= 0), own, -1)
        own = np.where(self.lane[table.lane] == table.lane, own, -1)
        told = own if table.line_movement is None else np.where(table.line_movement >= 0, table.line_movement, own)
        return told.astype(np.int32)

    def pick_movements(self, table: VehicleTable, lane: Ints | None = None) -> Ints:
        """Movement of each vehicle at its next stop line: by its known movement, else by the lane's shares.

        `lane` (V,): the approach lane it comes to, the nearest where None.
        """
        known = self.known_movements(table)
        guess = self.pick_by_share(self.lane[table.lane] if lane is None else lane, table.id)
        return np.where(known >= 0, known, guess).astype(np.int32)

    def pick_by_share(self, approach_lane: Ints, number: NDArray[np.int64]) -> Ints:
        """A movement for each vehicle from the shares of its approach lane, spread evenly by its number."""
        short = np.abs(number % 2**20).astype(np.float64)  # a float has no room for 63 bits
        return _draw(self.lane_moves[approach_lane], self.lane_cumulative[approach_lane], short)

    def pick_by_link(self, signal: Ints, link: Ints) -> Ints:
        """A movement for each vehicle of which only the link is known; the lanes of a link share evenly."""
        row = self.link_offset[signal] + link
        first = self.link_moves.offsets[row]
        count = self.link_moves.offsets[row + 1] - first
        turn = np.arange(len(row)) % np.maximum(count, 1)
        moves: Ints = self.link_moves.values[np.minimum(first + turn, len(self.link_moves.values) - 1)].astype(
            np.int32
        )
        return np.where(count > 0, moves, -1).astype(np.int32)


def _draw(moves: Ints, cumulative: Floats, number: Floats) -> Ints:
    """One of the movements (V, C) for each vehicle by its number, spread evenly as the shares say."""
    draw = np.mod(number * GOLDEN, 1.0)
    column = np.minimum((cumulative <= draw[:, None]).sum(axis=1), (moves >= 0).sum(axis=1) - 1)
    drawn: Ints = np.take_along_axis(moves, np.maximum(column, 0)[:, None], axis=1)[:, 0]
    return drawn


def build_stop_lines(network: Network, shares: Floats | None = None) -> StopLineMap:
    """Follow every lane downstream to its next stop line. `shares` (M,): of the from-lane; equal shares if None."""
    movements, lanes = network.movements, network.lanes
    count = len(lanes.ids)
    signal, lane = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    ahead = np.full(count, np.inf)
    offset = np.cumsum([0, *(s.link_count for s in network.signals)]).astype(np.int64)
    total = int(offset[-1])
    link_lane, link_out = np.full(total, -1, np.int32), np.full(total, -1, np.int32)
    for m in range(len(movements.turn)):
        s = int(movements.signal[m])
        if s < 0:
            continue
        a = int(movements.from_lane[m])
        signal[a], lane[a], ahead[a] = s, a, 0.0
        x = int(offset[s]) + int(movements.link[m])
        if link_lane[x] < 0:
            link_lane[x], link_out[x] = a, movements.to_lane[m]
    gap_lane, gap_beyond = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    frontier = [int(a) for a in np.flatnonzero(lane >= 0)]
    while frontier:
        here = frontier.pop(0)
        for m in network.lane_feeders[here].astype(np.int64):
            up = int(movements.from_lane[m])
            if movements.signal[m] >= 0 or (signal[up] >= 0 and ahead[up] == 0.0):
                continue
            distance = ahead[here] + float(lanes.length_m[here]) + float(movements.length_m[m])
            if distance < min(ahead[up], REACH_M):
                signal[up], lane[up], ahead[up] = signal[here], lane[here], distance
                near = movements.yields[m] and distance < GAP_AHEAD_M
                gap_lane[up], gap_beyond[up] = (up, here) if near else (gap_lane[here], -1)
                frontier.append(up)
    approaches = lane == np.arange(count)
    moves, cumulative = _move_shares(network, approaches, shares)
    onward, onward_cumulative = _move_shares(network, (lane >= 0) & ~approaches, shares)
    return StopLineMap(
        signal=signal,
        lane=lane,
        ahead_m=np.where(np.isfinite(ahead), ahead, 0.0),
        link_offset=offset,
        link_lane=link_lane,
        link_out=link_out,
        lane_links=np.append(movements.link, np.int32(-1))[moves],
        lane_moves=moves,
        lane_cumulative=cumulative,
        movement_link=movements.link,
        link_moves=_link_moves(network),
        onward=onward,
        onward_cumulative=onward_cumulative,
        gap_lane=gap_lane,
        gap_beyond=gap_beyond,
    )


def _link_moves(network: Network) -> Ragged:
    movements = network.movements
    rows: list[int] = []
    offsets = [0]
    for signal in network.signals:
        for moves in signal.link_movements:
            best: dict[int, int] = {}
            for m in sorted(moves, key=lambda m: (int(movements.turn[m]) != STRAIGHT, m)):
                best.setdefault(int(movements.from_lane[m]), m)
            rows += best.values()
            offsets.append(len(rows))
    return Ragged(np.array(offsets, np.int32), np.array(rows, np.int32))


def _move_shares(network: Network, which: Bools, shares: Floats | None) -> tuple[Ints, Floats]:
    """Movements of some lanes, those with a signal where there are any, and their cumulative shares."""
    movements, count = network.movements, len(network.lanes.ids)
    widest = max((len(network.lane_movements[a]) for a in range(count)), default=1)
    moves = np.full((count, max(widest, 1)), -1, np.int32)
    cumulative = np.ones((count, max(widest, 1)))
    for a in np.flatnonzero(which):
        own = [int(m) for m in network.lane_movements[int(a)]]
        rows = [m for m in own if movements.signal[m] >= 0] or own
        part = np.array([1.0 if shares is None else max(float(shares[m]), 1e-3) for m in rows])
        moves[a, : len(rows)] = rows
        cumulative[a, : len(rows)] = np.cumsum(part) / part.sum()
    return moves, cumulative
