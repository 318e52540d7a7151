"""Who drives in the zone's morning: trips by purpose, their departures and their routes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from networks.graph import BICYCLE, PASSENGER, Floats, Network
from scenarios.zone.layout import Layout, turn_of
from scenarios.zone.parameters import ZoneParameters
from scenarios.zone.routing import Router

GRAVITY_M = 2500.0  # trips inside the zone thin out with distance: exp(-d / GRAVITY_M)
EBIKE_GRAVITY_M = 1200.0  # most e-bike trips are shorter than 3 km
EBIKE_DETOUR = 1.6  # a longer way round than that is walked or not made: e-bikes cannot turn left at signals
# Weight of the sides of the border for arriving and leaving trips: the city centre lies to the north-west.
INBOUND = {"N": 1.5, "W": 1.4, "S": 0.6, "E": 0.5}
OUTBOUND = {"N": 1.3, "W": 1.1, "S": 0.7, "E": 0.9}
PEAK_FACTOR = 1.05  # the busiest quarter over the mean hour, for the signal plan


@dataclass(frozen=True, slots=True)
class Trip:
    depart_s: float
    kind: str  # "car", "truck" or "ebike"
    path: tuple[int, ...]  # dense edge indices


@dataclass(frozen=True, slots=True)
class _Places:
    """Sources and sinks: accesses first, then gateways."""

    out_edge: list[int]
    into_edge: list[int]
    xy_m: Floats  # (Z, 2)
    home: Floats  # (Z,) weights, 0 at gateways
    work: Floats
    inbound: Floats  # (Z,) weights of trips that enter here, 0 at accesses
    outbound: Floats


def motor_trips(network: Network, layout: Layout, p: ZoneParameters) -> list[Trip]:
    """Cars and trucks, assigned slice by slice so that each slice sees the load of those before it."""
    rng = np.random.default_rng([p.seed, 3])
    places = _places(network, layout, p, rng)
    table = _trip_table(places, p, GRAVITY_M)
    count = round(p.trips_veh_h * p.duration_s / 3600)
    origins, targets = _draw_pairs(rng, table, count)
    router = Router(network, PASSENGER)
    load_vph = np.zeros(router.arc_count)
    departs = _departures(rng, count, p)
    trucks = rng.random(count) < p.truck_share
    slices = rng.integers(0, p.assignment_slices, count)
    trips: list[Trip] = []
    for part in range(p.assignment_slices):
        members = np.flatnonzero(slices == part)
        seen = max(part, 1) / p.assignment_slices
        cost = router.costs_s(load_vph / seen) * np.exp(rng.normal(0.0, p.route_spread, router.arc_count))
        _, before = router.trees(cost, places.out_edge)
        for i in members:
            path = router.path(before[origins[i]], places.into_edge[targets[i]])
            if path:
                trips.append(Trip(float(departs[i]), "truck" if trucks[i] else "car", path))
                load_vph[router.arcs(path)] += 3600 / p.duration_s
    return sorted(trips, key=lambda t: t.depart_s)


def ebike_trips(network: Network, layout: Layout, p: ZoneParameters) -> list[Trip]:
    """E-bikes on their own lanes; pairs that only a long way round would join are dropped and drawn again."""
    rng = np.random.default_rng([p.seed, 4])
    places = _places(network, layout, p, rng)
    table = _trip_table(places, p, EBIKE_GRAVITY_M)
    router = Router(network, BICYCLE)
    distance, before = router.trees(network.edges.length_m[router.end], places.out_edge)
    straight = np.abs(places.xy_m[:, None, :] - places.xy_m[None, :, :]).sum(axis=2)
    way = distance[:, places.into_edge]
    table = np.where(way <= EBIKE_DETOUR * straight + 200.0, table, 0.0)
    if table.sum() <= 0:
        return []
    count = round(p.ebikes_h * p.duration_s / 3600)
    origins, targets = _draw_pairs(rng, table / table.sum(), count)
    departs = _departures(rng, count, p)
    return [
        Trip(float(departs[i]), "ebike", router.path(before[origins[i]], places.into_edge[targets[i]]))
        for i in np.argsort(departs, kind="stable")
    ]


def movement_flows(
    network: Network, layout: Layout, trips: list[Trip], p: ZoneParameters
) -> dict[str, dict[tuple[str, str], float]]:
    """Signal -> (side, turn) -> veh/h in the busiest quarter."""
    approach = {leg.approach: (n, side) for n, legs in layout.legs.items() for side, leg in legs.items()}
    leaving = {leg.exit: side for legs in layout.legs.values() for side, leg in legs.items()}
    flows: dict[str, dict[tuple[str, str], float]] = defaultdict(lambda: defaultdict(float))
    ids = network.edges.ids
    weight = PEAK_FACTOR * 3600 / p.duration_s
    for trip in trips:
        for a, b in pairwise(trip.path):
            if ids[a] in approach:
                node, side = approach[ids[a]]
                flows[node][side, turn_of(side, leaving[ids[b]])] += weight
    return flows


def _places(network: Network, layout: Layout, p: ZoneParameters, rng: np.random.Generator) -> _Places:
    index = network.edge_index
    n_access = len(layout.accesses)
    xy = np.array(
        [(a.x_m, a.y_m) for a in layout.accesses]
        + [(layout.nodes[g.id].x_m, layout.nodes[g.id].y_m) for g in layout.gateways]
    )
    x = xy[:n_access, 0]
    middle, width = (x.max() + x.min()) / 2, max(float(np.ptp(x)), 1.0)
    eastness = 1.0 / (1.0 + np.exp(-p.tidal_sharpness * 2.0 * (x - middle) / width))
    size = rng.lognormal(0.0, 0.5, (2, n_access))
    gates = len(layout.gateways)
    none, nobody = np.zeros(n_access), np.zeros(gates)
    lanes = np.array([g.street.lanes for g in layout.gateways], float)
    return _Places(
        out_edge=[index[a.out] for a in layout.accesses] + [index[g.inbound] for g in layout.gateways],
        into_edge=[index[a.into] for a in layout.accesses] + [index[g.outbound] for g in layout.gateways],
        xy_m=xy,
        home=np.concatenate([(1 - eastness) * size[0], nobody]),
        work=np.concatenate([eastness * size[1], nobody]),
        inbound=np.concatenate([none, lanes * [INBOUND[g.side] for g in layout.gateways]]),
        outbound=np.concatenate([none, lanes * [OUTBOUND[g.side] for g in layout.gateways]]),
    )


def _trip_table(places: _Places, p: ZoneParameters, gravity_m: float) -> Floats:
    """Share of all trips by origin and destination, (Z, Z), summing to one."""
    far = np.abs(places.xy_m[:, None, :] - places.xy_m[None, :, :]).sum(axis=2)
    pull = np.exp(-far / gravity_m)
    across = np.where(far > 0.5 * far.max(), 1.0, 0.15)  # through trips cross the zone rather than clip its corner
    np.fill_diagonal(across, 0.0)
    np.fill_diagonal(pull, 0.0)
    purposes = (
        np.outer(places.inbound, places.work) * pull,
        np.outer(places.home, places.work) * pull,
        np.outer(places.home, places.outbound) * pull,
        np.outer(places.inbound, places.outbound) * across,
        np.outer(places.work, places.outbound) * pull + np.outer(places.inbound, places.home) * pull,
    )
    shares = [s * t / t.sum() for s, t in zip(p.purpose_shares, purposes, strict=True)]
    return np.asarray(np.sum(shares, axis=0))


def _draw_pairs(rng: np.random.Generator, table: Floats, count: int) -> tuple[list[int], list[int]]:
    chosen = rng.choice(table.size, size=count, p=table.ravel() / table.sum())
    return [int(c) // table.shape[1] for c in chosen], [int(c) % table.shape[1] for c in chosen]


def _departures(rng: np.random.Generator, count: int, p: ZoneParameters) -> Floats:
    """Departure seconds that follow the profile, to a tenth of a second."""
    weights = np.array(p.profile) / sum(p.profile)
    part = rng.choice(len(weights), size=count, p=weights)
    return np.asarray(np.round((part + rng.random(count)) * p.duration_s / len(weights), 1))
