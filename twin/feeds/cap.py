"""Weather warnings in the Common Alerting Protocol (OASIS CAP 1.2) -> `WeatherWarning`.

Of an alert with status Actual each `info` becomes a warning when one of its areas touches the network: a polygon
(WGS-84, latitude first, as CAP has it), a circle, or an area by name alone, which may be anywhere and is taken.
An alert of type Cancel ends the warnings that it refers to; Update and Alert replace those of the same identifier.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely

from networks.batches import WeatherWarning
from networks.coordinates import to_wgs84
from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame
from twin.feeds.base import IMPOSSIBLE, MALFORMED, Decoded, Placed
from twin.feeds.documents import child_text, children, local_name, moment_of, xml_of

HOLD_S = 24 * 3600.0
"""A warning without an end holds for a day."""
_SEVERITIES = frozenset({"Extreme", "Severe", "Moderate", "Minor", "Unknown"})
_KM_PER_DEGREE = 111.195


class AlertInfo(NamedTuple):
    event: str
    severity: str
    begin_s: float
    end_s: float
    outlines: tuple[tuple[tuple[float, float], ...], ...]  # longitude, latitude
    circles: tuple[tuple[float, float, float], ...]  # longitude, latitude, radius km
    anywhere: bool  # named areas alone


class AlertReport(NamedTuple):
    """One alert."""

    measured_at: float
    id: str
    actual: bool
    cancels: tuple[str, ...]
    infos: tuple[AlertInfo, ...]


class WarningRow(NamedTuple):
    measured_at_s: float
    available_at_s: float
    id: str
    event: str
    severity: str
    begin_s: float
    end_s: float


class CapAdapter:
    feed = "cap"
    delivers = "warnings"
    own_clock = False
    lateness_s = 24 * 3600.0
    expected_every_s = math.inf
    source_every_s = math.inf

    def __init__(self, network: Network) -> None:
        """Raises NetworkError when the network has no georeference."""
        west, south, east, north = network.bounds_m
        lons, lats = to_wgs84(network, [west, east, east, west], [south, south, north, north])
        self._city = shapely.Polygon(list(zip(lons, lats, strict=True)))

    def decode(self, frame: Frame) -> Decoded[AlertReport]:
        root = xml_of(frame.payload)
        if local_name(root) != "alert":
            raise MessageError(MALFORMED, "alert: not a CAP alert")
        identifier = child_text(root, "identifier")[:256]
        if not identifier:
            raise MessageError(MALFORMED, "alert.identifier: missing")
        sent_s = _moment(child_text(root, "sent"), "alert.sent")
        kind = child_text(root, "msgType")
        cancels: tuple[str, ...] = ()
        if kind == "Cancel":
            references = child_text(root, "references").split()  # sender,identifier,sent
            cancels = tuple(one.split(",")[1] for one in references if one.count(",") >= 2)
        infos = tuple(_info(info, sent_s, f"alert.info.{n}.") for n, info in enumerate(children(root, "info")))
        report = AlertReport(sent_s, identifier, child_text(root, "status") == "Actual", cancels, infos)
        return Decoded((report,), tellers=(identifier,))

    def place(self, report: AlertReport, received_at_s: float) -> Placed[WarningRow]:
        """Exercises and tests are accepted and warn of nothing."""
        if not report.actual:
            return Placed(())
        if report.cancels:
            times = (report.measured_at, report.measured_at)
            return Placed(
                tuple(
                    WarningRow(report.measured_at, received_at_s, name, "", "Unknown", *times)
                    for name in report.cancels
                )
            )
        return Placed(
            tuple(
                WarningRow(
                    report.measured_at, received_at_s, report.id, info.event, info.severity, info.begin_s, info.end_s
                )
                for info in report.infos
                if self._touches(info)
            )
        )

    def _touches(self, info: AlertInfo) -> bool:
        if info.anywhere:
            return True
        for outline in info.outlines:
            if shapely.Polygon(outline).buffer(0).intersects(self._city):
                return True
        middle = self._city.centroid
        for lon, lat, radius_km in info.circles:
            squeezed = math.cos(math.radians(lat))
            apart_km = math.hypot((lon - middle.x) * squeezed, lat - middle.y) * _KM_PER_DEGREE
            reach_km = self._city.length / 2 * _KM_PER_DEGREE / 2
            if apart_km <= radius_km + reach_km:
                return True
        return False


def weather_warnings(rows: Sequence[WarningRow]) -> tuple[WeatherWarning, ...]:
    return tuple(WeatherWarning(*row[2:], available_at_s=row.available_at_s) for row in rows)


def _info(info: ET.Element, sent_s: float, where: str) -> AlertInfo:
    severity = child_text(info, "severity")
    begin = child_text(info, "onset") or child_text(info, "effective")
    end = child_text(info, "expires")
    begin_s = _moment(begin, f"{where}onset") if begin else sent_s
    end_s = _moment(end, f"{where}expires") if end else begin_s + HOLD_S
    if end_s < begin_s:
        raise MessageError(IMPOSSIBLE, f"{where}expires: before it begins")
    outlines: list[tuple[tuple[float, float], ...]] = []
    circles: list[tuple[float, float, float]] = []
    areas = children(info, "area")
    for area in areas:
        for polygon in children(area, "polygon"):
            outline = tuple(_point(pair, f"{where}area.polygon") for pair in (polygon.text or "").split())
            if len(outline) < 4:
                raise MessageError(MALFORMED, f"{where}area.polygon: fewer than four points")
            outlines.append(outline)
        for circle in children(area, "circle"):
            centre, _, radius = (circle.text or "").strip().partition(" ")
            lon, lat = _point(centre, f"{where}area.circle")
            circles.append((lon, lat, _number(radius, f"{where}area.circle")))
    return AlertInfo(
        event=child_text(info, "event")[:128],
        severity=severity if severity in _SEVERITIES else "Unknown",
        begin_s=begin_s,
        end_s=end_s,
        outlines=tuple(outlines),
        circles=tuple(circles),
        anywhere=bool(areas) and not outlines and not circles,
    )


def _point(pair: str, where: str) -> tuple[float, float]:
    """Longitude and latitude of CAP's "latitude,longitude"."""
    lat, comma, lon = pair.partition(",")
    if not comma:
        raise MessageError(MALFORMED, f"{where}: a point is latitude,longitude")
    point = _number(lon, where), _number(lat, where)
    if abs(point[0]) > 180.0 or abs(point[1]) > 90.0:
        raise MessageError(IMPOSSIBLE, f"{where}: a point beyond the earth")
    return point


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not np.isfinite(value):
        raise MessageError(MALFORMED, f"{where}: not a number")
    return value


def _moment(text: str, where: str) -> float:
    try:
        return moment_of(text)
    except (ValueError, OverflowError):
        raise MessageError(MALFORMED, f"{where}: no time with a zone") from None
