"""Roadside safety messages (RSM, T/CSAE-53): what a C-V2X roadside unit sees -> `TrackBatch`.

Decoded by an own bit reader (`day_one_kernels`), which hands a message of a later release to the general decoder.
Rows are written as arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from networks import day_one
from networks import day_one_kernels as kernels
from networks.errors import InputError, MessageError
from networks.graph import Floats, Network
from networks.messages import Frame
from twin.feeds.base import IMPOSSIBLE, MALFORMED, UNKNOWN_ID, Decoded, Placed, Rejected
from twin.feeds.datum import Locator
from twin.feeds.recent import NumberedWhereabouts
from twin.feeds.roadside import TRACK_ROWS, Area

UNIT_REACH_M = 150.0
"""A unit tells of the signal nearest to its reference position, when there is one so near."""

_SHORTCOMINGS = {
    kernels.NO_SECOND: "secMark: not available",
    kernels.NO_POSITION: "pos: not available",
    kernels.NO_SPEED: "speed: not available, or faster than anything drives",
    kernels.NO_HEADING: "heading: not available",
}
_OUTSIDE, _JUMPED = "outside the network", "jumped faster than anything drives"
_KINDS = ("unknown", "motor", "non-motor", "pedestrian", "rsu")
_SOURCES = ("unknown", "selfinfo", "v2x", "video", "microwaveRadar", "loop", "lidar", "integrated")
_MOST_UNITS = 20_000


class RsmReport(NamedTuple):
    """One message in our units; row i of every array is a participant that can be used."""

    measured_at: float  # newest of its participants; where none can be used, when it was sent
    unit: str
    lon_deg: float  # reference position
    lat_deg: float
    number: NDArray[np.int64]  # (N,) the unit's own
    described: Floats  # (N, 6) columns of day_one_kernels: MEASURED_S, LON_DEG ... in the order there


class RsmAdapter:
    feed = "rsm"
    delivers = "roadside"
    own_clock = True
    lateness_s = 10.0
    expected_every_s = 2.0
    source_every_s = 2.0

    def __init__(self, network: Network, *, datum: str = "wgs84", units: Mapping[str, str] | None = None) -> None:
        """`units`: signals of units by name, where it is not the one nearest to the unit's reference position.

        Raises InputError for a signal that is not in the city.
        """
        self._locator = Locator(network, datum)
        self._area = Area(network)
        self._units = {
            unit: signal_named(network, signal, f"unit {unit!r}") for unit, signal in (units or {}).items()
        }
        middles = [network.node_xy[list(s.nodes)].mean(axis=0) for s in network.signals]
        self._middles = np.array(middles).reshape(-1, 2)
        self._near: dict[tuple[float, float], int] = {}
        self._whereabouts = NumberedWhereabouts(3 * self.lateness_s)
        self._head = np.zeros(kernels.HEAD_COLUMNS, np.int64)
        self._rows = np.zeros((kernels.MOST_PARTICIPANTS, kernels.COLUMNS), np.int64)
        self._described = np.zeros((kernels.MOST_PARTICIPANTS, kernels.DESCRIBED_COLUMNS))
        self._verdict = np.zeros(kernels.MOST_PARTICIPANTS, np.int64)

    def decode(self, frame: Frame) -> Decoded[RsmReport]:
        head, rows, described, verdict = self._head, self._rows, self._described, self._verdict
        count = read_participants(frame.payload, head, rows)
        near_s = day_one.moment_near(frame)
        newest_s = kernels.describe(rows, count, near_s, self._locator.north_rad, described, verdict)
        rejected: tuple[Rejected, ...] = ()
        usable = np.flatnonzero(verdict[:count] == kernels.USABLE)
        if len(usable) < count:
            rejected = tuple(
                Rejected(IMPOSSIBLE, f"participants.{i}.{_SHORTCOMINGS[int(verdict[i])]}", _part(rows[i]))
                for i in range(count)
                if int(verdict[i]) in _SHORTCOMINGS
            )
        report = RsmReport(
            newest_s if len(usable) else near_s,
            frame.source,
            float(head[kernels.REF_LONGITUDE]) * 1e-7,
            float(head[kernels.REF_LATITUDE]) * 1e-7,
            rows[usable, kernels.NUMBER],
            described[usable],
        )
        return Decoded((report,), rejected)

    def place(self, report: RsmReport, received_at_s: float) -> Placed[Any]:
        """Raises MessageError when the unit stands at none of our signals."""
        unit = self._signal_of(report)
        described = report.described
        x_m, y_m = self._locator.place(described[:, kernels.LON_DEG], described[:, kernels.LAT_DEG])
        newest_s = described[:, kernels.MEASURED_S].max(initial=-np.inf)
        rows = np.empty(len(described), TRACK_ROWS)
        rows["measured_at_s"] = described[:, kernels.MEASURED_S] + (report.measured_at - newest_s)
        rows["available_at_s"] = received_at_s
        rows["unit"] = unit
        rows["object_id"] = report.number
        rows["x_m"] = x_m
        rows["y_m"] = y_m
        rows["speed_mps"] = described[:, kernels.SPEED_MPS]
        rows["heading_rad"] = described[:, kernels.HEADING_RAD]
        rows["kind"] = described[:, kernels.ROAD_USER]
        near = self._area.hold(x_m, y_m)
        key = (np.int64(unit) << 16) | report.number
        good = near.copy()
        good[near] = self._whereabouts.believes(key[near], rows["measured_at_s"][near], x_m[near], y_m[near])
        rejected: list[Rejected] = []
        if not good.all():
            rejected = [
                Rejected(IMPOSSIBLE, f"participants.{i}.pos: {_JUMPED if near[i] else _OUTSIDE}", b"")
                for i in np.flatnonzero(~good).tolist()
            ]
            rows = rows[good]
        return Placed(rows if len(rows) else (), rejected)

    def _signal_of(self, report: RsmReport) -> int:
        place = (report.lon_deg, report.lat_deg)
        signal = self._near.get(place, -1) if report.unit not in self._units else self._units[report.unit]
        if signal < 0:
            x_m, y_m = self._locator.place_one(*place)
            far_m = np.hypot(self._middles[:, 0] - x_m, self._middles[:, 1] - y_m)
            if not far_m.min(initial=np.inf) <= UNIT_REACH_M:
                raise MessageError(UNKNOWN_ID, f"refPos: no signal of this city within {UNIT_REACH_M:g} m")
            if len(self._near) >= _MOST_UNITS:
                self._near.clear()
            signal = self._near[place] = int(far_m.argmin())
        return signal


def read_participants(payload: bytes, head: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    """Write a message's head (4,) and participants (16, 11), and answer how many; columns as in `day_one_kernels`.

    Raises MessageError("malformed").
    """
    count: int = kernels.read_rsm(np.frombuffer(payload, np.uint8), head, rows)
    if count > 0:
        return count
    if count == kernels.EXTENDED:
        return _read_extended(payload, head, rows)
    reason = "cut off" if count == kernels.CUT_OFF else "a component is out of range, or it is another message"
    raise MessageError(MALFORMED, f"message: not an RSM: {reason}")


def _read_extended(payload: bytes, head: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    kind, value = day_one.decode(payload)
    if kind != "RSM":
        raise MessageError(MALFORMED, f"message: {kind}, expected an RSM")
    reference = value["refPos"]
    seen = value["participants"]
    head[:] = value["msgCnt"], reference["lat"], reference["long"], sum("id" in one for one in seen)
    for row, one in zip(rows, seen, strict=False):
        lon, lat = absolute_position(one["pos"], reference)
        row[:] = (
            _KINDS.index(one["ptcType"]) if one["ptcType"] in _KINDS else 0,
            one["ptcId"],
            _SOURCES.index(one["source"]) if one["source"] in _SOURCES else 0,
            one["secMark"],
            lat,
            lon,
            one["speed"],
            one["heading"],
            one["size"]["width"],
            one["size"]["length"],
            one.get("vehicleClass", {}).get("classification", kernels.ABSENT),
        )
    return len(seen)


def signal_named(network: Network, name: str, whose: str) -> int:
    """Index of a signal. Raises InputError saying whose it was meant to be."""
    if name not in network.signal_index:
        raise InputError(f"{whose}: signal {name!r} is not in network {network.name!r}")
    return network.signal_index[name]


def absolute_position(position: Mapping[str, Any], reference: Mapping[str, Any]) -> tuple[int, int]:
    """Longitude and latitude of a PositionOffsetLLV in the message's integers."""
    form, offset = position["offsetLL"]
    if form == "position-LatLon":
        return int(offset["lon"]), int(offset["lat"])
    return int(reference["long"] + offset["lon"]), int(reference["lat"] + offset["lat"])


def _part(row: NDArray[np.int64]) -> bytes:
    return to_json({"ptcId": int(row[kernels.NUMBER]), "secMark": int(row[kernels.SECOND_MS])})
