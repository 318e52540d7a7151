"""Shortest paths on the line graph: nodes are road edges, arcs are turns with a cost. Pure kernels.

Travel times change with time: `times_s` (K,) ascending and `travel_s` (K, E), linear between, constant outside. With
slopes of at least -1 (see `make_fifo`) nobody gains by waiting and Dijkstra's algorithm stays exact.
Source: Kaufman & Smith (1993), fastest paths in time-dependent networks.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from networks.heap_kernels import drop_first, push

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]


@njit(cache=True)
def travel_at(edge: int, enter_s: float, times_s: Floats, travel_s: Floats) -> float:
    """Seconds on an edge entered at `enter_s`."""
    last = times_s.shape[0] - 1
    answer: float
    if enter_s <= times_s[0]:
        answer = travel_s[0, edge]
    elif enter_s >= times_s[last]:
        answer = travel_s[last, edge]
    else:
        low = 0
        while times_s[low + 1] < enter_s:
            low += 1
        share = (enter_s - times_s[low]) / (times_s[low + 1] - times_s[low])
        answer = travel_s[low, edge] * (1.0 - share) + travel_s[low + 1, edge] * share
    return answer


@njit(cache=True)
def make_fifo(times_s: Floats, travel_s: Floats) -> None:
    """Raise travel times (K, E) in place where they fall faster than time passes: who enters later leaves later."""
    for k in range(1, travel_s.shape[0]):
        step_s = times_s[k] - times_s[k - 1]
        for e in range(travel_s.shape[1]):
            travel_s[k, e] = max(travel_s[k, e], travel_s[k - 1, e] - step_s)


@njit(cache=True)
def search_from(
    origin: int,
    leave_origin_s: float,
    wanted: Bools,
    times_s: Floats,
    travel_s: Floats,
    penalty_s: Floats,
    closed: Bools,
    offsets: Ints,
    targets: Ints,
    turn_s: Floats,
    heap_key: Floats,
    heap_node: Ints,
    leave_s: Floats,
    previous: Ints,
) -> None:
    """Earliest time of leaving every edge for a vehicle that leaves `origin` at `leave_origin_s`.

    wanted     (E,) bool     stop once all of these are settled
    penalty_s  (E,) float64  added to the time of an edge, 0 or more
    closed     (E,) bool     may not be entered
    offsets, targets, turn_s CSR of the turns
    heap_key, heap_node (A+1,) work space, A turns
    leave_s    (E,) float64  written: inf where not reached; final only for settled edges
    previous   (E,) int32    written: edge before, -1
    """
    leave_s[:] = np.inf
    previous[:] = -1
    missing = 0
    for e in range(wanted.shape[0]):
        missing += wanted[e]
    leave_s[origin] = leave_origin_s
    size = push(heap_key, heap_node, 0, leave_origin_s, origin)
    while size > 0 and missing > 0:
        key, edge = heap_key[0], heap_node[0]
        size = drop_first(heap_key, heap_node, size)
        if key > leave_s[edge]:
            continue
        missing -= wanted[edge]
        for arc in range(offsets[edge], offsets[edge + 1]):
            target = targets[arc]
            if closed[target]:
                continue
            enter_s = key + turn_s[arc]
            new_s = enter_s + travel_at(target, enter_s, times_s, travel_s) + penalty_s[target]
            if new_s < leave_s[target]:
                leave_s[target] = new_s
                previous[target] = edge
                size = push(heap_key, heap_node, size, new_s, target)


@njit(cache=True)
def search_to(
    destination: int,
    travel_s: Floats,
    back_offsets: Ints,
    back_sources: Ints,
    back_turn_s: Floats,
    heap_key: Floats,
    heap_node: Ints,
    rest_s: Floats,
    following: Ints,
) -> None:
    """Least time from the end of every edge to the end of `destination` on constant travel times (E,).

    back_*     CSR of the turns by the edge they lead to
    rest_s     (E,) float64  written: inf where the destination cannot be reached
    following  (E,) int32    written: next edge on the way, -1
    """
    rest_s[:] = np.inf
    following[:] = -1
    rest_s[destination] = 0.0
    size = push(heap_key, heap_node, 0, 0.0, destination)
    while size > 0:
        key, edge = heap_key[0], heap_node[0]
        size = drop_first(heap_key, heap_node, size)
        if key > rest_s[edge]:
            continue
        for arc in range(back_offsets[edge], back_offsets[edge + 1]):
            source = back_sources[arc]
            new_s = key + back_turn_s[arc] + travel_s[edge]
            if new_s < rest_s[source]:
                rest_s[source] = new_s
                following[source] = edge
                size = push(heap_key, heap_node, size, new_s, source)


@njit(cache=True)
def walk(
    route: Ints,
    leave_first_s: float,
    times_s: Floats,
    travel_s: Floats,
    closed: Bools,
    offsets: Ints,
    targets: Ints,
    turn_s: Floats,
) -> float:
    """When a vehicle that leaves route[0] at `leave_first_s` leaves the last edge of the route; inf where an edge
    is closed or two are not connected."""
    now_s = leave_first_s
    for i in range(1, route.shape[0]):
        edge = route[i]
        if closed[edge]:
            return np.inf
        turn = np.inf
        for arc in range(offsets[route[i - 1]], offsets[route[i - 1] + 1]):
            if targets[arc] == edge:
                turn = turn_s[arc]
        if turn == np.inf:
            return np.inf
        now_s += turn
        now_s += travel_at(edge, now_s, times_s, travel_s)
    return now_s
