"""SUMO road networks (.net.xml, .net.xml.gz) -> `Network`.

The file is read once, straight from its XML: sumolib leaves out pedestrian links and the order of requests that the
foe matrix needs. Format: SUMO documentation, "Networks/SUMO Road Networks".
"""

from __future__ import annotations

import gzip
import hashlib
import xml.etree.ElementTree as ET
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from networks import graph
from networks.errors import NetworkError
from networks.graph import (
    OFF,
    Bools,
    Crossing,
    EdgeTable,
    LaneTable,
    MovementTable,
    Network,
    Programme,
    Ragged,
    Schedule,
    Signal,
)
from networks.intergreen import (
    CYCLING,
    STRAIGHT_ON,
    TRAM,
    TURNING,
    WALKING,
    LinkPath,
    intergreen_matrix,
    longest_all_red_s,
    longest_yellow_s,
)
from networks.readers.sumo_xml import RawEdge, RawLane, RawLink, RawNet, parse_sumo
from networks.stages import recognise_stages

MIN_GREEN_S = 5.0  # for vehicles, and for walkers to step off (GB 51038)
MAX_RED_S = 180.0  # HCM and GB 51038 practice: a cycle beyond 180 s is not accepted by travellers
DEFAULT_YELLOW_S = 3.0  # GB 14886: 3-5 s

_TURNS = {
    "s": graph.STRAIGHT,
    "l": graph.LEFT,
    "L": graph.LEFT,
    "r": graph.RIGHT,
    "R": graph.RIGHT,
    "t": graph.U_TURN,
}
_OFF = "off"  # SUMO's own programme of every signal
MOTOR = graph.PASSENGER | graph.BUS | graph.TRUCK | graph.EMERGENCY


def read_sumo(path: Path, programmes: Sequence[Path] = ()) -> Network:
    """Read a SUMO network; `programmes` are additional files whose tlLogic come before the net's own.

    As in SUMO, the programme loaded last is the active one, and comes first in `Signal.programmes`; where a timetable
    (WAUT) rules, the one that it starts with.

    Raises NetworkError naming the file and the element when it is not a usable SUMO network.
    """
    raw = _parsed(path)
    for extra in programmes:
        more = _parsed(extra)
        for signal, logics in more.programmes.items():
            raw.programmes[signal] += logics
        raw.timetables |= more.timetables
        raw.followers |= more.followers
    if not any(e.is_road for e in raw.edges.values()):
        raise NetworkError(f"{path}: holds no road edge; is it a .net.xml?")
    raw.programmes = {signal: _newest_first(path, signal, loaded) for signal, loaded in raw.programmes.items()}
    return _assemble(raw, path, _fingerprint(*(source.read_bytes() for source in (path, *programmes))))


def with_plan(network: Network, plan: Path) -> Network:
    """The network with the programmes of an additional file in force, and all that signals may do as it was.

    Stages, yellows, clearances and conflicts stay those of the programmes that came with the network: an authority's
    word. A plan of our own, in whose interstages links wait for others, says nothing new about them.

    Raises NetworkError naming the file and the signal that the network lacks or that has more links than lamps.
    """
    raw = _parsed(plan)
    for tag, named in (("tlLogic", raw.programmes), ("wautJunction", raw.followers)):
        missing = named.keys() - network.signal_index.keys()
        if missing:
            raise NetworkError(f"{plan}: {tag} {min(missing)!r}: the network has no such signal")
    signals = tuple(_in_force(plan, raw, s) for s in network.signals)
    return replace(
        network, signals=signals, fingerprint=_fingerprint(network.fingerprint.encode(), plan.read_bytes())
    )


def _in_force(plan: Path, raw: RawNet, signal: Signal) -> Signal:
    loaded = _newest_first(plan, signal.id, raw.programmes.get(signal.id, ()))
    if not loaded and signal.id not in raw.followers:
        return signal
    if loaded:
        _fewest_lamps(plan, signal.id, signal.link_count, loaded)
    programmes, schedule = _scheduled(plan, raw, signal.id, [*loaded, *signal.programmes])
    longest_s = max((programme.cycle_s for programme in loaded), default=0.0)
    max_red_s = max(signal.max_red_s, longest_s)
    return replace(signal, programmes=programmes, schedule=schedule, max_red_s=max_red_s)


def _scheduled(
    path: Path, raw: RawNet, signal: str, programmes: Sequence[Programme]
) -> tuple[tuple[Programme, ...], Schedule | None]:
    """The programmes, the one that a timetable starts with first, and when others are in force."""
    if signal not in raw.followers:
        return tuple(programmes), None
    name = raw.followers[signal]
    if name not in raw.timetables:
        raise NetworkError(f"{path}: wautJunction {signal!r}: there is no WAUT {name!r}")
    timetable = raw.timetables[name]
    ids = [programme.id for programme in programmes]
    wanted = [timetable.start, *(to for _, to in timetable.changes if to != _OFF)]
    unknown = [programme for programme in wanted if programme not in ids]
    if unknown:
        raise NetworkError(f"{path}: WAUT {name!r}: signal {signal!r} has no programme {unknown[0]!r}")
    first = ids.index(timetable.start)
    order = [first, *(n for n in range(len(ids)) if n != first)]
    place = {ids[n]: k for k, n in reversed(list(enumerate(order)))} | {_OFF: OFF}
    changes = tuple((at_s, place[to]) for at_s, to in timetable.changes)
    schedule = Schedule(changes, timetable.period_s) if changes else None
    return tuple(programmes[n] for n in order), schedule


def _fewest_lamps(path: Path, signal: str, links: int, programmes: Sequence[Programme]) -> int:
    """Lamps that every phase has, not fewer than there are links."""
    fewest = min((len(p.state) for programme in programmes for p in programme.phases), default=0)
    if fewest < links:
        raise NetworkError(f"{path}: signal {signal!r} has {links} links but a phase with {fewest} lamps")
    return fewest


def _parsed(path: Path) -> RawNet:
    try:
        return parse_sumo(path)
    except (ET.ParseError, EOFError, gzip.BadGzipFile, zlib.error, OSError, LookupError, ValueError) as defect:
        raise NetworkError(f"{path}: not readable as SUMO XML: {defect}") from defect


def _newest_first(path: Path, signal: str, loaded: Sequence[Programme]) -> list[Programme]:
    """SUMO starts with the programme loaded last and refuses one twice; without phases a programme means "off"."""
    names = [programme.id for programme in loaded]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise NetworkError(f"{path}: programme {twice[0]!r} of signal {signal!r} is loaded twice, which SUMO refuses")
    return [programme for programme in reversed(loaded) if programme.phases]


def _fingerprint(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _ragged(rows: Iterable[Sequence[float]]) -> Ragged:
    kept = list(rows)
    offsets = np.cumsum([0, *(len(r) for r in kept)]).astype(np.int32)
    return Ragged(offsets, np.array([v for r in kept for v in r], dtype=np.float64))


def _assemble(raw: RawNet, path: Path, fingerprint: str) -> Network:
    raw.lanes = {lane.id: lane for e in raw.edges.values() for lane in e.lanes}
    roads = [e for e in raw.edges.values() if e.is_road and e.lanes]
    nodes = [n for n in raw.nodes.values() if n.kind != "internal"]
    node_index = {n.id: i for i, n in enumerate(nodes)}
    edge_index = {e.id: i for i, e in enumerate(roads)}
    for edge in roads:
        for end in (edge.from_node, edge.to_node):
            if end not in node_index:
                raise NetworkError(f"{path}: edge {edge.id} ends at junction {end!r}, which the file does not hold")
    first_lane = np.cumsum([0, *(len(e.lanes) for e in roads)]).astype(np.int32)
    edges = EdgeTable(
        ids=tuple(e.id for e in roads),
        length_m=np.array([e.lanes[0].length_m for e in roads]),
        speed_limit_mps=np.array([max(lane.speed_mps for lane in e.lanes) for e in roads]),
        lane_count=np.array([sum(bool(lane.allowed & MOTOR) for lane in e.lanes) for e in roads], np.int32),
        first_lane=first_lane,
        from_node=np.array([node_index[e.from_node] for e in roads], np.int32),
        to_node=np.array([node_index[e.to_node] for e in roads], np.int32),
        priority=np.array([e.priority for e in roads], np.int32),
        names=tuple(e.name for e in roads),
        shape_xy=_ragged(_middle(e).shape for e in roads),
    )
    flat = [(i, lane) for i, e in enumerate(roads) for lane in e.lanes]
    lanes = LaneTable(
        ids=tuple(lane.id for _, lane in flat),
        edge=np.array([i for i, _ in flat], np.int32),
        index=np.array([lane.index for _, lane in flat], np.int32),
        length_m=np.array([lane.length_m for _, lane in flat]),
        width_m=np.array([lane.width_m for _, lane in flat]),
        speed_limit_mps=np.array([lane.speed_mps for _, lane in flat]),
        allowed=np.array([lane.allowed for _, lane in flat], np.int32),
        shape_xy=_ragged(lane.shape for _, lane in flat),
    )
    for link in raw.links:  # rail crossings and rail signals switch themselves and have no programme
        if link.signal and link.signal not in raw.programmes and _is_rail(raw, link):
            link.signal, link.link = "", -1
    controlled = {link.signal for link in raw.links if link.signal}
    signal_ids = [s for s in raw.programmes if s in controlled]
    missing = controlled - set(signal_ids)
    if missing:
        raise NetworkError(f"{path}: signal {sorted(missing)[0]!r} controls connections but has no tlLogic")
    signal_index = {s: i for i, s in enumerate(signal_ids)}
    movements, request, links_by_signal = _movements(raw, path, edge_index, first_lane, node_index, signal_index)
    signals = tuple(
        _signal(raw, path, sid, movements, request, links_by_signal[sid], node_index, edge_index, lanes)
        for sid in signal_ids
    )
    return Network(
        name=path.name.split(".")[0],
        projection=None if raw.projection in ("!", "-", "") else raw.projection,
        net_offset_m=raw.offset,
        bounds_m=raw.bounds,
        nodes=tuple(n.id for n in nodes),
        node_xy=np.array([(n.x, n.y) for n in nodes]).reshape(-1, 2),
        edges=edges,
        lanes=lanes,
        movements=movements,
        signals=signals,
        fingerprint=fingerprint,
    )


def _middle(edge: RawEdge) -> RawLane:
    motor = [lane for lane in edge.lanes if lane.allowed & MOTOR] or edge.lanes
    return motor[len(motor) // 2]


def _movements(
    raw: RawNet,
    file: Path,
    edge_index: dict[str, int],
    first_lane: graph.Ints,
    node_index: dict[str, int],
    signal_index: dict[str, int],
) -> tuple[MovementTable, list[int], dict[str, list[tuple[int, RawLink, int]]]]:
    """Vehicle movements, their request index at the node, and per signal (link, raw link, movement or -1)."""
    nodes = list(node_index)
    onward = {(link.origin, link.from_lane): link for link in raw.links if link.origin.startswith(":")}
    lane_of = raw.lanes
    columns: dict[str, list[float]] = defaultdict(list)
    request: list[int] = []
    internal: list[tuple[str, ...]] = []
    yields: list[bool] = []
    by_signal: dict[str, list[tuple[int, RawLink, int]]] = defaultdict(list)
    by_slot: dict[tuple[str, int], int] = {}
    responses: list[str] = []
    for link in raw.links:
        if link.origin not in edge_index or link.target not in edge_index:
            if link.signal:
                by_signal[link.signal].append((link.link, link, -1))
            continue
        for edge, lane in ((link.origin, link.from_lane), (link.target, link.to_lane)):
            if not 0 <= lane < len(raw.edges[edge].lanes):
                raise NetworkError(f"{file}: a connection names lane {lane} of edge {edge}, which has none such")
        path: list[str] = []
        via = link.via
        while via and via in lane_of and via not in path:
            path.append(via)
            edge_id, _, index = via.rpartition("_")
            following = onward.get((edge_id, int(index)))
            via = following.via if following else ""
        node = raw.nodes[raw.edges[link.origin].to_node]
        # a path with an inner stop (internal junction) is listed by its last piece
        slot = next((node.internal.index(lane) for lane in reversed(path) if lane in node.internal), -1)
        if link.signal:
            by_signal[link.signal].append((link.link, link, len(request)))
        row = {
            "from_lane": first_lane[edge_index[link.origin]] + link.from_lane,
            "to_lane": first_lane[edge_index[link.target]] + link.to_lane,
            "turn": _TURNS.get(link.turn, graph.STRAIGHT),
            "length_m": sum(lane_of[p].length_m for p in path),
            "speed_mps": min((lane_of[p].speed_mps for p in path), default=13.9),
            "signal": signal_index.get(link.signal, -1),
            "link": link.link if link.signal else -1,
            "node": node_index[node.id],
            "inner_m": sum(lane_of[p].length_m for p in path[:-1]),
        }
        for name, value in row.items():
            columns[name].append(value)
        by_slot[node.id, slot] = len(request)
        request.append(slot)
        internal.append(tuple(path))
        responses.append(node.requests[slot][0] if 0 <= slot < len(node.requests) else "")
        yields.append("1" in responses[-1])

    def ints(name: str) -> graph.Ints:
        return np.array(columns[name], np.int32)

    table = MovementTable(
        from_lane=ints("from_lane"),
        to_lane=ints("to_lane"),
        turn=ints("turn"),
        length_m=np.array(columns["length_m"], np.float64),
        speed_mps=np.array(columns["speed_mps"], np.float64),
        signal=ints("signal"),
        link=ints("link"),
        node=ints("node"),
        yields=np.array(yields, np.bool_),
        internal_lanes=tuple(internal),
        gives_way_to=_first_goers(responses, [nodes[int(i)] for i in columns["node"]], by_slot),
        inner_m=np.array(columns["inner_m"], np.float64),
    )
    return table, request, by_signal


def _first_goers(responses: Sequence[str], nodes: Sequence[str], by_slot: dict[tuple[str, int], int]) -> Ragged:
    """Per movement the movements it gives way to; in a response, the last character is request 0."""
    rows = [
        [by_slot[node, slot] for slot, bit in enumerate(reversed(bits)) if bit == "1" and (node, slot) in by_slot]
        for bits, node in zip(responses, nodes, strict=True)
    ]
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
    return Ragged(offsets, np.array([m for row in rows for m in row], np.int32))


def _signal(
    raw: RawNet,
    path: Path,
    sid: str,
    movements: MovementTable,
    request: list[int],
    members: list[tuple[int, RawLink, int]],
    node_index: dict[str, int],
    edge_index: dict[str, int],
    lanes: LaneTable,
) -> Signal:
    programmes, schedule = _scheduled(path, raw, sid, raw.programmes[sid])
    count = _fewest_lamps(path, sid, max(link for link, _, _ in members) + 1, programmes)
    foes = np.zeros((count, count), np.bool_)
    slots: dict[str, list[tuple[int, int]]] = defaultdict(list)  # node -> (link, request index)
    link_movements: list[list[int]] = [[] for _ in range(count)]
    crossing_parts: dict[str, list[int]] = defaultdict(list)
    lengths: dict[str, tuple[float, float]] = {}
    for link, raw_link, movement in members:
        if movement >= 0:
            link_movements[link].append(movement)
            slots[raw.edges[raw_link.origin].to_node].append((link, request[movement]))
            continue
        crossing = next((e for e in (raw_link.target, raw_link.origin) if _is_crossing(raw, e)), None)
        if crossing is None:
            continue
        lane = raw.edges[crossing].lanes[0]
        crossing_parts[crossing].append(link)
        lengths[crossing] = (lane.length_m, lane.width_m)
        node_id = crossing[1:].rpartition("_")[0]
        node = raw.nodes[node_id]
        if lane.id in node.internal:
            slots[node_id].append((link, node.internal.index(lane.id)))
    for node_id, here in slots.items():
        requests = raw.nodes[node_id].requests
        for link_a, slot_a in here:
            if not 0 <= slot_a < len(requests):
                continue
            bits = requests[slot_a][1][::-1]
            for link_b, slot_b in here:
                if link_a != link_b and 0 <= slot_b < len(bits) and bits[slot_b] == "1":
                    foes[link_a, link_b] = foes[link_b, link_a] = True
    crossings = tuple(
        Crossing(
            name,
            tuple(sorted(set(parts))),
            lengths[name][0],
            lengths[name][1],
            tuple(edge_index[e] for e in raw.edges[name].crossed if e in edge_index),
            tuple(raw.edges[name].lanes[0].shape),
        )
        for name, parts in crossing_parts.items()
    )
    pedestrian = np.zeros(count, np.bool_)
    clearance_s = np.zeros(count)
    for c in crossings:
        for link in c.links:
            pedestrian[link] = not link_movements[link]  # a lamp shared with vehicles obeys their stricter rules
            clearance_s[link] = max(clearance_s[link], c.length_m / WALKING.clearing_mps)
    conflicts = _conflicts(foes, programmes)
    yellow_s = longest_yellow_s(programmes[0]) or DEFAULT_YELLOW_S
    all_red_s = longest_all_red_s(programmes[0])
    paths = _link_paths(raw, link_movements, crossings, movements, lanes)
    return Signal(
        id=sid,
        nodes=tuple(sorted({node_index[n] for n in slots})),
        link_count=count,
        link_movements=tuple(tuple(m) for m in link_movements),
        crossings=crossings,
        programmes=programmes,
        stages=recognise_stages(programmes),
        foes=foes,
        conflicts=conflicts,
        intergreen_s=intergreen_matrix(conflicts, paths, pedestrian, clearance_s, programmes[0], yellow_s, all_red_s),
        yellow_s=yellow_s,
        all_red_s=all_red_s,
        min_green_s=np.full(len(pedestrian), MIN_GREEN_S),
        max_red_s=max(MAX_RED_S, max((p.cycle_s for p in programmes), default=0.0)),
        pedestrian=pedestrian,
        pedestrian_clearance_s=clearance_s,
        schedule=schedule,
    )


def _link_paths(
    raw: RawNet,
    link_movements: Sequence[Sequence[int]],
    crossings: Sequence[Crossing],
    movements: MovementTable,
    lanes: LaneTable,
) -> list[LinkPath]:
    """The ways behind the stop lines of one signal; movements without internal lanes have none."""
    paths = []
    for link, members in enumerate(link_movements):
        for m in members:
            flat = [v for lane in movements.internal_lanes[m] for v in raw.lanes[lane].shape]
            if len(flat) < 4:
                continue
            allowed = int(lanes.allowed[movements.from_lane[m]])
            if allowed & MOTOR:
                motion = STRAIGHT_ON if movements.turn[m] == graph.STRAIGHT else TURNING
            else:
                motion = TRAM if allowed & graph.TRAM else CYCLING
            paths.append(LinkPath(link, np.array(flat).reshape(-1, 2), motion))
    for crossing in crossings:
        lane = raw.edges[crossing.id].lanes[0]
        if len(lane.shape) >= 4:
            xy = np.array(lane.shape).reshape(-1, 2)
            paths += [LinkPath(link, xy, WALKING, crossing.width_m / 2) for link in crossing.links]
    return paths


def _is_rail(raw: RawNet, link: RawLink) -> bool:
    owner = raw.edges[link.origin].to_node if link.origin in raw.edges else ""
    node = raw.nodes.get(owner or link.origin[1:].rpartition("_")[0])
    return node is not None and node.kind.startswith("rail")


def _is_crossing(raw: RawNet, edge: str) -> bool:
    return edge in raw.edges and raw.edges[edge].function == "crossing"


def _conflicts(foes: Bools, programmes: Sequence[Programme]) -> Bools:
    """Foes less the pairs that a shipped phase opens together."""
    conflicts = foes.copy()
    for programme in programmes:
        for phase in programme.phases:
            lit = np.array([c in "GgyY" for c in phase.state[: len(foes)]])
            conflicts &= ~np.outer(lit, lit)
    return conflicts
