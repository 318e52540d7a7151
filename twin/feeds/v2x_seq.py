"""DAIR-V2X-Seq trajectory tables (single or cooperative view), one row an object and moment -> `TrackBatch`.

Columns as the data set documents them (Yu et al., V2X-Seq, CVPR 2023): timestamp s; x, y m in the frame of the
intersection; theta rad from the x axis, counter-clockwise; v_x, v_y m/s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame, Heading, Kind, ObjectList, SeenObject
from twin.feeds.base import IMPOSSIBLE, MALFORMED, Decoded, Placed, Rejected
from twin.feeds.documents import checked, moment_of, table_of
from twin.feeds.recent import MAX_SPEED_MPS
from twin.feeds.roadside import RoadsideAdapter, TrackRow

_COLUMNS = dict.fromkeys(
    ("timestamp", "id", "type", "sub_type", "x", "y", "theta", "v_x", "v_y", "intersect_id"), True
)

_FARTHEST_M = 1e6

_KINDS: Mapping[str, Kind] = {
    "CAR": "car",
    "VAN": "car",
    "TRUCK": "truck",
    "BUS": "bus",
    "CYCLIST": "bicycle",
    "TRICYCLIST": "bicycle",
    "MOTORCYCLIST": "car",
    "BICYCLE": "bicycle",
    "VEHICLE": "car",
}
"""By sub_type, else by type, motorcycles queue with the cars."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)

    timestamp: str
    id: str = Field(min_length=1, max_length=64)
    type: str
    sub_type: str
    x: float = Field(allow_inf_nan=False)
    y: float = Field(allow_inf_nan=False)
    theta: Heading
    v_x: float = Field(allow_inf_nan=False)
    v_y: float = Field(allow_inf_nan=False)
    intersect_id: str


class V2xSeqAdapter:
    feed = "v2x_seq"
    delivers = "roadside"
    own_clock = False
    lateness_s = 10.0
    expected_every_s = 2.0
    source_every_s = math.inf

    def __init__(self, network: Network, intersections: Mapping[str, tuple[str, float, float]]) -> None:
        """`intersections`: by `intersect_id` the signal, and the metres to add to x and y for our local ones."""
        self._intersections = dict(intersections)
        self._roadside = RoadsideAdapter(network)

    def decode(self, frame: Frame) -> Decoded[ObjectList]:
        lists: dict[tuple[float, str], list[SeenObject]] = {}
        rejected: list[Rejected] = []
        for number, row in enumerate(table_of(frame.payload, _COLUMNS)):
            try:
                at_s, junction, seen = self._object(row, f"rows.{number}.")
            except MessageError as defect:
                rejected.append(Rejected(defect.reason, defect.detail, to_json(row)))
            else:
                lists.setdefault((at_s, junction), []).append(seen)
        reports = [ObjectList(measured_at=at_s, junction=j, objects=tuple(seen)) for (at_s, j), seen in lists.items()]
        return Decoded(reports, rejected, [f"{frame.source}/{report.junction}" for report in reports])

    def place(self, report: ObjectList, received_at_s: float) -> Placed[TrackRow]:
        """Raises MessageError when the junction is not in the city."""
        return self._roadside.place(report, received_at_s)

    def _object(self, told: Mapping[str, str], where: str) -> tuple[float, str, SeenObject]:
        row = checked(_Row, told, where)
        try:
            at_s = moment_of(row.timestamp)
        except (ValueError, OverflowError):
            raise MessageError(MALFORMED, f"{where}timestamp: no number of seconds") from None
        if row.intersect_id not in self._intersections:
            raise MessageError("unknown_id", f"{where}intersect_id: not declared for this feed")
        junction, east_m, north_m = self._intersections[row.intersect_id]
        kind = _kind_of(row.sub_type) or _kind_of(row.type)
        if kind is None:
            raise MessageError(MALFORMED, f"{where}sub_type: none of the data set's kinds")
        speed_mps = math.hypot(row.v_x, row.v_y)
        if speed_mps > MAX_SPEED_MPS:
            raise MessageError(IMPOSSIBLE, f"{where}v_x, v_y: faster than anything drives")
        x_m, y_m = row.x + east_m, row.y + north_m
        if max(abs(x_m), abs(y_m)) >= _FARTHEST_M:
            raise MessageError(IMPOSSIBLE, f"{where}x, y: outside the network")
        number = int(row.id) if row.id.isascii() and row.id.isdigit() and len(row.id) < 18 else crc32(row.id.encode())
        seen = SeenObject(id=number, x_m=x_m, y_m=y_m, speed_mps=speed_mps, heading_rad=row.theta, kind=kind)
        return at_s, junction, seen


def _kind_of(name: str) -> Kind | None:
    """By the name without regard to case; the data set spells walkers in two ways."""
    name = name.upper()
    return "pedestrian" if name.startswith("PEDEST") else _KINDS.get(name)
