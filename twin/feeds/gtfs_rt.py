"""Vehicle positions of GTFS-Realtime (protocol buffers, version 2.0): buses and trams -> `ProbeBatch`.

Read are `vehicle.position` (latitude, longitude, bearing, speed), `vehicle.timestamp` and `vehicle.vehicle.id`. A
vehicle without speed or bearing is refused: its motion is not known. Identities end here, as with every vehicle.
"""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.message import DecodeError
from google.transit import gtfs_realtime_pb2
from pydantic_core import to_json

from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame, Kind
from twin.feeds.base import IMPOSSIBLE, MALFORMED, Decoded, Placed, Rejected
from twin.feeds.datum import Locator
from twin.feeds.recent import MAX_SPEED_MPS
from twin.feeds.roadside import KIND_INDEX
from twin.feeds.v2x import OwnReport, ProbeRow, VehicleAdapter
from twin.privacy import Pseudonyms


class GtfsAdapter:
    feed = "gtfs_rt"
    delivers = "v2x"
    own_clock = False
    lateness_s = 120.0
    expected_every_s = 60.0
    source_every_s = math.inf

    def __init__(self, network: Network, pseudonyms: Pseudonyms, *, datum: str = "wgs84", kind: Kind = "bus") -> None:
        """`kind`: what the feed's vehicles are."""
        self._locator = Locator(network, datum)
        self._pseudonyms = pseudonyms
        self._vehicles = VehicleAdapter(network, pseudonyms)
        self._kind = KIND_INDEX[kind]

    def decode(self, frame: Frame) -> Decoded[OwnReport]:
        message = gtfs_realtime_pb2.FeedMessage()
        try:
            message.ParseFromString(frame.payload)
        except DecodeError:
            raise MessageError(MALFORMED, "feed: not GTFS-Realtime, or cut off") from None
        if not message.IsInitialized():
            raise MessageError(MALFORMED, "feed: a field that must be there is missing")
        told_s = float(message.header.timestamp)
        reports: list[OwnReport] = []
        rejected: list[Rejected] = []
        for number, entity in enumerate(message.entity):
            if not entity.HasField("vehicle"):
                continue
            try:
                reports.append(self._report(entity, told_s, f"entity.{number}.vehicle."))
            except MessageError as defect:
                rejected.append(Rejected(defect.reason, defect.detail, to_json({"entity": number})))
        return Decoded(reports, rejected, [f"{report.vehicle:x}" for report in reports])

    def place(self, report: OwnReport, received_at_s: float) -> Placed[ProbeRow]:
        """Raises MessageError when the position is impossible."""
        return self._vehicles.place(report, received_at_s)

    def _report(self, entity: Any, told_s: float, where: str) -> OwnReport:
        vehicle = entity.vehicle
        if not vehicle.HasField("position"):
            raise MessageError(MALFORMED, f"{where}position: missing")
        position = vehicle.position
        measured_at = float(vehicle.timestamp) if vehicle.HasField("timestamp") else told_s
        if not 0.0 < measured_at < 1e11:
            raise MessageError(MALFORMED, f"{where}timestamp: no time")
        if not (abs(position.latitude) <= 90.0 and abs(position.longitude) <= 180.0):
            raise MessageError(IMPOSSIBLE, f"{where}position: beyond the earth")
        for field in ("speed", "bearing"):
            if not position.HasField(field) or not math.isfinite(getattr(position, field)):
                raise MessageError(MALFORMED, f"{where}position.{field}: missing")
        if not 0.0 <= position.speed <= MAX_SPEED_MPS or abs(position.bearing) > 360.0:
            raise MessageError(IMPOSSIBLE, f"{where}position.speed, bearing: out of range")
        x_m, y_m = self._locator.place_one(position.longitude, position.latitude)
        identity = vehicle.vehicle.id or vehicle.vehicle.label or entity.id
        if isinstance(identity, bytes):
            raise MessageError(MALFORMED, f"{where}vehicle.id: not UTF-8")
        return OwnReport(
            measured_at,
            self._pseudonyms.of(identity, measured_at),
            x_m,
            y_m,
            float(position.speed),
            self._locator.heading_rad(position.bearing),
            self._kind,
            None,
        )
