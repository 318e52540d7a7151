"""Which lanes a position may lie on, how far it is from lane to lane by road, and one step of Viterbi's algorithm.

Imports math, numba, numpy and `networks.heap_kernels`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from networks.heap_kernels import drop_first, push

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Rows = NDArray[np.int64]

FAR = 1e12
"""Length of a way that there is none, and cost of what cannot be."""


@njit(cache=True)
def find_candidates(
    x_m: float,
    y_m: float,
    heading_rad: float,
    segments: Floats,
    segment_lane: Ints,
    cells: Floats,
    cell_offsets: Ints,
    cell_segments: Ints,
    reach_m: float,
    position_m: float,
    heading_sigma_rad: float,
    lane: Ints,
    along_m: Floats,
    cost: Floats,
) -> int:
    """Write the nearest point of every lane within reach, at most as many as there is room for, and how many.

    heading_rad  float      NaN: not known
    segments..   as in `twin.placing_kernels.place_points`
    position_m   float      sigma of a position
    lane         (K,)       written
    along_m      (K,)       written: from the lane's start
    cost         (K,)       written: minus the log-likelihood, off / sigma squared and halved, and so for the heading
    """
    room, found = len(lane), 0
    columns = int(cells[3])
    rows = (len(cell_offsets) - 1) // columns
    column = int((x_m - cells[0]) // cells[2])
    row = int((y_m - cells[1]) // cells[2])
    if column < 0 or row < 0 or column >= columns or row >= rows:
        return 0
    cell = row * columns + column
    for j in range(cell_offsets[cell], cell_offsets[cell + 1]):
        s = cell_segments[j]
        dx, dy = x_m - segments[s, 0], y_m - segments[s, 1]
        inside = min(max(dx * segments[s, 2] + dy * segments[s, 3], 0.0), segments[s, 4])
        off = math.hypot(dx - inside * segments[s, 2], dy - inside * segments[s, 3])
        if off > reach_m:
            continue
        value = 0.5 * (off / position_m) ** 2
        if not math.isnan(heading_rad):
            turn = math.cos(heading_rad) * segments[s, 2] + math.sin(heading_rad) * segments[s, 3]
            value += 0.5 * (math.acos(min(max(turn, -1.0), 1.0)) / heading_sigma_rad) ** 2
        at = segments[s, 5] + inside * segments[s, 6]
        place = -1
        for k in range(found):
            if lane[k] == segment_lane[s]:
                place = k
        if place < 0 and found < room:
            place, found = found, found + 1
            cost[place] = FAR
        elif place < 0:
            place = 0
            for k in range(1, found):
                if cost[k] > cost[place]:
                    place = k
        if value < cost[place]:
            lane[place], along_m[place], cost[place] = segment_lane[s], at, value
    return found


@njit(cache=True)
def search_ways(
    lane: int,
    along_m: float,
    limit_m: float,
    change_m: float,
    move_offsets: Ints,
    move_rows: Ints,
    move_to: Ints,
    move_m: Floats,
    lane_m: Floats,
    lane_edge: Ints,
    edge_first: Ints,
    open_lane: NDArray[np.bool_],
    reached_m: Floats,
    before: Ints,
    heap_keys: Floats,
    heap_items: Ints,
) -> None:
    """Shortest ways by road from a point to the starts of lanes, up to a length.

    change_m    float  what one lane change costs
    move_*      movements of each lane: CSR, target lane, length inside the junction
    open_lane   (L,)   lanes that may be driven on
    reached_m   (L,)   written: length to the lane's start, FAR beyond the limit
    before      (L,)   written: lane from which it was reached, by movement or lane change; -1 the start
    heap_*      (H,)   scratch
    """
    reached_m[:] = FAR
    size = 0
    edge = lane_edge[lane]
    share = min(along_m / max(lane_m[lane], 1e-6), 1.0)
    for beside in range(edge_first[edge], edge_first[edge + 1]):
        if not open_lane[beside]:
            continue
        out_m = abs(beside - lane) * change_m + (1.0 - share) * lane_m[beside]
        for j in range(move_offsets[beside], move_offsets[beside + 1]):
            m = move_rows[j]
            key = out_m + move_m[m]
            target = move_to[m]
            if key < reached_m[target] and key <= limit_m and open_lane[target]:
                reached_m[target] = key
                before[target] = lane
                size = push(heap_keys, heap_items, size, key, target)
    while size > 0:
        key, here = heap_keys[0], heap_items[0]
        size = drop_first(heap_keys, heap_items, size)
        if key > reached_m[here]:
            continue
        edge = lane_edge[here]
        for beside in (here - 1, here + 1):
            if beside < edge_first[edge] or beside >= edge_first[edge + 1] or not open_lane[beside]:
                continue
            further = key + change_m
            if further < reached_m[beside] and further <= limit_m:
                reached_m[beside] = further
                before[beside] = here
                size = push(heap_keys, heap_items, size, further, beside)
        for j in range(move_offsets[here], move_offsets[here + 1]):
            m = move_rows[j]
            further = key + lane_m[here] + move_m[m]
            target = move_to[m]
            if further < reached_m[target] and further <= limit_m and open_lane[target]:
                reached_m[target] = further
                before[target] = here
                size = push(heap_keys, heap_items, size, further, target)


@njit(cache=True)
def way_to(
    lane: int,
    along_m: float,
    to_lane: int,
    to_along_m: float,
    change_m: float,
    slack_m: float,
    lane_m: Floats,
    lane_edge: Ints,
    reached_m: Floats,
) -> float:
    """Length by road to a point, given `search_ways` from the first; a step back within the slack has length 0."""
    best = reached_m[to_lane] + to_along_m if reached_m[to_lane] < FAR else FAR
    if lane_edge[lane] == lane_edge[to_lane]:
        forward = (to_along_m / max(lane_m[to_lane], 1e-6) - along_m / max(lane_m[lane], 1e-6)) * lane_m[to_lane]
        if forward >= -slack_m:
            best = min(best, max(forward, 0.0) + abs(to_lane - lane) * change_m)
    return best


@njit(cache=True)
def viterbi_step(
    last_lane: Ints,
    last_along_m: Floats,
    last_score: Floats,
    lane: Ints,
    along_m: Floats,
    cost: Floats,
    straight_m: float,
    limit_m: float,
    beta_m: float,
    change_m: float,
    slack_m: float,
    move_offsets: Ints,
    move_rows: Ints,
    move_to: Ints,
    move_m: Floats,
    lane_m: Floats,
    lane_edge: Ints,
    edge_first: Ints,
    open_lane: NDArray[np.bool_],
    reached_m: Floats,
    before: Ints,
    heap_keys: Floats,
    heap_items: Ints,
    score: Floats,
    back: Ints,
) -> bool:
    """One step of the hidden Markov model of Newson and Krumm (2009); False when nothing leads from last to now.

    last_score   (J,)  of the candidates before, the best 0; about -FAR where no chain ends
    straight_m   float distance between both positions as the crow flies
    score, back  (K,)  written: minus the cost of the best chain, and the candidate before in it
    """
    score[:] = -FAR
    back[:] = -1
    connected = False
    for j in range(len(last_lane)):
        if last_score[j] <= -FAR / 2:
            continue
        search_ways(
            last_lane[j],
            last_along_m[j],
            limit_m,
            change_m,
            move_offsets,
            move_rows,
            move_to,
            move_m,
            lane_m,
            lane_edge,
            edge_first,
            open_lane,
            reached_m,
            before,
            heap_keys,
            heap_items,
        )
        for k in range(len(lane)):
            way_m = way_to(
                last_lane[j], last_along_m[j], lane[k], along_m[k], change_m, slack_m, lane_m, lane_edge, reached_m
            )
            if way_m >= FAR:
                continue
            total = last_score[j] - abs(way_m - straight_m) / beta_m - cost[k]
            if total > score[k]:
                score[k], back[k] = total, j
                connected = True
    return connected
