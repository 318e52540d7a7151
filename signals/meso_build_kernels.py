"""Lane choice ahead of time: for each stretch of a route, the lanes that lead on and what they cost later."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

I32: TypeAlias = NDArray[np.int32]
F64: TypeAlias = NDArray[np.float64]
FAR = 1e6
WIDEST = 32  # lanes of an edge looked at


@njit(cache=True)
def _change_s(lanes: int, length_m: float) -> float:
    """Expected time that so many lane changes cost on an edge of this length: dear where there is no room."""
    return lanes * (0.5 + 150.0 / max(length_m, 5.0))


@njit(cache=True)
def fill_choices(
    stretch: I32,
    allowed: I32,
    first_lane: I32,
    lane_allowed: I32,
    lane_length_m: F64,
    lane_moves_first: I32,
    lane_moves: I32,
    move_to: I32,
    lane_edge: I32,
    first: I32,
    lane: I32,
    move: I32,
    cost_s: F64,
) -> None:
    """Choices of every context: the lanes of its first edge from which the second can be entered.

    stretch          (C, 4) int32   edges: the one entered and the next three, -1 past the end of the route
    allowed          (C,) int32     class bit of the vehicle
    first_lane       (E+1,) int32   lanes of edge e: first_lane[e]..first_lane[e+1]
    lane_allowed     (L,) int32     class bits
    lane_length_m    (L,) float64
    lane_moves_first (L+1,) int32   lane_moves[...] are the movements leaving a lane
    lane_moves       (M,) int32
    move_to          (M,) int32     receiving lane
    lane_edge        (L,) int32
    first            (C+1,) int32   written: choices of context c are first[c]..first[c+1]
    lane, move       (X,) int32     written, X an upper bound (lanes of the first edges)
    cost_s           (X,) float64   written: cost of the lane changes that the choice leaves to be done later

    Where permissions or connections leave no lane, every lane of the first edge is a choice without a movement: the
    vehicle leaves the network there.
    """
    after = np.zeros((3, WIDEST))  # cost of going on from each lane of the second, third and fourth edge
    count = 0
    for c in range(len(allowed)):
        bit = allowed[c]
        for depth in range(2, -1, -1):
            edge = stretch[c, depth + 1]
            if edge < 0:
                continue
            begin, width = first_lane[edge], min(first_lane[edge + 1] - first_lane[edge], WIDEST)
            following = stretch[c, depth + 2] if depth < 2 else -1
            if following < 0:
                for x in range(width):
                    after[depth, x] = 0.0 if lane_allowed[begin + x] & bit else FAR
                continue
            then = first_lane[following]
            for x in range(width):
                after[depth, x] = FAR
            for y in range(width):
                if not lane_allowed[begin + y] & bit:
                    continue
                best = FAR
                for i in range(lane_moves_first[begin + y], lane_moves_first[begin + y + 1]):
                    to = move_to[lane_moves[i]]
                    if lane_edge[to] == following and to - then < WIDEST:
                        best = min(best, after[depth + 1, to - then])
                for x in range(width):
                    change = _change_s(abs(x - y), lane_length_m[begin + y])
                    after[depth, x] = min(after[depth, x], best + change)
        first[c] = count
        edge, following = stretch[c, 0], stretch[c, 1]
        begin, end = first_lane[edge], min(first_lane[edge + 1], first_lane[edge] + WIDEST)
        for y in range(begin, end):
            if not lane_allowed[y] & bit:
                continue
            if following < 0:
                lane[count], move[count], cost_s[count] = y, -1, 0.0
                count += 1
                continue
            best, chosen = FAR, -1
            for i in range(lane_moves_first[y], lane_moves_first[y + 1]):
                to = move_to[lane_moves[i]]
                if lane_edge[to] == following and to - first_lane[following] < WIDEST:
                    cost = after[0, to - first_lane[following]]
                    if cost < best:
                        best, chosen = cost, lane_moves[i]
            if chosen >= 0:
                lane[count], move[count], cost_s[count] = y, chosen, best
                count += 1
        if count == first[c]:
            for y in range(begin, end):
                lane[count], move[count], cost_s[count] = y, -1, 0.0
                count += 1
    first[len(allowed)] = count
