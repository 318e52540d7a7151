"""A mesoscopic SUMO run of a city's demand, watched edge by edge: what the prior, past days and outlooks rest on.

The model: link transmission with junction control and a small penalty at minor links. Against two microscopic runs of
the hour of Bologna it had 90 % of edge flows within GEH 5 (plain mesoscopic: 75 %; the other microscopic run: 96 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from networks.city import CityFolder
from networks.graph import Floats, Network
from scenarios.announced import Announced, Happenings
from scenarios.passages import UNCOUNTED, Passages
from scenarios.simulation import RunSpec, Simulation

# Cyclists' routes may use connections that the mesoscopic model lacks: they are taken out, and must not stop the run.
MESOSCOPIC_OPTIONS = ("--meso-junction-control", "--meso-ltm", "--meso-minor-penalty", "2", "--ignore-route-errors")
LOOK_EVERY_S = 5.0
SEED = 8  # any fixed number: the prior of a city is one and the same thing for everybody


@dataclass(frozen=True, slots=True)
class EdgeRun:
    """What the simulating process hands back; rows are steps from the city's first second on."""

    flow_vps: Floats  # (T, E) leaving the edge, arrivals there included
    speed_mps: Floats  # (T, E) space mean; the limit where nobody drove
    edge_vehicles: Floats  # (T, E)
    departed_vps: Floats  # (T, E)
    arrived_vps: Floats  # (T, E)
    pairs: Floats  # (P, 2) consecutive edges of routes
    pair_count: Floats  # (P,)


def simulate_edges(
    city: CityFolder, network: Network, step_s: float, count: int, routes: Sequence[Path] = (), seed: int = SEED,
    announced: Announced | None = None,
) -> EdgeRun:  # fmt: skip
    """Run the city's demand, or other `routes`, in this process, which must do nothing else.

    `announced`: closures, limits and rain that become real on the way.
    """
    spec = RunSpec(
        network=city.network,
        routes=tuple(routes) or city.routes,
        additional=city.additions,
        begin_s=city.begin_s,
        seed=seed,
        mesoscopic=True,
        extra=MESOSCOPIC_OPTIONS,
    )
    edges = len(network.edges.ids)
    flow_vps, departed_vps, arrived_vps = (np.zeros((count, edges)) for _ in range(3))
    vehicles = np.zeros((count, edges))
    pair_count: dict[tuple[int, int], int] = {}
    with Simulation(spec) as simulation:
        passages = Passages(simulation.sumo, network)
        happenings = Happenings(simulation.sumo, network, passages, announced) if announced else None
        next_look_s = city.begin_s + LOOK_EVERY_S
        _remove_uncounted(simulation.sumo)
        while simulation.now_s < city.end_s:
            simulation.step()
            _remove_uncounted(simulation.sumo)
            departed = passages.note_step()
            for vehicle in departed:
                route = passages.rides[vehicle].route
                for pair in pairwise(route):
                    pair_count[pair] = pair_count.get(pair, 0) + 1
            if happenings is not None:
                happenings.apply(city.epoch_s + simulation.now_s - city.begin_s, departed)
            if simulation.now_s < min(next_look_s, city.end_s):
                continue
            next_look_s += LOOK_EVERY_S
            passages.look()
            row = min(count - 1, int((simulation.now_s - 0.5 - city.begin_s) / step_s))
            for target, counted in zip((flow_vps, departed_vps, arrived_vps), passages.take(), strict=True):
                target[row] += counted
            for ride in passages.rides.values():
                vehicles[row, ride.route[ride.at]] += 1
    seconds = np.full(count, step_s)
    seconds[-1] = city.end_s - city.begin_s - (count - 1) * step_s
    driven_m = flow_vps * _length_with_junction(network)  # still vehicles: `flow_vps` becomes a rate below
    limit_mps = network.edges.speed_limit_mps
    speed_mps = np.where(vehicles > 0, driven_m / (np.maximum(vehicles, 1) * LOOK_EVERY_S), limit_mps)
    return EdgeRun(
        flow_vps / seconds[:, None],
        np.minimum(speed_mps, limit_mps),
        vehicles * LOOK_EVERY_S / seconds[:, None],
        departed_vps / seconds[:, None],
        arrived_vps / seconds[:, None],
        np.array(sorted(pair_count), np.float64).reshape(-1, 2),
        np.array([pair_count[p] for p in sorted(pair_count)], np.float64),
    )


def _remove_uncounted(sumo: Any) -> None:
    departed = frozenset(sumo.simulation.getDepartedIDList())
    for vehicle in sumo.simulation.getLoadedIDList():
        if vehicle in departed:  # in the very step that loaded it: others still ask for it
            continue
        with suppress(sumo.TraCIException):  # SUMO itself has dropped one without a route
            if sumo.vehicle.getVehicleClass(vehicle) in UNCOUNTED:
                sumo.vehicle.remove(vehicle)


def _length_with_junction(network: Network) -> Floats:
    """(E,) with the mean way through the junction: a vehicle counts on its edge until it enters the next."""
    movements, lanes = network.movements, network.lanes
    edge = lanes.edge[movements.from_lane]
    ways = np.bincount(edge, minlength=len(network.edges.ids))
    inside_m = np.bincount(edge, movements.length_m, minlength=len(network.edges.ids))
    return network.edges.length_m + inside_m / np.maximum(ways, 1)
