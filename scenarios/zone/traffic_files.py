"""The zone's demand as SUMO files: vehicle types, cars, e-bikes, buses with their stops, walkers."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from networks.graph import PASSENGER, Network
from scenarios.zone.demand import Trip
from scenarios.zone.layout import FIRST_MOTOR, Layout, opposite
from scenarios.zone.parameters import ZoneParameters
from scenarios.zone.routing import Router

# Gaps and accelerations: SUMO defaults of each class, lengths of Chinese fleets (GB 1589-2016 for trucks and buses).
VEHICLE_TYPES = """<routes>
    <vType id="car" vClass="passenger" length="4.7" minGap="2.2" accel="2.4" decel="4.5" sigma="0.5" tau="1.2"
           speedFactor="normc(1.00,0.10,0.75,1.20)"/>
    <vType id="truck" vClass="truck" length="8.0" minGap="2.5" accel="1.3" decel="4.0" sigma="0.5" tau="1.5"
           maxSpeed="22.22" speedFactor="normc(0.92,0.08,0.70,1.05)"/>
    <vType id="bus" vClass="bus" length="12.0" minGap="2.5" accel="1.2" decel="4.0" sigma="0.5" tau="1.5"
           maxSpeed="19.44" speedFactor="normc(0.92,0.06,0.75,1.05)"/>
    <vType id="ebike" vClass="bicycle" length="1.8" width="0.75" minGap="0.6" accel="1.4" decel="3.0" sigma="0.5"
           maxSpeed="6.94" speedFactor="normc(1.00,0.10,0.70,1.20)"/>
    <vType id="walker" vClass="pedestrian" speedFactor="normc(1.00,0.12,0.70,1.30)"/>
</routes>
"""
STOP_AT_M, STOP_LENGTH_M = 30.0, 26.0  # far-side bus bays, two buses long
DWELL_S = (12, 30)
TIMETABLE_MPS = 8.0  # the speed the timetable counts on, stops and signals included; a bus ahead of it waits
WALK_START_M, WALK_END_M = 30.0, 30.0  # walkers appear and vanish so far from the junction


def write_trips(path: Path, network: Network, trips: Iterable[Trip], prefix: str) -> None:
    """`trips` in order of departure."""
    ids = network.edges.ids
    rows = ["<routes>\n"]
    for i, trip in enumerate(trips):
        edges = " ".join(ids[e] for e in trip.path)
        rows.append(
            f'    <vehicle id="{prefix}{i}" type="{trip.kind}" depart="{trip.depart_s:.1f}" departLane="best"'
            f' departSpeed="max"><route edges="{edges}"/></vehicle>\n'
        )
    _save(path, [*rows, "</routes>\n"])


def write_buses(stops: Path, routes: Path, network: Network, layout: Layout, p: ZoneParameters) -> None:
    """Lines run along every second arterial, both ways, with a stop behind every junction of two arterials."""
    rng = np.random.default_rng([p.seed, 5])
    router = Router(network, PASSENGER)
    _, before = router.trees(
        router.costs_s(np.zeros(router.arc_count)), [network.edge_index[g.inbound] for g in layout.gateways]
    )
    lengths = dict(zip(network.edges.ids, network.edges.length_m, strict=True))
    stop_rows, buses = {}, []
    number = 0
    for i, gate in enumerate(layout.gateways):
        other = next(g for g in layout.gateways if g.side == opposite(gate.side) and g.id[2:] == gate.id[2:])
        if int(gate.id[2:]) // 2 % 2 == 0:
            continue
        number += 1
        path = [network.edges.ids[e] for e in router.path(before[i], network.edge_index[other.outbound])]
        served = [e for e in path if _has_stop(layout, e) and lengths[e] > STOP_AT_M + STOP_LENGTH_M + 10]
        for edge in served:
            stop_rows[edge] = (
                f'    <busStop id="stop_{edge}" lane="{edge}_{FIRST_MOTOR}" startPos="{STOP_AT_M}"'
                f' endPos="{STOP_AT_M + STOP_LENGTH_M}" name="{layout.edges[edge].street.name}"/>\n'
            )
        first = float(rng.integers(0, int(p.bus_headway_s)))
        for run, depart in enumerate(np.arange(first, p.duration_s, p.bus_headway_s)):
            halts, clock = [], float(depart)
            for e in path:
                clock += lengths[e] / TIMETABLE_MPS
                if e in served:
                    halts.append(
                        f'<stop busStop="stop_{e}" duration="{rng.integers(*DWELL_S)}" until="{clock:.0f}"'
                        ' parking="true"/>'
                    )
            way = f'<route edges="{" ".join(path)}"/>{"".join(halts)}'
            buses.append(
                (
                    float(depart),
                    f'    <vehicle id="bus{number}_{run}" type="bus" line="{number}" depart="{depart:.1f}"'
                    f' departLane="best" departSpeed="max">{way}</vehicle>\n',
                )
            )
    _save(stops, ["<additional>\n", *(stop_rows[e] for e in sorted(stop_rows)), "</additional>\n"])
    _save(routes, ["<routes>\n", *(row for _, row in sorted(buses)), "</routes>\n"])


def _has_stop(layout: Layout, edge: str) -> bool:
    """The edge leaves a junction of two arterials."""
    legs = layout.legs.get(layout.edges[edge].start, {})
    return bool(legs) and all(leg.street.arterial for leg in legs.values())


def write_walkers(path: Path, network: Network, layout: Layout, p: ZoneParameters) -> None:
    """People who walk from one arm of a junction to another, over one crossing or two."""
    rng = np.random.default_rng([p.seed, 6])
    count = round(p.walkers_h * p.duration_s / 3600)
    nodes = list(layout.legs)
    rows = ["<routes>\n"]
    for i, depart in enumerate(np.sort(np.round(rng.random(count) * p.duration_s, 1))):
        legs = layout.legs[nodes[int(rng.integers(len(nodes)))]]
        sides = list(legs)
        a, b = rng.choice(len(sides), 2, replace=False)
        start, end = legs[sides[a]].approach, legs[sides[b]].exit
        from_m = max(1.0, float(network.edges.length_m[network.edge_index[start]]) - WALK_START_M)
        to_m = min(WALK_END_M, float(network.edges.length_m[network.edge_index[end]]) - 1.0)
        rows.append(
            f'    <person id="walker{i}" type="walker" depart="{depart:.1f}" departPos="{from_m:.1f}">'
            f'<walk from="{start}" to="{end}" arrivalPos="{to_m:.1f}"/></person>\n'
        )
    _save(path, [*rows, "</routes>\n"])


def _save(path: Path, rows: list[str]) -> None:
    """Write text, gzipped without a date when the name says so."""
    text = "".join(rows).encode()
    if path.suffix == ".gz":
        with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
            packed.write(text)
    else:
        path.write_bytes(text)
