"""What weather stations of other formats say, each quantity only where it is told -> `WeatherBatch`."""

from __future__ import annotations

import math
from typing import NamedTuple

from networks.errors import MessageError
from twin.feeds.base import IMPOSSIBLE, MALFORMED

_RANGES = {
    "rain_mm_h": (0.0, 500.0),
    "visibility_m": (0.0, 1e5),
    "temperature_c": (-60.0, 60.0),
    "wind_mps": (0.0, 100.0),
}


class StationReport(NamedTuple):
    """One observation; NaN where the station does not tell a quantity."""

    measured_at: float
    station: str
    rain_mm_h: float
    visibility_m: float
    temperature_c: float
    wind_mps: float


def check_station(report: StationReport, where: str) -> StationReport:
    """The report itself. Raises MessageError for a quantity out of range, or when none is told."""
    for name, (least, most) in _RANGES.items():
        value = getattr(report, name)
        if not math.isnan(value) and not least <= value <= most:
            raise MessageError(IMPOSSIBLE, f"{where}{name}: not between {least:g} and {most:g}")
    if all(math.isnan(getattr(report, name)) for name in _RANGES):
        raise MessageError(MALFORMED, f"{where}weather: no quantity is told")
    return report
