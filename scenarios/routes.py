"""Route files of a city -> the vehicles that the mesoscopic model drives."""

from __future__ import annotations

import copy
import itertools
import random
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from networks.graph import BICYCLE, BUS, EMERGENCY, PASSENGER, TRAM, TRUCK, Floats, Network, Ragged
from networks.readers.sumo_xml import read_seconds
from scenarios.demand import DemandBook, expand_flow, kind_of_class, naming, read_elements, read_speed_factor
from scenarios.shortest import Leg, find_ways
from signals.meso_demand import Demand

_BITS = {
    "car": PASSENGER,
    "bus": BUS,
    "truck": TRUCK,
    "bicycle": BICYCLE,
    "emergency": EMERGENCY,
    "tram": TRAM,
}
_AT_REST = ("0", "0.0", "0.00")
# Defaults of SUMO's vehicle classes that matter here: length, gap, acceleration, top speed, spread of desired speed.
# Source: SUMO documentation, "Vehicle Type Parameter Defaults".
_DEFAULTS = {
    "car": (5.0, 2.5, 2.6, 55.56, 0.1),
    "truck": (7.1, 2.5, 1.3, 36.11, 0.05),
    "bus": (12.0, 2.5, 1.2, 23.61, 0.0),
    "bicycle": (1.6, 0.5, 1.2, 13.89, 0.1),
    "emergency": (6.5, 2.5, 2.6, 55.56, 0.0),
    "tram": (22.0, 2.5, 1.0, 22.22, 0.0),
}


@dataclass(frozen=True, slots=True)
class _Driver:
    """What a vehicle type says, as the columns of a Demand."""

    kind: str
    space_m: float
    tau_s: float
    accel_mps2: float
    sigma: float
    max_speed_mps: float
    factor: float
    dev: float


class _Row(NamedTuple):
    depart_s: float
    edges: list[int]
    dwell_s: list[float]
    others: tuple[tuple[int, ...], ...]
    driver: _Driver
    element: ET.Element


def read_demand(
    network: Network, routes: Iterable[Path], additional: Iterable[Path] = (), *, seed: int = 0, choose: bool = True
) -> Demand:
    """Vehicles, trips and flows of SUMO demand files, by departure.

    Trips take the fastest free route or, with `choose`, the way that looks fastest when they set off among a few, as
    SUMO routes trips by current speeds. Left out, because the model cannot
    drive them: persons, and vehicles without a departure time of their own or without a route that connects.
    Raises CityError naming the file that cannot be read.
    """
    book = DemandBook()
    stops: dict[str, str] = {}
    for path in additional:
        with naming(path):
            deque(read_elements(path, book), maxlen=0)
    for head in book.heads:
        if head.tag == "busStop":
            stops[head.attrib["id"]] = head.attrib["lane"]
    drivers: dict[str, _Driver] = {}
    waiting: list[tuple[float, list[int], _Driver, ET.Element]] = []
    for path in routes:
        with naming(path):
            for element in read_elements(path, book):
                for vehicle in expand_flow(element, seed):
                    depart_s = read_seconds(vehicle.get("depart", "0"))
                    if vehicle.tag not in ("vehicle", "trip") or depart_s is None:
                        continue
                    draw = random.Random(f"{seed}/vehicle/{vehicle.attrib['id']}").random()
                    name = book.resolve(vehicle.get("type", "DEFAULT_VEHTYPE"), draw)
                    if name not in drivers:
                        drivers[name] = _driver(book, name)
                    edges = _named_edges(network, book, vehicle)
                    if edges:
                        waiting.append((depart_s, edges, drivers[name], copy.deepcopy(vehicle)))
    waiting.sort(key=lambda row: row[0])
    return _demand(_routed(network, waiting, stops, choose))


def _named_edges(network: Network, book: DemandBook, vehicle: ET.Element) -> list[int]:
    """Dense edges that the file names, in order: the whole route, or of a trip its ends and what it goes through."""
    if _is_routed(vehicle):
        inline = vehicle.find("route")
        text = inline.get("edges", "") if inline is not None else book.routes.get(vehicle.attrib["route"], "")
        names = text.split()
    else:
        names = [vehicle.get("from", ""), *vehicle.get("via", "").split(), vehicle.get("to", "")]
    if not all(name in network.edge_index for name in names):
        return []
    return [network.edge_index[name] for name in names]


def _is_routed(vehicle: ET.Element) -> bool:
    return vehicle.find("route") is not None or "route" in vehicle.attrib


def _routed(
    network: Network,
    waiting: Sequence[tuple[float, list[int], _Driver, ET.Element]],
    stops: dict[str, str],
    choose: bool,
) -> list[_Row]:
    """Rows with whole routes: legs of trips filled in, and what else those without stops and waypoints may take."""

    def legs(edges: list[int], driver: _Driver) -> list[Leg]:
        return [Leg(a, b, _bit(driver)) for a, b in itertools.pairwise(edges)]

    trips = [(edges, driver) for _, edges, driver, vehicle in waiting if not _is_routed(vehicle)]
    found = find_ways(network, (leg for trip in trips for leg in legs(*trip)), others=choose)
    rows = []
    for depart_s, edges, driver, vehicle in waiting:
        others: tuple[tuple[int, ...], ...] = ()
        if not _is_routed(vehicle):
            parts = [found[leg] for leg in legs(edges, driver)]
            if not all(part.own for part in parts):
                continue
            others = parts[0].others if len(parts) == 1 else ()
            edges = [edges[0], *(edge for part in parts for edge in part.own[1:])]
        dwell_s = _dwell_s(network, vehicle, stops, edges)
        rows.append(_Row(depart_s, edges, dwell_s, () if any(dwell_s) else others, driver, vehicle))
    return rows


def _bit(driver: _Driver) -> int:
    return _BITS.get(driver.kind, PASSENGER)


def _driver(book: DemandBook, name: str) -> _Driver:
    kind = kind_of_class(book.vehicle_class(name))
    length_m, gap_m, accel_mps2, top_mps, dev = _DEFAULTS.get(kind, _DEFAULTS["car"])
    get = book.types[name].attrib if name in book.types else {}
    factor, dev, _, _ = read_speed_factor(get.get("speedFactor") or "1.0", dev)
    if "speedDev" in get:
        dev = float(get["speedDev"])
    return _Driver(
        kind,
        float(get.get("length", length_m)) + float(get.get("minGap", gap_m)),
        float(get.get("tau", 1.0)),
        float(get.get("accel", accel_mps2)),
        float(get.get("sigma", 0.5)),
        float(get.get("maxSpeed", top_mps)),
        factor,
        dev,
    )


def _dwell_s(network: Network, vehicle: ET.Element, stops: dict[str, str], edges: Sequence[int]) -> list[float]:
    """Planned stops on the lane; those off the street hold nobody up and are left out."""
    dwell_s = [0.0] * len(edges)
    at = 0
    for stop in vehicle.findall("stop"):
        lane = stop.get("lane") or stops.get(stop.get("busStop", ""), "")
        edge = network.edge_index.get(lane.rpartition("_")[0], -1)
        if edge in edges[at:] and stop.get("parking", "false") not in ("true", "1"):
            at = edges.index(edge, at)
            dwell_s[at] += float(stop.get("duration", 0.0))
    return dwell_s


def _ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
    return Ragged(offsets, np.array([value for row in rows for value in row], np.int32))


def _demand(rows: Sequence[_Row]) -> Demand:
    def column(name: str) -> Floats:
        return np.array([getattr(row.driver, name) for row in rows], np.float64)

    return Demand(
        depart_s=np.array([row.depart_s for row in rows], np.float64),
        route=_ragged([row.edges for row in rows]),
        dwell_s=np.array([s for row in rows for s in row.dwell_s], np.float64),
        weight=np.ones(len(rows)),
        allowed=np.array([_bit(row.driver) for row in rows], np.int32),
        space_m=column("space_m"),
        tau_s=column("tau_s"),
        accel_mps2=column("accel_mps2"),
        sigma=column("sigma"),
        max_speed_mps=column("max_speed_mps"),
        speed_factor=column("factor"),
        speed_dev=column("dev"),
        rolling_start=np.array([row.element.get("departSpeed", "0") not in _AT_REST for row in rows], np.bool_),
        any_lane=np.array([row.element.get("departLane", "first") not in ("first", "0") for row in rows], np.bool_),
        other_of=np.array([v for v, row in enumerate(rows) for _ in row.others], np.int32),
        other_route=_ragged([way for row in rows for way in row.others]),
    )
