"""Guess which file of a folder is the network, the demand, the programmes ...: by content, not by trust in names."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from networks.errors import CityError
from networks.readers.formats import open_maybe_gzip
from networks.readers.sumo_xml import read_seconds

_DEMAND = {"vehicle", "trip", "flow", "person", "personFlow", "container", "containerFlow"}
_TYPES = {"vType", "vTypeDistribution", "route", "routeDistribution"}
_PROGRAMMES = {"tlLogic", "WAUT", "wautJunction"}
_WRITERS = {
    "e1Detector",
    "inductionLoop",
    "instantInductionLoop",
    "e2Detector",
    "laneAreaDetector",
    "e3Detector",
    "entryExitDetector",
    "edgeData",
    "laneData",
    "timedEvent",
    "routeProbe",
    "vTypeProbe",
    "calibrator",
}
_DRAFT = re.compile(r"candidate|manual|draft|raw|unsorted", re.IGNORECASE)
_FITTED = re.compile(r"sampled|calibrated|fitted", re.IGNORECASE)
_UNREADABLE = (ET.ParseError, EOFError, OSError, zlib.error, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class GuessedFiles:
    """The files a SUMO run of the folder needs; `findings` says why each other file was left out."""

    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...]  # vehicle types first: demand files refer to them
    programmes: tuple[Path, ...]
    begin_s: float
    end_s: float
    findings: tuple[str, ...]


@dataclass(slots=True)
class _Content:
    """What one XML file holds."""

    path: Path
    root: str
    tags: Counter[str]
    ids: set[str] = field(default_factory=set)  # of vehicles, trips and flows
    first_s: float = math.inf
    last_s: float = -math.inf

    @property
    def is_demand(self) -> bool:
        return bool(_DEMAND & set(self.tags))


def holds_demand(path: Path) -> bool:
    """Whether a SUMO file holds vehicles, flows or persons. Raises CityError when it cannot be read as XML."""
    try:
        return _look(path).is_demand
    except _UNREADABLE as defect:
        raise CityError(f"{path}: not readable as SUMO XML: {defect}") from defect


def guess_files(folder: Path) -> GuessedFiles:
    """Sort the files of a folder by role. Raises CityError when there is not exactly one network.

    A single .sumocfg whose files all exist decides; otherwise content does.
    """
    findings: list[str] = []
    configured = _configured(folder, findings)
    if configured is not None:
        return configured
    contents: list[_Content] = []
    for path in sorted(p for p in folder.iterdir() if p.name.endswith((".xml", ".xml.gz"))):
        try:
            contents.append(_look(path))
        except _UNREADABLE as defect:
            findings.append(f"{path.name}: left out, not readable as XML: {defect}")
    nets = [c.path for c in contents if c.root == "net"]
    if not nets:
        unread = "; ".join(findings)
        raise CityError(f"{folder}: holds no SUMO network (.net.xml or .net.xml.gz) {unread}".rstrip())
    if len(nets) > 1:
        names = ", ".join(p.name for p in nets)
        raise CityError(f"{folder}: holds several networks ({names}); name one as city.network in a city.toml")
    types, demand, stops, programmes = [], [], [], []
    for content in contents:
        tags, name = set(content.tags), content.path.name
        if content.root == "net":
            continue
        if content.is_demand:
            demand.append(content)
        elif content.root not in {"routes", "additional", "add"}:
            findings.append(f"{name}: left out, <{content.root}> is no demand and no street furniture")
        elif tags & _PROGRAMMES:
            programmes.append(content.path)
            if tags - _PROGRAMMES:
                stops.append(content.path)
                findings.append(f"{name}: holds signal programmes beside other things; used as both")
        elif tags & _TYPES and not tags - _TYPES:
            types.append(content.path)
        elif tags & _WRITERS:
            findings.append(f"{name}: left out of runs, its {sorted(tags & _WRITERS)[0]} elements write output files")
        elif tags:
            stops.append(content.path)
    chosen = _choose(demand, findings)
    begin_s, end_s = _span(chosen)
    if chosen:
        names = ", ".join(c.path.name for c in chosen)
        findings.append(f"demand is {names}; its departures span {begin_s:g} to {end_s:g} s")
    else:
        findings.append("no demand found")
    findings += [f"{path.name}: taken as the shipped signal programmes" for path in programmes]
    return GuessedFiles(
        network=nets[0],
        routes=tuple(c.path for c in chosen),
        additional=(*types, *stops),
        programmes=tuple(programmes),
        begin_s=begin_s,
        end_s=end_s,
        findings=tuple(findings),
    )


def _configured(folder: Path, findings: list[str]) -> GuessedFiles | None:
    """What the folder's .sumocfg says, None when there is none to follow."""
    configurations = sorted(folder.glob("*.sumocfg"))
    if len(configurations) != 1:
        findings += [f"{path.name}: left out, one of several configurations" for path in configurations]
        return None
    path = configurations[0]
    try:
        options = {element.tag: element.get("value", "") for element in ET.parse(path).iter()}
    except _UNREADABLE as defect:
        findings.append(f"{path.name}: left out, not readable as XML: {defect}")
        return None

    def files(*names: str) -> list[Path]:
        value = next((options[name] for name in names if name in options), "")
        return [(folder / part.strip()).resolve() for part in value.split(",") if part.strip()]

    nets, routes = files("net-file", "net", "n"), files("route-files", "routes", "r")
    extras = files("additional-files", "additional", "a")
    missing = [p.name for p in (*nets, *routes, *extras) if not p.is_file()]
    if len(nets) != 1 or missing:
        reason = f"it names {missing[0]}, which is not there" if missing else "it names no network"
        findings.append(f"{path.name}: left out, {reason}")
        return None
    contents = {p: _look(p) for p in (*routes, *extras)}
    writers = [p for p in extras if set(contents[p].tags) & _WRITERS]
    findings += [f"{p.name}: left out of runs, its elements write output files" for p in writers]
    programmes = [p for p in extras if set(contents[p].tags) & _PROGRAMMES]
    first_s, last_s = _span([contents[p] for p in routes])
    begin_s, end_s = read_seconds(options.get("begin")), read_seconds(options.get("end"))
    findings.append(f"{path.name}: followed for the files and the time span of a run")
    return GuessedFiles(
        network=nets[0],
        routes=tuple(routes),
        additional=tuple(p for p in extras if p not in writers and p not in programmes),
        programmes=tuple(programmes),
        begin_s=first_s if begin_s is None else max(begin_s, 0.0),
        end_s=last_s if end_s is None or end_s <= (begin_s or 0.0) else end_s,
        findings=tuple(findings),
    )


def _look(path: Path) -> _Content:
    """Root, direct children and departures of one XML file."""
    content: _Content | None = None
    depth = 0
    with open_maybe_gzip(path) as stream:
        for event, element in ET.iterparse(stream, events=("start", "end")):
            if event == "start":
                depth += 1
                if content is None:
                    content = _Content(path, element.tag, Counter())
                    if element.tag in {"net", "osm", "OpenDRIVE"}:
                        return content
                elif depth == 2:
                    _note(content, element)
            else:
                depth -= 1
                if depth == 1:
                    element.clear()
    if content is None:
        raise ET.ParseError("no element found")
    return content


def _note(content: _Content, element: ET.Element) -> None:
    content.tags[element.tag] += 1
    if element.tag not in _DEMAND:
        return
    content.ids.add(element.get("id", ""))
    for name, fallback in (("depart", None), ("begin", "0"), ("end", None)):
        if name == "begin" and "depart" in element.attrib:
            continue
        moment_s = read_seconds(element.get(name, fallback if element.tag.lower().endswith("flow") else None))
        if moment_s is not None:
            content.first_s = min(content.first_s, moment_s)
            content.last_s = max(content.last_s, moment_s)


def _choose(demand: list[_Content], findings: list[str]) -> list[_Content]:
    """Files that belong together: a fitted demand beats drafts, and no vehicle may come twice."""

    def rank(content: _Content) -> int:
        return 0 if _FITTED.search(content.path.name) else 2 if _DRAFT.search(content.path.name) else 1

    chosen: list[_Content] = []
    best = min((rank(c) for c in demand), default=1)
    for content in sorted(demand, key=lambda c: (rank(c), c.path.name)):
        twin = next((c for c in chosen if c.ids & content.ids), None)
        if twin is not None:
            findings.append(f"{content.path.name}: left out, an alternative of {twin.path.name} (same vehicles)")
        elif rank(content) == 2 and best < 2:
            findings.append(f"{content.path.name}: left out, a draft beside a finished demand")
        else:
            chosen.append(content)
    return chosen


def _span(chosen: list[_Content]) -> tuple[float, float]:
    first_s = min((c.first_s for c in chosen), default=math.inf)
    last_s = max((c.last_s for c in chosen), default=-math.inf)
    if not math.isfinite(first_s) or not math.isfinite(last_s):
        return 0.0, 3600.0
    begin_s = math.floor(first_s / 60.0) * 60.0
    return begin_s, max(math.ceil(last_s / 60.0) * 60.0, begin_s + 60.0)
