"""The line graph that guidance searches: road edges joined by the turns a car may make, with their costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from networks.graph import PASSENGER, Bools, Floats, Ints, Network, Signal
from signals.lamps import GREEN

_SATURATION_VPS = 0.5  # a lane on green: 1800 veh/h, HCM 2016 base saturation flow less five per cent


@dataclass(frozen=True, slots=True)
class RouteGraph:
    """Turns in CSR form, forwards by the edge they leave and backwards by the edge they enter.

    `turn_s` is the time inside the junction plus what this turn waits longer at the signal than the mean turn of
    its edge: the mean itself is part of the edge's travel time, measured or free.
    """

    offsets: Ints  # (E+1,)
    targets: Ints  # (A,)
    turn_s: Floats  # (A,)
    back_offsets: Ints
    back_sources: Ints
    back_turn_s: Floats
    free_time_s: Floats  # (E,) at the limit, mean wait at the signal included
    capacity_vps: Floats  # (E,) over the stop line under the shipped programme
    open_to_cars: Bools  # (E,)


def build_route_graph(network: Network) -> RouteGraph:
    """The graph for cars, with waits and capacities of the shipped programmes."""
    movements, lanes = network.movements, network.lanes
    edges = len(network.edges.ids)
    green_frac, wait_s = _signal_terms(network)
    cars = ((lanes.allowed[movements.from_lane] & lanes.allowed[movements.to_lane]) & PASSENGER) > 0
    source, target = lanes.edge[movements.from_lane], lanes.edge[movements.to_lane]
    turns = np.bincount(source[cars], minlength=edges)
    mean_wait_s = np.bincount(source[cars], weights=wait_s[cars], minlength=edges) / np.maximum(turns, 1)
    inside_s = movements.length_m / np.maximum(movements.speed_mps, 1.0)
    cost_s = np.maximum(inside_s + wait_s - mean_wait_s[source], 0.0)
    rows = np.flatnonzero(cars)
    order = rows[np.lexsort((cost_s[rows], target[rows], source[rows]))]
    pairs = source[order].astype(np.int64) * edges + target[order]
    first = order[np.concatenate([[True], pairs[1:] != pairs[:-1]])] if len(order) else order
    from_edge, to_edge, turn_s = source[first], target[first], cost_s[first]
    back = np.argsort(to_edge, kind="stable")
    bounds = np.arange(edges + 1)
    lane_green_frac = np.zeros(len(lanes.ids))
    np.maximum.at(lane_green_frac, movements.from_lane[cars], green_frac[cars])
    car_lanes = (lanes.allowed & PASSENGER) > 0
    ends = ~np.isin(np.arange(edges), source[cars])  # an edge that leaves the network discharges freely
    lane_green_frac[ends[lanes.edge]] = 1.0
    discharge_vps: Floats = lane_green_frac * car_lanes * _SATURATION_VPS
    return RouteGraph(
        offsets=np.searchsorted(from_edge, bounds).astype(np.int32),
        targets=to_edge.astype(np.int32),
        turn_s=turn_s,
        back_offsets=np.searchsorted(to_edge[back], bounds).astype(np.int32),
        back_sources=from_edge[back].astype(np.int32),
        back_turn_s=turn_s[back],
        free_time_s=network.edges.length_m / np.maximum(network.edges.speed_limit_mps, 1.0) + mean_wait_s,
        capacity_vps=np.bincount(lanes.edge, weights=discharge_vps, minlength=edges).astype(np.float64),
        open_to_cars=np.bincount(lanes.edge[car_lanes], minlength=edges) > 0,
    )


def _signal_terms(network: Network) -> tuple[Floats, Floats]:
    """Green share and mean uniform wait of each movement (M,) under the shipped programmes.

    Uniform arrivals over the cycle wait r^2 / 2C, the first term of Webster (1958) without a queue.
    """
    count = len(network.movements.turn)
    green_frac, wait_s = np.ones(count), np.zeros(count)
    for signal in network.signals:
        if not signal.programmes or signal.programme.cycle_s <= 0:
            continue
        cycle_s = signal.programme.cycle_s
        for link, green_s in enumerate(_green_seconds(signal)):
            for movement in signal.link_movements[link]:
                green_frac[movement] = green_s / cycle_s
                wait_s[movement] = (cycle_s - green_s) ** 2 / (2.0 * cycle_s)
    return green_frac, wait_s


def _green_seconds(signal: Signal) -> list[float]:
    return [
        sum(p.duration_s for p in signal.programme.phases if p.state[link] in GREEN or p.state[link] in "oO")
        for link in range(signal.link_count)
    ]
