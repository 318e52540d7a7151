"""Draws the street pattern: nodes, edges, connections and crossings, before SUMO sees any of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from scenarios.zone.parameters import ZoneParameters

SIDES = "NESW"
_STEP = {"N": (0.0, 1.0), "E": (1.0, 0.0), "S": (0.0, -1.0), "W": (-1.0, 0.0)}
WALK, BIKE, FIRST_MOTOR = 0, 1, 2  # lane indices of every street, rightmost first

NORTH_SOUTH_ARTERIALS = ("朗星路", "景和路", "明远路", "云帆路", "听涛路", "永嘉路", "清源路", "丰泽路")
EAST_WEST_ARTERIALS = ("启明大街", "望岳大街", "致远大街", "安澜大街", "弘文大街", "瑞和大街", "长乐大街", "同心大街")
NORTH_SOUTH_COLLECTORS = ("银杏路", "玉兰路", "白桦路", "梧桐路", "青竹路", "海棠路", "丁香路")
EAST_WEST_COLLECTORS = ("松风街", "问渠街", "荷塘街", "晨曦街", "芦苇街", "听雨街", "云杉街")


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    x_m: float
    y_m: float
    kind: str  # "signal", "priority" or "dead_end"


@dataclass(frozen=True, slots=True)
class Street:
    """Class of a street: what its edges look like."""

    name: str
    kind: str  # "main", "arterial", "collector" or "driveway"
    lanes: int
    speed_mps: float
    priority: int

    @property
    def arterial(self) -> bool:
        return self.kind in ("main", "arterial")


@dataclass(frozen=True, slots=True)
class Edge:
    id: str
    start: str
    end: str
    street: Street
    lanes: int  # motor lanes, pocket included


@dataclass(frozen=True, slots=True)
class Link:
    """One lane-to-lane connection."""

    start: str
    end: str
    from_lane: int
    to_lane: int


@dataclass(frozen=True, slots=True)
class Leg:
    """One arm of a signalised junction, seen from its centre."""

    approach: str  # edge into the junction
    exit: str  # edge out of it
    street: Street


@dataclass(frozen=True, slots=True)
class Access:
    """A driveway of a superblock: source and sink of trips."""

    id: str
    out: str  # edge onto the street
    into: str  # edge off the street
    x_m: float
    y_m: float


@dataclass(frozen=True, slots=True)
class Gateway:
    """The end of an arterial at the border."""

    id: str
    side: str
    inbound: str
    outbound: str
    street: Street


@dataclass(slots=True)
class Layout:
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[str, Edge] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    crossings: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # node, edges crossed
    legs: dict[str, dict[str, Leg]] = field(default_factory=dict)  # signalised node -> side -> leg
    accesses: list[Access] = field(default_factory=list)
    gateways: list[Gateway] = field(default_factory=list)
    lines: list[tuple[str, ...]] = field(default_factory=list)  # signalised nodes along each arterial, in order


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of street between neighbouring junctions or gateways, drawn from a to b (east- or northward)."""

    a: str
    b: str
    heading: str
    street: Street


def opposite(side: str) -> str:
    return SIDES[(SIDES.index(side) + 2) % 4]


def turn_of(from_side: str, to_side: str) -> str:
    """'s', 'l' or 'r' for traffic that enters from one side of a junction and leaves by another."""
    return {1: "l", 2: "s", 3: "r"}[(SIDES.index(to_side) - SIDES.index(from_side)) % 4]


def draw_layout(p: ZoneParameters) -> Layout:
    """Draw the zone of parameters `p`."""
    rng = np.random.default_rng([p.seed, 1])
    xs, ys = _lines(rng, p.arterial_columns, p), _lines(rng, p.arterial_rows, p)
    open_blocks = _open_blocks(rng, p)
    layout = Layout()
    segments = list(_segments(layout, p, xs, ys, open_blocks))
    arms: dict[str, set[str]] = {}
    for s in segments:
        arms.setdefault(s.a, set()).add(s.heading)
        arms.setdefault(s.b, set()).add(opposite(s.heading))
    for s in segments:
        _draw_segment(layout, p, rng, s, arms)
    for node, legs in layout.legs.items():
        _connect_junction(layout, node, legs)
    return layout


def _lines(rng: np.random.Generator, arterials: int, p: ZoneParameters) -> list[float]:
    """Coordinates of arterials (even places) and of the collectors between them (odd places)."""
    at = [p.stub_m]
    for _ in range(arterials - 1):
        block = round(float(rng.uniform(*p.spacing_m)), -1)
        share = 0.5 + float(rng.uniform(-p.collector_shift, p.collector_shift))
        at += [at[-1] + round(block * share, 0), at[-1] + block]
    return at


def _open_blocks(rng: np.random.Generator, p: ZoneParameters) -> set[tuple[int, int]]:
    """Superblocks without an east-west collector: no two side by side and none at the border.

    Otherwise a signal would stand on an arterial where nothing meets it.
    """
    blocks = [(i, j) for i in range(1, p.arterial_columns - 2) for j in range(p.arterial_rows - 1)]
    chosen: set[tuple[int, int]] = set()
    for k in rng.permutation(len(blocks)):
        i, j = blocks[k]
        if len(chosen) < p.open_blocks and not chosen & {(i - 1, j), (i + 1, j)}:
            chosen.add((i, j))
    return chosen


def _street(p: ZoneParameters, place: int, arterials: int, names: tuple[tuple[str, ...], tuple[str, ...]]) -> Street:
    rank = place // 2
    if place % 2:
        return Street(names[1][rank % len(names[1])], "collector", p.collector_lanes, p.collector_speed_mps, 5)
    name = names[0][rank % len(names[0])]
    if rank == arterials // 2:
        return Street(name, "main", p.main_lanes, p.main_speed_mps, 9)
    return Street(name, "arterial", p.arterial_lanes, p.arterial_speed_mps, 8)


def _segments(
    layout: Layout, p: ZoneParameters, xs: list[float], ys: list[float], open_blocks: set[tuple[int, int]]
) -> Iterator[_Segment]:
    closed = {(2 * i + 1, 2 * j + 1) for i, j in open_blocks}  # collectors do not meet in an open block
    for ix, x in enumerate(xs):
        for iy, y in enumerate(ys):
            if (ix, iy) not in closed:
                layout.nodes[f"J{ix}_{iy}"] = Node(f"J{ix}_{iy}", x, y, "signal")
    for ix, x in enumerate(xs):
        street = _street(p, ix, p.arterial_columns, (NORTH_SOUTH_ARTERIALS, NORTH_SOUTH_COLLECTORS))
        stops = [f"J{ix}_{iy}" for iy in range(len(ys)) if (ix, iy) not in closed]
        if street.arterial:
            layout.lines.append(tuple(stops))
            ends = (_gateway(layout, f"GS{ix}", x, 0.0), _gateway(layout, f"GN{ix}", x, ys[-1] + p.stub_m))
            stops = [ends[0], *stops, ends[1]]
        yield from (_Segment(a, b, "N", street) for a, b in pairwise(stops))
    for iy, y in enumerate(ys):
        street = _street(p, iy, p.arterial_rows, (EAST_WEST_ARTERIALS, EAST_WEST_COLLECTORS))
        stops = [f"J{ix}_{iy}" for ix in range(len(xs)) if (ix, iy) not in closed]
        if street.arterial:
            layout.lines.append(tuple(stops))
            ends = (_gateway(layout, f"GW{iy}", 0.0, y), _gateway(layout, f"GE{iy}", xs[-1] + p.stub_m, y))
            stops = [ends[0], *stops, ends[1]]
        for a, b in pairwise(stops):
            column = int(a[1:].split("_")[0]) if a.startswith("J") else -1
            if iy % 2 and any((c, iy) in closed for c in (column, column + 1)):
                continue
            yield _Segment(a, b, "E", street)


def _gateway(layout: Layout, name: str, x_m: float, y_m: float) -> str:
    layout.nodes[name] = Node(name, x_m, y_m, "dead_end")
    return name


def _draw_segment(
    layout: Layout, p: ZoneParameters, rng: np.random.Generator, s: _Segment, arms: dict[str, set[str]]
) -> None:
    a, b = layout.nodes[s.a], layout.nodes[s.b]
    dx, dy = _STEP[s.heading]
    length = abs(b.x_m - a.x_m) + abs(b.y_m - a.y_m)
    middle: list[str] = []
    if not s.street.arterial:
        node = f"A{len(layout.accesses)}"
        at = length * float(rng.uniform(0.42, 0.52))
        layout.nodes[node] = Node(node, a.x_m + dx * at, a.y_m + dy * at, "priority")
        middle = [node]
    both = {}
    for heading, stops in ((s.heading, [s.a, *middle, s.b]), (opposite(s.heading), [s.b, *middle, s.a])):
        both[heading] = _draw_direction(layout, p, s.street, heading, stops, arms)
    for side, node, onward in ((s.heading, s.a, s.heading), (opposite(s.heading), s.b, opposite(s.heading))):
        leg = Leg(both[opposite(onward)][-1], both[onward][0], s.street)
        if layout.nodes[node].kind == "signal":
            layout.legs.setdefault(node, {})[side] = leg
            layout.crossings.append((node, (leg.approach, leg.exit)))
        else:
            border = opposite(side)
            gateway = Gateway(node, border, both[onward][0], both[opposite(onward)][-1], s.street)
            layout.gateways.append(gateway)
    if middle:
        _draw_access(layout, p, rng, s, middle[0], both)


def _draw_direction(
    layout: Layout, p: ZoneParameters, street: Street, heading: str, stops: list[str], arms: dict[str, set[str]]
) -> list[str]:
    """The chain of edges of one direction of a segment; an arterial gains a left-turn lane before its junction."""
    end = layout.nodes[stops[-1]]
    left = SIDES[(SIDES.index(heading) - 1) % 4]
    pocket = street.arterial and end.kind == "signal" and left in arms[end.id]
    if pocket:
        dx, dy = _STEP[heading]
        flare = Node(
            f"F{end.id[1:]}{opposite(heading)}", end.x_m - dx * p.pocket_m, end.y_m - dy * p.pocket_m, "priority"
        )
        layout.nodes[flare.id] = flare
        stops = [*stops[:-1], flare.id, stops[-1]]
    chain = []
    for start, stop in pairwise(stops):
        lanes = street.lanes + (pocket and stop == end.id)
        edge = Edge(f"{start}-{stop}", start, stop, street, lanes)
        layout.edges[edge.id] = edge
        chain.append(edge.id)
    for before, after in pairwise(chain):
        lanes = layout.edges[before].lanes
        layout.links.append(Link(before, after, BIKE, BIKE))
        layout.links += [Link(before, after, FIRST_MOTOR + i, FIRST_MOTOR + i) for i in range(lanes)]
        if layout.edges[after].lanes > lanes:
            layout.links.append(Link(before, after, FIRST_MOTOR + lanes - 1, FIRST_MOTOR + lanes))
    return chain


def _draw_access(
    layout: Layout, p: ZoneParameters, rng: np.random.Generator, s: _Segment, node: str, both: dict[str, list[str]]
) -> None:
    """A driveway on one side of a collector: in and out by either turn, e-bikes by right turns only."""
    at = layout.nodes[node]
    side = SIDES[(SIDES.index(s.heading) + (1 if rng.random() < 0.5 else 3)) % 4]
    dx, dy = _STEP[side]
    yard = Node(f"D{node[1:]}", at.x_m + dx * p.driveway_m, at.y_m + dy * p.driveway_m, "dead_end")
    layout.nodes[yard.id] = yard
    street = Street("", "driveway", 1, p.driveway_speed_mps, 1)
    into = Edge(f"{node}-{yard.id}", node, yard.id, street, 1)
    out = Edge(f"{yard.id}-{node}", yard.id, node, street, 1)
    layout.edges[into.id], layout.edges[out.id] = into, out
    layout.crossings.append((node, (into.id, out.id)))
    for heading, chain in both.items():
        before, after = next((a, b) for a, b in pairwise(chain) if layout.edges[a].end == node)
        last = FIRST_MOTOR + layout.edges[before].lanes - 1
        if turn_of(opposite(heading), side) == "r":
            layout.links += [Link(before, into.id, FIRST_MOTOR, 1), Link(before, into.id, BIKE, 1)]
            layout.links += [Link(out.id, after, 1, FIRST_MOTOR), Link(out.id, after, 1, BIKE)]
        else:
            layout.links.append(Link(before, into.id, last, 1))
            layout.links.append(Link(out.id, after, 1, FIRST_MOTOR + layout.edges[after].lanes - 1))
    layout.accesses.append(Access(node, out.id, into.id, yard.x_m, yard.y_m))


def _connect_junction(layout: Layout, node: str, legs: dict[str, Leg]) -> None:
    """Lane use: left turns from the leftmost lane alone, right turns share the rightmost, e-bikes never turn left.

    An approach without a through movement splits its lanes between left and right.
    """
    for side, leg in legs.items():
        lanes = layout.edges[leg.approach].lanes
        ways = {turn_of(side, other): other for other in legs if other != side}
        through = list(range(lanes - 1)) if "l" in ways else list(range(lanes))
        for turn, other in ways.items():
            target = legs[other].exit
            width = layout.edges[target].lanes
            match turn:
                case "l":
                    pairs = [(lanes - 1, width - 1)]
                case "r":
                    pairs = [(0, 0)]
                case _:
                    pairs = [(i, min(i, width - 1)) for i in through]
            layout.links += [Link(leg.approach, target, FIRST_MOTOR + i, FIRST_MOTOR + j) for i, j in pairs]
            if turn != "l":
                layout.links.append(Link(leg.approach, target, BIKE, BIKE))
