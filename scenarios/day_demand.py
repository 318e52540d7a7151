"""The demand of a day of counts: routes of the city's own demand and their likely rivals, hour by hour.

Two steps. The prior of a day type meets the usual counts of other days, near the city's own demand. A day is then
replayed as it would be lived: what departs in an hour follows from the prior and from the counts of the hours before,
and vehicles still under way at the hour's begin are accounted for by lags measured in a mesoscopic SUMO run.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from networks.city import CityFolder
from networks.errors import InputError
from networks.graph import PASSENGER, Floats, Ints, Network
from networks.readers.sumo_xml import read_seconds
from scenarios.count_replay import HOUR_S
from scenarios.counts import RouteFlows, plausible_routes
from scenarios.demand import DemandBook, expand_flow, naming, read_elements
from scenarios.route_fit import fit_flows
from scenarios.shortest import Leg, find_ways

UNSEEN_VPH = 0.3  # prior of a route that the city's demand does not use, and added to every other
FREE_TIMES = 1.5  # travel time over free travel time, until a run has measured it
LONGEST_LAG_S = 1800.0
SOME_WAIT, FEW_WAIT = 0.03, 5.0  # of an hour's vehicles, and vehicles, that wait at an entrance that has room


@dataclass(frozen=True, slots=True)
class Candidates:
    """Routes (R) that vehicles may take past loops (N), the vehicles an hour of the city's own demand, their type."""

    routes: tuple[tuple[int, ...], ...]
    prior_vph: Floats  # (R,) > 0
    types: tuple[str, ...]  # (R,)
    free_s: Floats  # (N, R) free travel time from departure to a loop; NaN: does not pass
    timetabled_vph: Floats  # (N,) buses and the like past each loop


def find_candidates(city: CityFolder, network: Network, loop_edges: Ints) -> Candidates:
    """Routes of the city's demand, and plausible ones between and through the loops. Raises CityError, InputError."""
    hours = (city.end_s - city.begin_s) / HOUR_S
    kinds: dict[tuple[int, ...], Counter[str]] = {}
    buses: Counter[int] = Counter()
    trips: list[tuple[Leg, str]] = []
    for vehicle, edges in _vehicles(city):
        if not all(edge in network.edge_index for edge in edges):
            continue
        dense = tuple(network.edge_index[edge] for edge in edges)
        kind = vehicle.get("type", "DEFAULT_VEHTYPE")
        if is_timetabled(vehicle):
            buses.update(set(dense))
        elif vehicle.tag == "vehicle":
            kinds.setdefault(dense, Counter())[kind] += 1
        else:
            trips.append((Leg(dense[0], dense[-1], PASSENGER), kind))
    ways = find_ways(network, [leg for leg, _ in trips], others=False)
    for leg, kind in trips:
        if ways[leg].own:
            kinds.setdefault(ways[leg].own, Counter())[kind] += 1
    usual_type = sum(kinds.values(), Counter()).most_common(1)[0][0] if kinds else "DEFAULT_VEHTYPE"
    plausible = plausible_routes(network, [(edge, -1) for edge in loop_edges.tolist()])
    routes = sorted({*kinds, *plausible})
    if not routes:
        raise InputError(f"city {city.name}: no route runs through the network")
    used = [kinds.get(route, Counter()) for route in routes]
    return Candidates(
        routes=tuple(routes),
        prior_vph=np.array([sum(k.values()) for k in used], float) / hours + UNSEEN_VPH,
        types=tuple(k.most_common(1)[0][0] if k else usual_type for k in used),
        free_s=_free_s(network, routes, loop_edges),
        timetabled_vph=np.array([buses[edge] for edge in loop_edges.tolist()], float) / hours,
    )


def prior_flows(candidates: Candidates, usual: Floats, hours: Sequence[int], lag_s: Floats) -> Floats:
    """(I, R) vehicles by hour that meet the usual counts (24, N) of the hours (consecutive)."""
    first = np.broadcast_to(candidates.prior_vph, (len(hours), len(candidates.routes)))
    return _in_turn(candidates, [usual[hour] for hour in hours], first, lag_s)


def day_flows(candidates: Candidates, busier: Sequence[Floats], prior: Floats, lag_s: Floats) -> Floats:
    """(I, R) vehicles by hour, near the prior (I, R), of a day `busier` than it by a factor (N,) at each loop.

    Factors move what the prior sends past a loop, not what was counted there: where the prior could not meet a loop
    that contradicts its neighbours, the day does not try again.
    """
    now, later = _shares(lag_s)
    meant = [now @ flow for flow in prior]
    meant = [m + candidates.timetabled_vph + (later @ prior[n - 1] if n else 0.0) for n, m in enumerate(meant)]
    return _in_turn(candidates, [b * m for b, m in zip(busier, meant, strict=True)], prior, lag_s)


def let_in(candidates: Candidates, flows: Floats, begun: Floats) -> Floats:
    """(I, R) flows less those who found no room to enter in a run of them.

    begun (I, E): vehicles that began on each edge in each hour of that run; NaN where it did not look. Who waits
    outside passes no loop, and only keeps the queue at the entrance long.
    """
    first = np.array([route[0] for route in candidates.routes])
    entering = np.stack([np.bincount(first, flow, begun.shape[1]) for flow in flows])
    waiting = np.maximum(np.cumsum(entering - np.nan_to_num(begun, nan=0.0), axis=0), 0.0)
    kept = np.ones(entering.shape)
    jammed = np.isfinite(begun) & (waiting > SOME_WAIT * entering + FEW_WAIT)
    kept[jammed] = np.minimum(begun[jammed] / np.maximum(entering[jammed], 1.0), 1.0)
    return flows * kept[:, first]


def _in_turn(candidates: Candidates, counted: Sequence[Floats], prior: Floats, lag_s: Floats) -> Floats:
    """Each hour by itself, after what departed in the hour before it."""
    now, later = _shares(lag_s)
    flows = np.zeros(prior.shape)
    for n, counts in enumerate(counted):
        before = later @ flows[n - 1] if n else np.zeros(len(counts))
        flows[n] = fit_flows(now, counts, before + candidates.timetabled_vph, np.maximum(prior[n], 1e-6))
    return flows


def _shares(lag_s: Floats) -> tuple[Floats, Floats]:
    """(N, R) parts of a route's vehicles that pass a loop in the hour of their departure, and in the next."""
    later = np.nan_to_num(np.clip(lag_s, 0.0, LONGEST_LAG_S) / HOUR_S)
    return np.where(np.isfinite(lag_s), 1.0 - later, 0.0), later


def as_route_flows(candidates: Candidates, flows: Floats, hours: Sequence[int]) -> RouteFlows:
    """The form that `scenarios.counts.write_routes` writes; clock seconds of the day."""
    nothing = np.zeros(0)
    intervals = tuple((hour * HOUR_S, (hour + 1) * HOUR_S) for hour in hours)
    return RouteFlows(candidates.routes, intervals, flows, nothing, nothing)


def repeat_demand(city: CityFolder, path: Path, begin_s: float, end_s: float, *, timetabled_only: bool) -> int:
    """Write the city's demand over and over, from clock second to clock second; returns how many vehicles.

    Types of vehicles that stand in its route files come along; others are in its additional files.
    """
    period_s = city.end_s - city.begin_s
    rows: list[tuple[float, str]] = []
    types: list[ET.Element] = []
    for vehicle, _ in _vehicles(city, types):
        depart_s = read_seconds(vehicle.get("depart", "0"))
        if depart_s is None or not city.begin_s <= depart_s < city.end_s:
            continue
        if timetabled_only and not is_timetabled(vehicle):
            continue
        name = vehicle.attrib["id"]
        for number in range(math.ceil((end_s - begin_s) / period_s)):
            moved_s = begin_s + number * period_s + depart_s - city.begin_s
            if moved_s < end_s:
                vehicle.set("id", f"{name}~{number}")
                vehicle.set("depart", f"{moved_s:.2f}")
                vehicle.tail = "\n"
                rows.append((moved_s, ET.tostring(vehicle, encoding="unicode")))
    rows.sort(key=lambda row: row[0])
    for kind in types:
        kind.tail = "\n"
    parts = (*(ET.tostring(kind, encoding="unicode") for kind in types), *(text for _, text in rows))
    path.write_text(f"<routes>\n{''.join(parts)}</routes>\n", encoding="utf-8")
    return len(rows)


def is_timetabled(vehicle: ET.Element) -> bool:
    return "line" in vehicle.attrib or vehicle.find("stop") is not None


def _vehicles(city: CityFolder, types: list[ET.Element] | None = None) -> Iterator[tuple[ET.Element, list[str]]]:
    """Vehicles of the demand and the edges they name; named routes are put into the vehicle.

    `types`: those that stand in the city's route files are added to it.
    """
    book = DemandBook()
    for path in (*city.additional, *city.routes):
        known = len(book.heads)
        with naming(path):
            for element in read_elements(path, book):
                for vehicle in expand_flow(element, 0):
                    if vehicle.tag in ("vehicle", "trip"):
                        own = copy.deepcopy(vehicle)
                        if named := _own_route(own, book):
                            yield own, named
        if types is not None and path in city.routes:
            types += [head for head in book.heads[known:] if head.tag in ("vType", "vTypeDistribution")]


def _own_route(vehicle: ET.Element, book: DemandBook) -> list[str]:
    """The edges it names; one that has a route keeps it inside and is a vehicle, one that only names ends stays."""
    route = vehicle.find("route")
    if route is None and "route" in vehicle.attrib:
        route = ET.SubElement(vehicle, "route", edges=book.routes.get(vehicle.attrib.pop("route"), ""))
    if route is None:
        return [vehicle.get("from", ""), vehicle.get("to", "")]
    vehicle.tag = "vehicle"
    return route.get("edges", "").split()


def _free_s(network: Network, routes: Sequence[tuple[int, ...]], loop_edges: Ints) -> Floats:
    row = {edge: n for n, edge in enumerate(loop_edges.tolist())}
    edge_s = network.edges.length_m / np.maximum(network.edges.speed_limit_mps, 0.1)
    free_s = np.full((len(row), len(routes)), np.nan)
    for column, route in enumerate(routes):
        entered_s = 0.0
        for edge in route:
            if edge in row and np.isnan(free_s[row[edge], column]):
                free_s[row[edge], column] = entered_s
            entered_s += edge_s[edge]
    return free_s


def measured_lags(candidates: Candidates, loop_edges: Ints, rides: Path, network: Network) -> Floats:
    """(N, R) mean time from departure to a loop's edge, from SUMO's route output with exit times.

    Where nobody drove a route, its free time grows as that of all others did.
    """
    row = {network.edges.ids[edge]: n for n, edge in enumerate(loop_edges.tolist())}
    column = {tuple(network.edges.ids[e] for e in route): n for n, route in enumerate(candidates.routes)}
    total, count = np.zeros(candidates.free_s.shape), np.zeros(candidates.free_s.shape)
    for _, element in ET.iterparse(rides):
        if element.tag != "vehicle":
            continue
        route = element.find("route")
        if route is not None and "exitTimes" in route.attrib:
            edges = route.attrib["edges"].split()
            n = column.get(tuple(edges))
            if n is not None:
                exits = [float(text) for text in route.attrib["exitTimes"].split()]
                entered = [float(element.attrib["depart"]), *exits]
                for edge, (at_s, left_s) in zip(edges, pairwise(entered), strict=False):
                    if edge in row and left_s >= 0 and at_s >= 0:
                        total[row[edge], n] += at_s - entered[0]
                        count[row[edge], n] += 1
        element.clear()
    seen = (count > 0) & np.isfinite(candidates.free_s)
    slower = total[seen].sum() / max(float((candidates.free_s * count)[seen].sum()), 1.0)
    lag_s: Floats = candidates.free_s * max(1.0, slower)
    lag_s[seen] = total[seen] / count[seen]
    return lag_s
