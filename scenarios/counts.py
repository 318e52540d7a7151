"""Counts of vehicles -> demand: routes whose flows add up to what was counted.

Routes run between the edges at which cars enter and leave the network, the fastest and what jams make the fastest
(`scenarios.shortest`), and through whatever was counted that none of these passes. Their flows are a bounded least
squares fit (Cascetta 1984 for estimating trips from counts by generalised least squares): deviations are weighed by
the chance in a count (Poisson), no route carries less than nothing or more than the least count on its way, and of
equal fits the one with the fewest vehicles is taken, spread evenly among its routes.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from scipy.optimize import lsq_linear
from scipy.sparse import csr_array, eye_array, vstack

from networks.errors import InputError
from networks.graph import PASSENGER, Floats, Ints, Network
from networks.readers.sumo_xml import read_clock
from scenarios.measures import geh
from scenarios.shortest import Leg, find_ways

LINK_COLUMNS, TURN_COLUMNS = ("time", "edge", "flow"), ("time", "from", "to", "flow")
MOST_VPH = 20_000.0  # of a row: more is a typing error
MOST_PAIRS = 6000  # of entrance and exit; of larger networks those of the most counted entrances are kept
FEW_WEIGHT, EVEN_WEIGHT = 1e-3, 1e-4  # of few vehicles and of an even spread, against fitting the counts
LEAST_VPH = 0.01


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows (N) of counted flow; `after` is -1 where the whole edge was counted, else the edge turned into."""

    begin_s: Floats  # (N,)
    edge: Ints  # (N,)
    after: Ints  # (N,)
    flow_vph: Floats  # (N,)

    def intervals(self, end_s: float) -> list[tuple[float, float]]:
        """(Begin, end): each lasts until the next, the last as long as the one before it, a single one to `end_s`."""
        begins_s = np.unique(self.begin_s).tolist()
        last_s = begins_s[-1] + (begins_s[-1] - begins_s[-2]) if len(begins_s) > 1 else max(end_s, begins_s[0] + 1.0)
        return list(pairwise([*begins_s, last_s]))


@dataclass(frozen=True, slots=True)
class RouteFlows:
    """Flows of routes (R) in intervals (I), and how well they meet the counts (N)."""

    routes: tuple[tuple[int, ...], ...]  # dense edges
    intervals: tuple[tuple[float, float], ...]
    flow_vph: Floats  # (I, R)
    modelled_vph: Floats  # (N,)
    counted_vph: Floats  # (N,)

    @property
    def geh(self) -> Floats:
        """(N,)"""
        return geh(self.modelled_vph, self.counted_vph)


def read_counts(path: Path, network: Network) -> Counts:
    """A CSV file with the columns time, edge, flow (links) or time, from, to, flow (turns).

    `time` is when the interval begins, in seconds or as HH:MM[:SS]; `flow` is in vehicles an hour. Raises InputError
    naming file, line and field.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, strict=True))
    except (csv.Error, UnicodeDecodeError) as defect:
        raise InputError(f"{path}: not readable as CSV: {defect}") from defect
    head = tuple(name.strip().lower() for name in rows[0]) if rows else ()
    if head not in (LINK_COLUMNS, TURN_COLUMNS):
        raise InputError(f"{path} line 1: the columns must be {','.join(LINK_COLUMNS)} or {','.join(TURN_COLUMNS)}")
    read = [
        _row(dict(zip(head, cells, strict=True)), network, f"{path} line {number}")
        for number, cells in enumerate(rows[1:], start=2)
        if any(cell.strip() for cell in cells) and _fits(cells, head, f"{path} line {number}")
    ]
    if not read:
        raise InputError(f"{path}: no row below the header")
    begin_s, edge, after, flow_vph = zip(*read, strict=True)
    keys = list(zip(begin_s, edge, after, strict=True))
    twice = next((n for n, key in enumerate(keys) if key in keys[:n]), None) if len(set(keys)) < len(keys) else None
    if twice is not None:
        raise InputError(f"{path}: {network.edges.ids[edge[twice]]!r} was counted twice at {begin_s[twice]:g} s")
    return Counts(
        np.array(begin_s, np.float64), np.array(edge, np.int32), np.array(after, np.int32), np.array(flow_vph, float)
    )


def _fits(cells: Sequence[str], head: Sequence[str], where: str) -> bool:
    if len(cells) != len(head):
        raise InputError(f"{where}: {len(cells)} fields, the header has {len(head)}")
    return True


def _row(cells: dict[str, str], network: Network, where: str) -> tuple[float, int, int, float]:
    text = cells["time"].strip()
    moment_s = read_clock(text)
    if moment_s is None or not 0.0 <= moment_s < np.inf:
        raise InputError(f"{where}: time: {text!r} is neither seconds nor HH:MM")

    def edge(column: str) -> int:
        name = cells[column].strip()
        if name not in network.edge_index:
            raise InputError(f"{where}: {column}: the network has no edge {name!r}")
        return network.edge_index[name]

    try:
        flow_vph = float(cells["flow"])
    except ValueError:
        flow_vph = np.nan
    if not 0.0 <= flow_vph <= MOST_VPH:
        raise InputError(f"{where}: flow: {cells['flow'].strip()!r} is no number of vehicles an hour")
    if "edge" in cells:
        return moment_s, edge("edge"), -1, flow_vph
    here, after = edge("from"), edge("to")
    if after not in network.edge_successors[here]:
        raise InputError(f"{where}: to: there is no turn from {cells['from'].strip()!r} to {cells['to'].strip()!r}")
    return moment_s, here, after, flow_vph


def fit_routes(network: Network, counts: Counts, end_s: float, where: str) -> RouteFlows:
    """Flows of plausible routes that meet the counts best. Raises InputError when no route passes any of them."""
    places = sorted({*zip(counts.edge.tolist(), counts.after.tolist(), strict=True)})
    routes = plausible_routes(network, places)
    column = {place: n for n, place in enumerate(places)}
    passes = [[column[p] for p in _passed(route) if p in column] for route in routes]
    kept = [n for n, places_passed in enumerate(passes) if places_passed]
    if not kept:
        raise InputError(f"{where}: no route through the network passes a place that was counted")
    routes, passes = [routes[n] for n in kept], [passes[n] for n in kept]
    entries = [(place, r) for r, row in enumerate(passes) for place in row]
    table = csr_array(
        (np.ones(len(entries)), tuple(np.array(entries).T)), shape=(len(places), len(routes)), dtype=np.float64
    )
    intervals = counts.intervals(end_s)
    flow_vph = np.zeros((len(intervals), len(routes)))
    modelled_vph = np.zeros(len(counts.edge))
    for n, (begin_s, _) in enumerate(intervals):
        rows = np.flatnonzero(counts.begin_s == begin_s)
        at = np.array([column[int(counts.edge[i]), int(counts.after[i])] for i in rows])
        flow_vph[n] = _fit(table[at], counts.flow_vph[rows])
        modelled_vph[rows] = table[at] @ flow_vph[n]
    return RouteFlows(tuple(routes), tuple(intervals), flow_vph, modelled_vph, counts.flow_vph)


def _fit(table: csr_array, counted_vph: Floats) -> Floats:
    """(R,) flows of routes for `table` (N, R), one row a count."""
    dense = table.toarray() > 0.0
    most_vph = np.where(dense, counted_vph[:, None], np.inf).min(axis=0)
    used = np.flatnonzero(np.isfinite(most_vph) & (most_vph > LEAST_VPH))
    flow_vph = np.zeros(dense.shape[1])
    if len(used):
        weight = 1.0 / np.sqrt(np.maximum(counted_vph, 1.0))
        left = csr_array(table[:, used] * weight[:, None])
        even = EVEN_WEIGHT * eye_array(len(used), format="csr")
        few = csr_array(np.full((1, len(used)), FEW_WEIGHT))
        wanted = np.concatenate([counted_vph * weight, np.zeros(len(used) + 1)])
        found = lsq_linear(vstack([left, few, even]), wanted, bounds=(0.0, most_vph[used]), lsmr_tol="auto")
        flow_vph[used] = np.where(found.x > LEAST_VPH, found.x, 0.0)
    return flow_vph


def _passed(route: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places that a route passes: its edges, and its turns."""
    for edge in dict.fromkeys(route):
        yield edge, -1
    yield from dict.fromkeys(pairwise(route))


def plausible_routes(network: Network, places: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Ways of cars from where they enter to where they leave, and through each place that none of those passes."""
    usable = np.flatnonzero(np.bincount(network.lanes.edge, (network.lanes.allowed & PASSENGER) > 0) > 0)
    moves, lanes = network.movements, network.lanes
    cars = (lanes.allowed[moves.from_lane] & lanes.allowed[moves.to_lane] & PASSENGER) > 0
    fed, left = set(lanes.edge[moves.to_lane[cars]].tolist()), set(lanes.edge[moves.from_lane[cars]].tolist())
    counted = {edge for edge, _ in places} | {after for _, after in places if after >= 0}
    entrances = [e for e in usable.tolist() if e not in fed and e in left] or sorted(counted)
    exits = [e for e in usable.tolist() if e not in left and e in fed] or sorted(counted)
    entrances.sort(key=lambda e: (e not in counted, e))
    entrances = entrances[: max(1, MOST_PAIRS // max(1, len(exits)))]
    pairs = [Leg(a, b, PASSENGER) for a in entrances for b in exits if not _turns_back(network, a, b)]
    routes: dict[tuple[int, ...], None] = {}
    for ways in find_ways(network, pairs, others=True).values():
        routes |= dict.fromkeys(way for way in (ways.own, *ways.others) if len(way) > 1)
    passed = {place for route in routes for place in _passed(route)}
    routes |= dict.fromkeys(_through(network, [p for p in places if p not in passed], entrances, exits))
    return sorted(routes)


def _turns_back(network: Network, origin: int, target: int) -> bool:
    return bool(network.edges.from_node[origin] == network.edges.to_node[target])


def _through(
    network: Network, places: Sequence[tuple[int, int]], entrances: Sequence[int], exits: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """The shortest way through each place from an entrance to an exit."""
    legs = [Leg(a, edge, PASSENGER) for edge, _ in places for a in entrances]
    legs += [Leg(edge if after < 0 else after, b, PASSENGER) for edge, after in places for b in exits]
    ways = find_ways(network, legs, others=False)
    free_s = network.edges.length_m / np.maximum(network.edges.speed_limit_mps, 0.1)
    for edge, after in places:
        last = edge if after < 0 else after
        before = [w for a in entrances if (w := ways[Leg(a, edge, PASSENGER)].own)]
        behind = [w for b in exits if (w := ways[Leg(last, b, PASSENGER)].own)]
        if before and behind:
            head, tail = (min(w, key=lambda way: (free_s[list(way)].sum(), way)) for w in (before, behind))
            yield (*head, *(tail[1:] if after < 0 else tail))


def write_routes(
    path: Path, network: Network, flows: RouteFlows, *, seed: int, types: Sequence[str] | None = None
) -> int:
    """Write the vehicles of the flows as a SUMO route file; returns how many. `types` (R): of vehicle, by route.

    Whole vehicles are shared out so that each interval holds what its flows add up to; each departs at random within
    its equal part of the interval.
    """
    rng = random.Random(seed)
    vehicles: list[tuple[float, int]] = []
    for (begin_s, end_s), flow_vph in zip(flows.intervals, flows.flow_vph, strict=True):
        begun, owed = rng.random(), 0.0
        for n, vph in enumerate(flow_vph.tolist()):
            count = int(begun + owed + vph * (end_s - begin_s) / 3600.0) - int(begun + owed)
            owed += vph * (end_s - begin_s) / 3600.0
            gap_s = (end_s - begin_s) / max(1, count)
            vehicles += [(begin_s + (k + rng.random()) * gap_s, n) for k in range(count)]
    vehicles.sort()
    used = sorted({n for _, n in vehicles})
    ids = network.edges.ids
    with path.open("w", encoding="utf-8") as stream:
        stream.write("<routes>\n")
        for n in used:
            edges = quoteattr(" ".join(ids[e] for e in flows.routes[n]))
            stream.write(f'    <route id="r{n}" edges={edges}/>\n')
        for number, (depart_s, n) in enumerate(vehicles):
            attributes = f'id="c{number}" depart="{depart_s:.2f}" route="r{n}" departLane="best" departSpeed="max"'
            if types is not None:
                attributes += f" type={quoteattr(types[n])}"
            stream.write(f"    <vehicle {attributes}/>\n")
        stream.write("</routes>\n")
    return len(vehicles)
