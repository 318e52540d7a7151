"""The elements of a SUMO network file as they stand there, checked one by one.

Format: SUMO documentation, "Networks/SUMO Road Networks".
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from networks import graph
from networks.errors import NetworkError
from networks.graph import Programme, ProgrammePhase
from networks.readers.formats import open_maybe_gzip
from networks.readers.phase_jumps import shown_cycle

_CLASS_BITS = {
    "passenger": graph.PASSENGER,
    "private": graph.PASSENGER,
    "bus": graph.BUS,
    "truck": graph.TRUCK,
    "bicycle": graph.BICYCLE,
    "pedestrian": graph.PEDESTRIAN,
    "emergency": graph.EMERGENCY,
    "tram": graph.TRAM,
}
_ALL_CLASSES = sum(set(_CLASS_BITS.values()))


@dataclass(slots=True)
class RawLane:
    id: str
    index: int
    length_m: float
    speed_mps: float
    width_m: float
    allowed: int
    shape: list[float]


@dataclass(slots=True)
class RawEdge:
    id: str
    function: str
    from_node: str
    to_node: str
    priority: int
    name: str
    crossed: tuple[str, ...]
    lanes: list[RawLane] = field(default_factory=list)

    @property
    def is_road(self) -> bool:
        return self.function in {"", "normal", "connector"}


@dataclass(slots=True)
class RawNode:
    id: str
    x: float
    y: float
    kind: str
    internal: list[str]
    requests: list[tuple[str, str]] = field(default_factory=list)  # (response, foes), by request index


@dataclass(slots=True)
class RawLink:
    origin: str  # edge id
    target: str
    from_lane: int
    to_lane: int
    via: str
    signal: str
    link: int
    turn: str
    state: str


@dataclass(slots=True)
class RawTimetable:
    start: str  # programme
    changes: list[tuple[float, str]]  # second of the simulation, programme
    period_s: float  # 0: the changes happen once


@dataclass(slots=True)
class RawNet:
    edges: dict[str, RawEdge] = field(default_factory=dict)
    nodes: dict[str, RawNode] = field(default_factory=dict)
    links: list[RawLink] = field(default_factory=list)
    lanes: dict[str, RawLane] = field(default_factory=dict)
    programmes: dict[str, list[Programme]] = field(default_factory=lambda: defaultdict(list))  # as loaded
    timetables: dict[str, RawTimetable] = field(default_factory=dict)
    followers: dict[str, str] = field(default_factory=dict)  # signal -> timetable
    projection: str = "!"
    offset: tuple[float, float] = (0.0, 0.0)
    bounds: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def _number(text: str, least: float = -math.inf) -> float:
    value = float(text)
    if not math.isfinite(value) or value < least:
        raise ValueError(f"number out of range: {text!r}")
    return value


def _numbers(text: str) -> list[float]:
    return [_number(x) for x in text.replace(",", " ").split()]


def _shape(text: str) -> list[float]:
    values = [_number(v) for point in text.split() for v in point.split(",")[:2]]
    if len(values) < 4 or len(values) % 2:
        raise ValueError(f"shape is no line: {text!r}")
    return values


def _allowed(attributes: dict[str, str]) -> int:
    if "allow" in attributes:
        if attributes["allow"] == "all":
            return _ALL_CLASSES
        return sum({_CLASS_BITS[c] for c in attributes["allow"].split() if c in _CLASS_BITS})
    if attributes.get("disallow") == "all":
        return 0
    return _ALL_CLASSES - sum({_CLASS_BITS[c] for c in attributes.get("disallow", "").split() if c in _CLASS_BITS})


def parse_sumo(path: Path) -> RawNet:
    """Read a network or additional file. Raises NetworkError naming the element, and what the XML reader raises."""
    raw = RawNet()
    with open_maybe_gzip(path) as stream:
        for _, element in ET.iterparse(stream):
            try:
                _take(raw, element)
            except (KeyError, ValueError) as defect:
                name = element.get("id") or f"{element.get('from')} -> {element.get('to')}"
                what = f"lacks the attribute {defect}" if isinstance(defect, KeyError) else f"is wrong: {defect}"
                raise NetworkError(f"{path}: <{element.tag}> {name!r} {what}") from defect
    return raw


def _take(raw: RawNet, element: ET.Element) -> None:
    """Note one finished element; what is noted whole is cleared to keep memory small."""
    get = element.attrib
    match element.tag:
        case "location":
            raw.projection = get.get("projParameter", "!")
            x, y = _numbers(get.get("netOffset", "0,0"))
            raw.offset = (x, y)
            a, b, c, d = _numbers(get.get("convBoundary", "0,0,0,0"))
            raw.bounds = (a, b, c, d)
        case "edge":
            raw.edges[get["id"]] = _raw_edge(element)
            element.clear()
        case "junction" if get.get("type") != "internal":
            raw.nodes[get["id"]] = RawNode(
                get["id"],
                _number(get["x"]),
                _number(get["y"]),
                get.get("type", ""),
                get.get("intLanes", "").split(),
                [(r.get("response", ""), r.get("foes", "")) for r in element.findall("request")],
            )
            element.clear()
        case "connection":
            raw.links.append(_raw_link(get))
        case "tlLogic":
            raw.programmes[get["id"]].append(_programme(element))
            element.clear()
        case "WAUT":
            raw.timetables[get["id"]] = _timetable(element)
        case "wautJunction":
            raw.followers[get["junctionID"]] = get["wautID"]
        case _:
            pass


def _raw_link(get: dict[str, str]) -> RawLink:
    link = int(get.get("linkIndex", -1))  # -1 with a signal: it lets this one pass, as a rail crossing does trains
    return RawLink(
        get["from"],
        get["to"],
        int(get.get("fromLane", 0)),
        int(get.get("toLane", 0)),
        get.get("via", ""),
        get.get("tl", "") if link >= 0 else "",
        link,
        get.get("dir", "s"),
        get.get("state", ""),
    )


def _raw_edge(element: ET.Element) -> RawEdge:
    get = element.attrib
    lanes = [
        RawLane(
            lane.attrib["id"],
            int(lane.attrib["index"]),
            _number(lane.attrib["length"], 0.0),
            _number(lane.attrib["speed"], 0.0),
            _number(lane.attrib.get("width", "3.2"), 0.0),
            _allowed(lane.attrib),
            _shape(lane.attrib.get("shape", "")),
        )
        for lane in element.findall("lane")
    ]
    return RawEdge(
        get["id"],
        get.get("function", ""),
        get.get("from", ""),
        get.get("to", ""),
        int(get.get("priority", -1)),
        get.get("name", ""),
        tuple(get.get("crossingEdges", "").split()),
        lanes,
    )


def _programme(element: ET.Element) -> Programme:
    """The cycle that is really shown: phases that jumps (`next`) pass over are left out."""
    elements = element.findall("phase")
    phases = [
        ProgrammePhase(
            p.attrib["state"],
            _number(p.attrib["duration"], 0.0),
            _number(p.attrib.get("minDur", p.attrib["duration"]), 0.0),
            _number(p.attrib.get("maxDur", p.attrib["duration"]), 0.0),
        )
        for p in elements
    ]
    offset_s = _number(element.attrib.get("offset", "0"))
    order, offset_s = shown_cycle([p.duration_s for p in phases], [p.get("next") for p in elements], offset_s)
    return Programme(
        element.attrib.get("programID", "0"),
        element.attrib.get("type", "static"),
        offset_s,
        tuple(phases[n] for n in order),
    )


def _timetable(element: ET.Element) -> RawTimetable:
    reference_s = _moment(element.attrib.get("refTime", "0"))
    changes = [(reference_s + _moment(s.attrib["time"]), s.attrib["to"]) for s in element.findall("wautSwitch")]
    period_s = _moment(element.attrib.get("period", "0"))
    if period_s > 0.0:
        changes = [(at_s % period_s, to) for at_s, to in changes]
    return RawTimetable(element.attrib["startProg"], sorted(changes), max(period_s, 0.0))


def _moment(text: str) -> float:
    seconds = read_seconds(text)
    if seconds is None:
        raise ValueError(f"no moment: {text!r}")
    return seconds


def read_clock(text: str) -> float | None:
    """A moment as people write it: as `read_seconds`, but two parts are hours and minutes."""
    return read_seconds(f"{text}:0" if text.count(":") == 1 else text)


def read_seconds(text: str | None) -> float | None:
    """A moment in SUMO's files: seconds, or [days:]hours:minutes:seconds; None for words such as "triggered"."""
    try:
        parts = [float(part) for part in (text or "").split(":")]
    except ValueError:
        return None
    return sum(p * unit for p, unit in zip(reversed(parts), (1.0, 60.0, 3600.0, 86400.0), strict=False))
