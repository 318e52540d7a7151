"""Counts of loops, radars and cameras as others write them: what a source declares, and one reading checked.

The columns of `counts_csv` and the members of `counts_json` are named by the source; `CountFields` says how.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field

from networks.city import Detector
from networks.errors import MessageError
from networks.messages import Frame, LoopReading, LoopReport
from twin.feeds.base import IMPOSSIBLE, MALFORMED, Decoded, Placed, Rejected
from twin.feeds.documents import checked, json_part, moment_of
from twin.feeds.loops import CountRow, LoopAdapter
from twin.feeds.recent import MAX_SPEED_MPS

EVENT_INTERVAL_S = 2.0
"""Up to this interval a report stands for single vehicles, which needs the occupancy; above it a count will do."""


@dataclass(frozen=True, slots=True)
class CountFields:
    """Names of a source's fields and the units that it writes. "" where it has no such field."""

    detector: str = "detector"
    time: str = "time"
    count: str = "count"
    occupancy: str = "occupancy"
    speed: str = "speed"
    interval: str = "interval_s"
    interval_s: float = 0.0  # where no field tells the interval
    time_is_begin: bool = False  # the time is when the interval began
    zone_h: float | None = None  # hours east of Greenwich of times without a zone; None: such times are refused
    occupancy_unit: float = 1.0  # 0.01: per cent
    speed_unit_mps: float = 1.0  # 1 / 3.6: km/h
    detectors: Mapping[str, str] | None = None  # our detector of each of theirs; None: the same names

    @property
    def columns(self) -> dict[str, bool]:
        """Names that are read; True those that must be there."""
        needed = {self.detector: True, self.time: True, self.count: True, self.interval: self.interval_s <= 0.0}
        return needed | {name: False for name in (self.occupancy, self.speed) if name}


class _Reading(BaseModel):
    model_config = ConfigDict(frozen=True)

    detector: str = Field(min_length=1, max_length=128)
    time: str | float
    count: int = Field(ge=0, le=7200)
    occupancy: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    speed: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    interval: float | None = Field(default=None, gt=0, le=86_400, allow_inf_nan=False)


class CountAdapter:
    """The half that both formats share; they differ in how bytes become mappings."""

    delivers = "loops"
    own_clock = False
    expected_every_s = math.inf
    source_every_s = math.inf

    def __init__(self, detectors: Sequence[Detector], fields: CountFields, *, lateness_s: float = 300.0) -> None:
        """`lateness_s`: how long after an interval its count may come in."""
        self.lateness_s = lateness_s
        self._fields = fields
        self._loops = LoopAdapter(detectors, lateness_s=lateness_s)

    def place(self, report: LoopReport, received_at_s: float) -> Placed[CountRow]:
        return self._loops.place(report, received_at_s)

    def _gather(self, frame: Frame, rows: Sequence[object]) -> Decoded[LoopReport]:
        """Readings grouped by interval; each interval is told by the source as a whole."""
        groups: dict[tuple[float, float], list[LoopReading]] = {}
        rejected: list[Rejected] = []
        for number, row in enumerate(rows):
            try:
                at_s, interval_s, reading = self._read(row, f"rows.{number}.")
            except MessageError as defect:
                rejected.append(Rejected(defect.reason, defect.detail, json_part(row)))
            else:
                groups.setdefault((at_s, interval_s), []).append(reading)
        reports = [
            LoopReport.model_construct(measured_at=at_s, interval_s=interval_s, readings=tuple(readings))
            for (at_s, interval_s), readings in groups.items()
        ]
        tellers = [
            f"{frame.source}/{report.interval_s:g}/{crc32(repr([r.detector for r in report.readings]).encode()):x}"
            for report in reports
        ]
        return Decoded(reports, rejected, tellers)

    def _read(self, row: object, where: str) -> tuple[float, float, LoopReading]:
        fields = self._fields
        if not isinstance(row, Mapping):
            raise MessageError(MALFORMED, f"{where}: not an object")
        names = ("detector", "time", "count", "occupancy", "speed", "interval")
        told = {name: row.get(getattr(fields, name)) for name in names}
        said = checked(_Reading, {name: v for name, v in told.items() if v is not None and v != ""}, where)
        interval_s = said.interval or fields.interval_s
        if not 0 < interval_s <= 86_400:
            raise MessageError(MALFORMED, f"{where}{fields.interval}: no interval given")
        try:
            at_s = moment_of(str(said.time), zone_h=fields.zone_h)
        except (ValueError, OverflowError):
            raise MessageError(MALFORMED, f"{where}{fields.time}: no time, or one without a zone") from None
        occupancy = math.nan if said.occupancy is None else said.occupancy * fields.occupancy_unit
        if occupancy > 1.0:
            raise MessageError(IMPOSSIBLE, f"{where}{fields.occupancy}: more than always occupied")
        if math.isnan(occupancy) and interval_s <= EVENT_INTERVAL_S:
            raise MessageError(MALFORMED, f"{where}{fields.occupancy}: needed for intervals of {interval_s:g} s")
        speed_mps = None if said.speed is None else said.speed * fields.speed_unit_mps
        if speed_mps is not None and speed_mps > MAX_SPEED_MPS:
            raise MessageError(IMPOSSIBLE, f"{where}{fields.speed}: faster than anything drives")
        detector = said.detector if fields.detectors is None else fields.detectors.get(said.detector, "")
        reading = LoopReading.model_construct(
            detector=detector, count=said.count, occupancy=occupancy, speed_mps=speed_mps
        )
        return at_s + (interval_s if fields.time_is_begin else 0.0), interval_s, reading
