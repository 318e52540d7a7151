"""Induction loops: one cabinet's readings for one interval -> `CountBatch`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from networks.batches import CountBatch
from networks.city import Detector
from networks.messages import Frame, LoopReading, LoopReport
from twin.feeds.base import IMPOSSIBLE, UNKNOWN_ID, Decoded, Placed, Rejected, decode_list
from twin.feeds.recent import RecentKeys

MAX_FLOW_VPS = 2.0
"""Nothing counts faster on one lane: saturation of cars is near 0.55, of dense bicycles near 1.5 a second."""

STANDING_OCCUPANCY = 0.999
"""At this occupancy the loop never fell free long enough for a gap between two vehicles."""


class CountRow(NamedTuple):
    measured_at_s: float
    available_at_s: float
    detector: int
    vehicles: int
    occupancy: float
    speed_mps: float
    interval_s: float


class LoopAdapter:
    feed = "loops"
    delivers = "loops"
    own_clock = True
    expected_every_s = 10.0
    source_every_s = 10.0

    def __init__(self, detectors: Sequence[Detector], *, lateness_s: float = 30.0) -> None:
        self.lateness_s = lateness_s
        self._index = {detector.id: i for i, detector in enumerate(detectors)}
        self._seen: RecentKeys[tuple[int, float]] = RecentKeys(3 * lateness_s)

    def decode(self, frame: Frame) -> Decoded[LoopReport]:
        return decode_list(LoopReport, LoopReading, "readings", frame.payload)

    def place(self, report: LoopReport, received_at_s: float) -> Placed[CountRow]:
        """A loop that reports the same interval twice, even under a new counter, counts once."""
        rows: list[CountRow] = []
        rejected: list[Rejected] = []
        for reading in report.readings:
            detector = self._index.get(reading.detector, -1)
            if detector < 0:
                rejected.append(_reject(UNKNOWN_ID, "detector: not in this city", reading))
            elif defect := find_defect(reading, report.interval_s):
                rejected.append(_reject(IMPOSSIBLE, defect, reading))
            elif not self._seen.add((detector, report.measured_at), report.measured_at):
                rejected.append(_reject("duplicate", "detector: already reported this interval", reading))
            else:
                speed_mps = math.nan if reading.speed_mps is None or reading.count == 0 else reading.speed_mps
                rows.append(
                    CountRow(
                        report.measured_at,
                        received_at_s,
                        detector,
                        reading.count,
                        reading.occupancy,
                        speed_mps,
                        report.interval_s,
                    )
                )
        return Placed(rows, rejected)


def find_defect(reading: LoopReading, interval_s: float) -> str:
    """What no traffic on one lane can cause, or ""."""
    if reading.count > MAX_FLOW_VPS * interval_s + 1:
        return f"count: {reading.count} vehicles in {interval_s:g} s on one lane"
    if reading.count >= 3 and reading.occupancy == 0:
        return f"occupancy: 0 with {reading.count} vehicles"
    if reading.count >= 3 and reading.occupancy >= STANDING_OCCUPANCY:
        return f"occupancy: never free, yet {reading.count} vehicles left"
    return ""


def count_batch(rows: Sequence[CountRow]) -> CountBatch:
    measured, available, detector, count, occupancy, speed, interval = (
        zip(*rows, strict=True) if rows else ((),) * len(CountRow._fields)
    )
    return CountBatch(
        detector=np.array(detector, np.int32),
        count=np.array(count, np.int32),
        occupancy=np.array(occupancy, float),
        speed_mps=np.array(speed, float),
        interval_s=np.array(interval, float),
        measured_at_s=np.array(measured, float),
        available_at_s=np.array(available, float),
    )


def _reject(reason: str, detail: str, reading: LoopReading) -> Rejected:
    return Rejected(reason, detail, reading.model_dump_json().encode())
