"""Edge-to-edge counts of routes -> turning shares of lanes."""

from __future__ import annotations

import numpy as np

from networks.graph import BUS, EMERGENCY, PASSENGER, TRUCK, Floats, Ints, Network

SWEEPS = 8  # of the levelling; the approaches of Bologna settle to 0.1 vehicles in five


def spread_over_lanes(network: Network, pairs: Ints, count: Floats) -> tuple[Floats, Floats]:
    """Turning shares (M,) and the vehicles (M,) they rest on, from counts (P,) of consecutive edges (P, 2).

    Drivers are taken to fill the lanes that serve their turn evenly: every pair's vehicles go to its least loaded
    lanes, in sweeps until the loads settle (water filling; the minimum of the sum of squared lane loads). Vehicles
    of one lane bound for several lanes of the same edge split evenly. Lanes without any vehicle split evenly.
    """
    table, lanes = network.movements, network.lanes
    from_edge, to_edge = lanes.edge[table.from_lane], lanes.edge[table.to_lane]
    usable = lanes.allowed[table.from_lane] & lanes.allowed[table.to_lane]
    serving: dict[tuple[int, int], dict[int, list[int]]] = {}
    for may_drive in (PASSENGER, BUS | TRUCK | EMERGENCY):  # bus lanes only where cars have none
        ahead = set(serving)
        for movement in np.flatnonzero(usable & may_drive):
            pair = int(from_edge[movement]), int(to_edge[movement])
            if pair not in ahead:
                serving.setdefault(pair, {}).setdefault(int(table.from_lane[movement]), []).append(int(movement))
    demand = [
        (list(by_lane), by_lane, float(number))
        for (a, b), number in zip(pairs.tolist(), count.tolist(), strict=True)
        if (by_lane := serving.get((a, b)))
    ]
    load = np.zeros(len(lanes.ids))
    placed = [np.zeros(len(members)) for members, _, _ in demand]
    for _ in range(SWEEPS):
        for k, (members, _, number) in enumerate(demand):
            load[members] -= placed[k]
            placed[k] = pour(load[members], number)
            load[members] += placed[k]
    vehicles = np.zeros(len(table.from_lane))
    for (members, by_lane, _), amounts in zip(demand, placed, strict=True):
        for lane, amount in zip(members, amounts, strict=True):
            vehicles[by_lane[lane]] += amount / len(by_lane[lane])
    total = np.bincount(table.from_lane, vehicles, minlength=len(lanes.ids))[table.from_lane]
    even = 1.0 / np.bincount(table.from_lane, minlength=len(lanes.ids))[table.from_lane]
    share = np.where(total > 0, vehicles / np.where(total > 0, total, 1.0), even)
    return share, vehicles


def pour(level: Floats, amount: float) -> Floats:
    """Split `amount` over vessels filled to `level` (K,) so that the fullest of those that get any is lowest."""
    order = np.argsort(level, kind="stable")
    ordered = level[order]
    filled = (amount + np.cumsum(ordered)) / np.arange(1, len(level) + 1)
    surface = filled[np.flatnonzero(filled >= ordered)[-1]]
    poured: Floats = np.maximum(0.0, surface - level)
    return poured
