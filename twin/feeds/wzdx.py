"""Closures and works as GeoJSON in the shape of WZDx 4 (Work Zone Data Exchange) -> `ControlNotice`.

Read of each feature: `id`, LineString or MultiPoint geometry in driving direction, and of its properties
`core_details.event_type`, `start_date`, `end_date`, `vehicle_impact`, `lanes` (`order` from 1 at the left, `status`),
`reduced_speed_limit_kph`. A feature that closes no lane and lowers no limit is accepted and changes nothing.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from networks.errors import MessageError
from networks.graph import Floats, Network
from networks.messages import Frame
from twin.feeds.base import IMPOSSIBLE, MALFORMED, UNKNOWN_ID, Decoded, Placed
from twin.feeds.control import NoticeRow
from twin.feeds.datum import Locator
from twin.feeds.documents import checked, json_of, json_part, moment_of, read_each
from twin.street_paths import StreetPaths

MOST_FEATURES = 10_000
_CLOSED = frozenset({"closed", "not-allowed"})


class _Lane(BaseModel):
    model_config = ConfigDict(frozen=True)

    order: int = Field(ge=1, le=64)
    status: str = "open"


class _Core(BaseModel):
    model_config = ConfigDict(frozen=True)

    event_type: str = "work-zone"


class _Properties(BaseModel):
    model_config = ConfigDict(frozen=True)

    core_details: _Core = _Core()
    start_date: str
    end_date: str
    vehicle_impact: str = "unknown"
    lanes: tuple[_Lane, ...] = ()
    reduced_speed_limit_kph: float | None = Field(default=None, gt=0, le=250, allow_inf_nan=False)


_Degrees = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]


class _Geometry(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["LineString", "MultiPoint"]
    coordinates: tuple[Annotated[tuple[_Degrees, ...], Field(min_length=2, max_length=3)], ...] = Field(
        min_length=2, max_length=10_000
    )


class _Feature(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str | int
    properties: _Properties
    geometry: _Geometry


class WorkReport(NamedTuple):
    """One feature."""

    measured_at: float  # when the document came in: a feature holds as long as it is told
    id: str
    lon_deg: Floats
    lat_deg: Floats
    begin_s: float
    end_s: float
    shut: bool  # all lanes
    closed_from_left: tuple[int, ...]  # lane numbers
    speed_limit_mps: float  # NaN: unchanged


class WzdxAdapter:
    feed = "wzdx"
    delivers = "control"
    own_clock = False
    lateness_s = 3600.0
    expected_every_s = math.inf
    source_every_s = math.inf

    def __init__(self, network: Network, *, datum: str = "wgs84") -> None:
        self._locator = Locator(network, datum)
        self._paths = StreetPaths(network)
        self._first_lane = network.edges.first_lane

    def decode(self, frame: Frame) -> Decoded[WorkReport]:
        document = json_of(frame.payload)
        features = document.get("features") if isinstance(document, dict) else None
        if not isinstance(features, list) or len(features) > MOST_FEATURES:
            raise MessageError(MALFORMED, "features: not a GeoJSON feature collection")
        reports, rejected = read_each(
            features, "features", lambda feature, where: _work(feature, frame.received_at_s, where), json_part
        )
        return Decoded(reports, rejected, [f"{frame.source}/{report.id}" for report in reports])

    def place(self, report: WorkReport, received_at_s: float) -> Placed[NoticeRow]:
        """Raises MessageError when the line runs along none of our streets."""
        if not report.shut and not report.closed_from_left and math.isnan(report.speed_limit_mps):
            return Placed(())
        edges = self._paths.along(*self._locator.place(report.lon_deg, report.lat_deg))
        if not edges:
            raise MessageError(UNKNOWN_ID, f"geometry of {report.id[:40]!r}: runs along none of our streets")
        rows: list[NoticeRow] = []
        for edge in edges:
            first, end = int(self._first_lane[edge]), int(self._first_lane[edge + 1])
            lanes = tuple(sorted({end - lane for lane in report.closed_from_left if first <= end - lane}))
            if report.closed_from_left and not report.shut and not lanes:
                continue
            times = (report.begin_s, report.end_s)
            where = () if report.shut else lanes
            row = (report.measured_at, received_at_s, f"{report.id}/{edge}", edge, where, *times)
            rows.append(NoticeRow(*row, math.nan if report.shut or lanes else report.speed_limit_mps))
        return Placed(rows)


def _work(feature: object, now_s: float, where: str) -> WorkReport:
    told = checked(_Feature, feature, where)
    properties = told.properties
    moments = []
    for name in ("start_date", "end_date"):
        try:
            moments.append(moment_of(getattr(properties, name)))
        except (ValueError, OverflowError):
            raise MessageError(MALFORMED, f"{where}properties.{name}: no time with a zone") from None
    begin_s, end_s = moments
    if end_s <= begin_s:
        raise MessageError(IMPOSSIBLE, f"{where}properties.end_date: not after start_date")
    points = np.array([point[:2] for point in told.geometry.coordinates], np.float64)
    if np.abs(points[:, 1]).max() > 90.0:
        raise MessageError(IMPOSSIBLE, f"{where}geometry.coordinates: latitude beyond the poles")
    closed = tuple(lane.order for lane in properties.lanes if lane.status in _CLOSED)
    limit = properties.reduced_speed_limit_kph
    return WorkReport(
        measured_at=now_s,
        id=str(told.id)[:128],
        lon_deg=points[:, 0],
        lat_deg=points[:, 1],
        begin_s=begin_s,
        end_s=end_s,
        shut=properties.vehicle_impact == "all-lanes-closed",
        closed_from_left=closed,
        speed_limit_mps=math.nan if limit is None else limit / 3.6,
    )
