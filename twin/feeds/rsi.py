"""Roadside information (RSI, T/CSAE-53): events and where they lie -> `ControlNotice`.

An event's type is a code of GB/T 29100. Which codes close the lanes that they lie on is for the operator to say;
events of other types are accepted and change nothing. Signs (RTS) are not used.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from networks import day_one
from networks.errors import MessageError
from networks.graph import Floats, Network
from networks.messages import Frame
from twin.feeds.base import MALFORMED, UNKNOWN_ID, Decoded, Placed, Rejected
from twin.feeds.control import NoticeRow
from twin.feeds.datum import Locator
from twin.feeds.rsm import absolute_position
from twin.numbering import Numbering
from twin.street_paths import StreetPaths

HOLD_S = 300.0
"""An event without an end holds so long after it was last told; units repeat it every second or so."""
_NO_MINUTE = 527_040


class RoadEvent(NamedTuple):
    """One event of a message."""

    number: int
    type: int
    begin_s: float
    end_s: float  # NaN: not told
    paths: tuple[tuple[Floats, Floats], ...]  # longitudes and latitudes of each, in driving direction
    links: tuple[tuple[tuple[int | None, int], tuple[int | None, int], tuple[int, ...]], ...]
    """Nodes (region, number) from and to, and lanes counted from 1 at the left; () the whole link."""
    point: tuple[float, float] | None  # longitude, latitude


class RsiReport(NamedTuple):
    measured_at: float
    unit: str
    events: tuple[RoadEvent, ...]


class RsiAdapter:
    feed = "rsi"
    delivers = "control"
    own_clock = True
    lateness_s = 3600.0
    expected_every_s = math.inf
    source_every_s = math.inf

    def __init__(
        self, network: Network, numbering: Numbering, *, closing: Collection[int], datum: str = "wgs84"
    ) -> None:
        """`closing`: event types that close the lanes they lie on."""
        self._locator = Locator(network, datum)
        self._paths = StreetPaths(network)
        self._closing = frozenset(closing)
        self._first_lane = network.edges.first_lane
        self._links: dict[tuple[tuple[int | None, int], tuple[int | None, int]], int] = {}
        for edge in range(len(network.edges.ids)):
            ends = (int(network.edges.from_node[edge]), int(network.edges.to_node[edge]))
            names = [_place_of(numbering.node_reference(node)) for node in ends]
            self._links[names[0], names[1]] = edge

    def decode(self, frame: Frame) -> Decoded[RsiReport]:
        kind, value = day_one.decode(frame.payload)
        if kind != "RSI":
            raise MessageError(MALFORMED, f"message: {kind}, expected an RSI")
        near_s = day_one.moment_near(frame)
        events = tuple(_event(one, value["refPos"], near_s) for one in value.get("rtes", ()))
        return Decoded((RsiReport(near_s, frame.source, events),))

    def place(self, report: RsiReport, received_at_s: float) -> Placed[NoticeRow]:
        rows: list[NoticeRow] = []
        rejected: list[Rejected] = []
        for event in report.events:
            if event.type not in self._closing:
                continue
            closed = self._find(event)
            if not closed:
                rejected.append(Rejected(UNKNOWN_ID, f"rtes.{event.number}: lies on none of our streets", b""))
            end_s = event.end_s if event.end_s == event.end_s else report.measured_at + HOLD_S
            for edge, lanes in closed.items():
                name = f"{report.unit}/{event.number}/{edge}"
                rows.append(
                    NoticeRow(report.measured_at, received_at_s, name, edge, lanes, event.begin_s, end_s, math.nan)
                )
        return Placed(rows, rejected)

    def _find(self, event: RoadEvent) -> dict[int, tuple[int, ...]]:
        """Edges, and the dense lanes of each that are meant (() all), by links, else by paths, else by the point."""
        found: dict[int, tuple[int, ...]] = {}
        for upstream, downstream, lanes in event.links:
            edge = self._links.get((upstream, downstream), -1)
            if edge >= 0:
                first, end = int(self._first_lane[edge]), int(self._first_lane[edge + 1])
                ours = tuple(sorted(end - lane for lane in lanes if first <= end - lane < end))
                if ours or not lanes:
                    found[edge] = ours
        if not found:
            for lon, lat in event.paths:
                found.update(dict.fromkeys(self._paths.along(*self._locator.place(lon, lat)), ()))
        if not found and event.point is not None:
            edge = self._paths.at(*self._locator.place_one(*event.point))
            if edge >= 0:
                found[edge] = ()
        return found


def _event(told: Mapping[str, Any], reference: Mapping[str, Any], near_s: float) -> RoadEvent:
    times = told.get("timeDetails", {})
    begin_s, end_s = (_minute(times.get(name), near_s) for name in ("startTime", "endTime"))
    point = _degrees([told["eventPos"]], reference) if "eventPos" in told else None
    return RoadEvent(
        number=told["rteId"],
        type=told["eventType"],
        begin_s=begin_s if begin_s == begin_s else near_s,
        end_s=end_s,
        paths=tuple(_degrees(path["activePath"], reference) for path in told.get("referencePaths", ())),
        links=tuple(
            (_place_of(link["upstreamNodeId"]), _place_of(link["downstreamNodeId"]), _lanes(link))
            for link in told.get("referenceLinks", ())
        ),
        point=None if point is None else (float(point[0][0]), float(point[1][0])),
    )


def _minute(minute: int | None, near_s: float) -> float:
    if minute is None or minute >= _NO_MINUTE:
        return math.nan
    return day_one.from_minute_of_year(minute, 0, near_s)


def _degrees(positions: Any, reference: Mapping[str, Any]) -> tuple[Floats, Floats]:
    points = np.array([absolute_position(p, reference) for p in positions], np.float64) * day_one.ANGLE_UNIT_DEG
    return points[:, 0], points[:, 1]


def _place_of(reference: Mapping[str, int]) -> tuple[int | None, int]:
    return reference.get("region"), reference["id"]


def _lanes(link: Mapping[str, Any]) -> tuple[int, ...]:
    """Lanes named by the bits 1 to 15 of ReferenceLanes."""
    if "referenceLanes" not in link:
        return ()
    bits = int.from_bytes(link["referenceLanes"][0][:2], "big")
    return tuple(lane for lane in range(1, 16) if bits >> (15 - lane) & 1)
