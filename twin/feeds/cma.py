"""Surface stations as the Chinese meteorological data service gives them in JSON -> `WeatherBatch`.

An object with the list `DS`, or that list: `Station_Id_C`, `Datetime` (UTC, "2026-03-02 08:00:00"), and any of
`PRE_1h` (mm in the last hour), `VIS` (m), `TEM` (degrees Celsius), `WIN_S_Avg_2mi` (m/s), as numbers or text. 999990
and above stands for missing, trace or not observed. The names are those of the service's published element tables;
we had no message of the service itself to check them on.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from networks.errors import MessageError
from networks.messages import Frame
from twin.feeds.base import MALFORMED, Decoded, Placed
from twin.feeds.documents import MOST_ROWS, checked, json_of, json_part, moment_of, read_each
from twin.feeds.weather import WeatherRow, place_weather
from twin.feeds.weather_report import StationReport, check_station

_MISSING = 999_990.0
_UTC_H = 0.0


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)

    Station_Id_C: str = Field(min_length=1, max_length=32)
    Datetime: str
    PRE_1h: float | None = Field(default=None, allow_inf_nan=False)
    VIS: float | None = Field(default=None, allow_inf_nan=False)
    TEM: float | None = Field(default=None, allow_inf_nan=False)
    WIN_S_Avg_2mi: float | None = Field(default=None, allow_inf_nan=False)


class CmaAdapter:
    feed = "cma"
    delivers = "weather"
    own_clock = False
    lateness_s = 2 * 3600.0
    expected_every_s = 3600.0
    source_every_s = math.inf

    def decode(self, frame: Frame) -> Decoded[StationReport]:
        document = json_of(frame.payload)
        rows: Any = document.get("DS") if isinstance(document, dict) else document
        if not isinstance(rows, list) or len(rows) > MOST_ROWS:
            raise MessageError(MALFORMED, "DS: not a list of observations")
        reports, rejected = read_each(rows, "DS", _station, json_part)
        return Decoded(reports, rejected, [report.station for report in reports])

    def place(self, report: StationReport, received_at_s: float) -> Placed[WeatherRow]:
        return place_weather(report, received_at_s)


def _station(row: object, where: str) -> StationReport:
    told = checked(_Row, row, where)
    try:
        measured_at = moment_of(told.Datetime, zone_h=_UTC_H)
    except (ValueError, OverflowError):
        raise MessageError(MALFORMED, f"{where}Datetime: no time") from None
    values = (_value(v) for v in (told.PRE_1h, told.VIS, told.TEM, told.WIN_S_Avg_2mi))
    return check_station(StationReport(measured_at, told.Station_Id_C, *values), where)


def _value(value: float | None) -> float:
    return math.nan if value is None or abs(value) >= _MISSING else value
