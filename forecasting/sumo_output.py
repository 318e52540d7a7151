"""What SUMO writes of its traffic -> `Recording`: edgeData (`<meandata>`), loops (E1) and lane areas (E2), also .gz.

Flow is the vehicles that were done with the place in the interval, as vehicles an hour; speed is in km/h, and missing
where nobody drove. Format: SUMO documentation, "Simulation/Output".
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
import zlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from forecasting.recording import UNITS, Recording
from forecasting.series import DAY_S
from networks.errors import InputError
from networks.readers.formats import open_maybe_gzip

_KMH = 3.6


class _Kind(NamedTuple):
    """Attributes of one reading in the file."""

    counts: tuple[str, ...]  # their sum: vehicles that were done with the place
    speed: str
    presence: str  # 0: nobody drove there
    absent_is_empty: bool  # a place that an interval leaves out had no traffic


_KINDS = {
    "edgeData": _Kind(("left", "arrived"), "speed", "sampledSeconds", absent_is_empty=True),
    "E1": _Kind(("nVehContrib",), "speed", "nVehContrib", absent_is_empty=False),
    "E2": _Kind(("nVehLeft",), "meanSpeed", "sampledSeconds", absent_is_empty=False),
}


class _Reading(NamedTuple):
    kind: str
    begin: str
    end: str
    place: str | None  # None: an interval of edgeData ends
    attributes: Mapping[str, str]


def read_sumo_output(path: Path, *, from_s: int) -> Recording:
    """Read an output file. `from_s`: local wall time of SUMO's second 0.

    A shorter last interval, as SUMO writes it when a run ends, is left out. Raises InputError naming file, place and
    interval.
    """
    kept = _Table(path)
    try:
        for reading in _readings(path):
            kept.add(reading)
    except ET.ParseError as defect:
        raise InputError(f"{path}: cut off or damaged after interval {kept.newest}: {defect}") from defect
    except (OSError, EOFError, zlib.error) as defect:
        raise InputError(f"{path}: not readable after interval {kept.newest}: {defect}") from defect
    return kept.recording(from_s)


def _readings(path: Path) -> Iterator[_Reading]:
    with open_maybe_gzip(path) as stream:
        events = ET.iterparse(stream, events=("start", "end"))
        _, root = next(events)
        if root.tag not in ("meandata", "detector"):
            raise InputError(f"{path}: <{root.tag}> is no output of edges (<meandata>) or of loops (<detector>)")
        begin = end = ""
        for event, element in events:
            if event == "start":
                if element.tag == "interval":
                    begin, end = element.get("begin", ""), element.get("end", "")
                continue
            if element.tag == "lane":
                raise InputError(f"{path}: holds lanes (laneData); edgeData is needed")
            if element.tag == "edge":
                yield _Reading("edgeData", begin, end, element.get("id", ""), element.attrib)
            elif element.tag == "interval" and root.tag == "meandata":
                yield _Reading("edgeData", begin, end, None, {})
            elif element.tag == "interval":
                kind = "E1" if "nVehContrib" in element.attrib else "E2"
                yield _Reading(kind, begin, end, element.get("id", ""), element.attrib)
            if element.tag == "interval":
                root.clear()


class _Table:
    """Readings as they come, checked one by one."""

    def __init__(self, path: Path) -> None:
        self.newest = "none"
        self._path = path
        self._kind = ""
        self._step_s = 0
        self._span: tuple[str, str] | None = None  # of the interval in hand
        self._times = 0, 0, False
        self._newest_s = -math.inf  # begin of the newest whole interval
        self._short_from_s: int | None = None
        self._row: dict[int, int] = {}  # begin -> row
        self._column: dict[str, int] = {}
        self._ends_s: dict[str, int] = {}  # of the newest interval of each place
        self._at = array("q"), array("q")  # rows and columns
        self._values = array("f"), array("f")  # flows and speeds

    def add(self, reading: _Reading) -> None:
        place = reading.place
        if place is not None and place.startswith(":"):  # inside a junction
            return
        where = f"{self._path}: {place or 'interval'} from {reading.begin or '?'} to {reading.end or '?'}"
        if place == "":
            raise InputError(f"{where}: has no id")
        if self._kind not in ("", reading.kind):
            raise InputError(f"{where}: is of {reading.kind}, the rest of {self._kind}")
        self._kind = reading.kind
        if self._span != (reading.begin, reading.end):
            self._times = self._check_span(where, reading.begin, reading.end)
            self._span = reading.begin, reading.end
        begin_s, end_s, whole = self._times
        key = "" if place is None else place  # edgeData: the intervals themselves must not overlap either
        if begin_s < self._ends_s.get(key, begin_s):
            raise InputError(f"{where}: begins before {self._ends_s[key]}, the end of the one before")
        self._ends_s[key] = end_s
        if not whole:
            return
        self.newest = f"{reading.begin} to {reading.end}"
        row = self._row.setdefault(begin_s, len(self._row))
        if place is None:
            return
        kind = _KINDS[reading.kind]
        counts = [_number(where, name, reading.attributes) for name in kind.counts]
        if min(counts) < 0:
            raise InputError(f"{where}: {kind.counts[0]}: a count is below 0")
        speed_kmh = math.nan
        if _number(where, kind.presence, reading.attributes) > 0:
            speed_kmh = _KMH * _number(where, kind.speed, reading.attributes)
        self._at[0].append(row)
        self._at[1].append(self._column.setdefault(place, len(self._column)))
        self._values[0].append(sum(counts) * 3600 / self._step_s)
        self._values[1].append(speed_kmh if speed_kmh >= 0 else math.nan)

    def recording(self, from_s: int) -> Recording:
        if not self._column or not self._row:
            raise InputError(f"{self._path}: holds no whole interval of any place")
        begin_s = np.array(list(self._row), np.int64)
        order = np.argsort(begin_s)
        off = np.flatnonzero((begin_s[order] - begin_s[order[0]]) % self._step_s)
        if len(off):
            raise InputError(
                f"{self._path}: interval from {begin_s[order[off[0]]]}: overlaps others of {self._step_s} s from "
                f"{begin_s[order[0]]}"
            )
        rank = np.argsort(order)
        at = rank[np.array(self._at[0])], np.array(self._at[1])
        shape = len(self._row), len(self._column)
        flow = np.full(shape, 0.0 if _KINDS[self._kind].absent_is_empty else np.nan, np.float32)
        speed = np.full(shape, np.nan, np.float32)
        flow[at], speed[at] = np.array(self._values[0]), np.array(self._values[1])
        return Recording(
            name=self._path.name.split(".")[0], places=tuple(self._column), start_s=from_s + begin_s[order],
            step_s=self._step_s, channels={"flow": flow, "speed": speed}, target="flow", units=UNITS,
            source=f"{self._path} (SUMO {self._kind})",
        )  # fmt: skip

    def _check_span(self, where: str, begin: str, end: str) -> tuple[int, int, bool]:
        """An interval's begin and end, and whether it is as long as the others; a shorter one has to be the last."""
        begin_s, end_s = _seconds(where, "begin", begin), _seconds(where, "end", end)
        length_s = end_s - begin_s
        self._step_s = self._step_s or length_s
        if not 0 < length_s <= DAY_S:
            raise InputError(f"{where}: lasts {length_s} s, not between 1 s and a day")
        short = length_s < self._step_s
        at_end = begin_s >= self._newest_s if short else self._short_from_s is None or begin_s < self._short_from_s
        if length_s > self._step_s or not at_end:
            raise InputError(f"{where}: lasts {length_s} s, unlike others in the file")
        if short:
            self._short_from_s = begin_s
        else:
            self._newest_s = max(self._newest_s, begin_s)
        return begin_s, end_s, not short


def _seconds(where: str, name: str, text: str) -> int:
    value = _number(where, name, {name: text} if text else {})
    if value != int(value):
        raise InputError(f"{where}: {name}: {text} is no whole second")
    return int(value)


def _number(where: str, name: str, attributes: Mapping[str, str]) -> float:
    text = attributes.get(name)
    if text is None:
        raise InputError(f"{where}: has no {name}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {name}: {text!r} is no number")
    return value
