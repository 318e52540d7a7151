"""METAR and SPECI reports of airports (WMO-No. 306, FM 15 and FM 16) -> `WeatherBatch`.

Read are station, time, wind, visibility, temperature and present rain; the rest of the report is stepped over.
A METAR tells the intensity of rain by class: light is below 2.5 mm/h, moderate up to 10, heavy up to 50 (classes of
WMO-No. 8). One value stands for each, the geometric middle (light: 0.4 to 2.5), except where the remarks tell the
hour's sum (P0000, hundredths of an inch).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from networks.errors import MessageError
from networks.messages import Frame
from twin.feeds.base import MALFORMED, Decoded, Placed
from twin.feeds.documents import MOST_ROWS, read_each, text_of
from twin.feeds.weather import WeatherRow, place_weather
from twin.feeds.weather_report import StationReport, check_station

_HEAD = re.compile(r"(?:(?:METAR|SPECI) )?(?:COR )?([A-Z][A-Z0-9]{3}) (\d\d)(\d\d)(\d\d)Z\b")
_WIND = re.compile(r" (?:\d{3}|VRB|///)(\d{2,3})(?:G\d{2,3})?(KT|MPS|KMH)\b")
_METRES = re.compile(r" (\d{4})(?:NDV)? ")
_MILES = re.compile(r" (?:[PM])?(?:(\d{1,2}) )?(\d{1,2})(?:/(\d{1,2}))?SM\b")
_TEMPERATURE = re.compile(r" (M?)(\d\d)/(?:M?\d\d|//)?(?= |$)")
_RAIN = re.compile(r" ([-+]?)(?:VC)?(?:TS|SH|FZ)?(?:DZ|RA|SN|GS|GR|PL|SG)+(?:DZ|RA|SN|GS|GR|PL|SG)*(?= |$)")
_HOUR_SUM = re.compile(r" P(\d{4})(?= |$)")
_MPS = {"KT": 0.514444, "MPS": 1.0, "KMH": 1.0 / 3.6}
_MILE_M, _HUNDREDTH_INCH_MM = 1609.344, 0.254
_CLASS_MM_H = {"-": 1.0, "": 5.0, "+": 22.0}
_UNLIMITED_M = 10_000.0  # 9999 and CAVOK: ten kilometres or more


class MetarAdapter:
    feed = "metar"
    delivers = "weather"
    own_clock = False
    lateness_s = 2 * 3600.0
    expected_every_s = 3600.0
    source_every_s = math.inf

    def decode(self, frame: Frame) -> Decoded[StationReport]:
        """One report a line; a report may go on over indented lines."""
        text = text_of(frame.payload).replace("\r", "")
        lines = [" ".join(line.split()) for line in re.split(r"=|\n(?=\S)", text)]
        if len(lines) > MOST_ROWS:
            raise MessageError(MALFORMED, "document: too many reports")
        reports, rejected = read_each(
            filter(None, lines),
            "reports",
            lambda line, where: read_metar(line, frame.received_at_s, where),
            str.encode,
        )
        return Decoded(reports, rejected, [report.station for report in reports])

    def place(self, report: StationReport, received_at_s: float) -> Placed[WeatherRow]:
        return place_weather(report, received_at_s)


def read_metar(line: str, now_s: float, where: str = "") -> StationReport:
    """One report on one line; its day is the latest such day of a month up to an hour from now.

    Raises MessageError naming the group.
    """
    head = _HEAD.match(line)
    if head is None:
        raise MessageError(MALFORMED, f"{where}station, time: not the head of a METAR")
    body, _, remarks = line[head.end() :].partition(" RMK ")
    body = f" {body.strip()} "
    hour_sum = _HOUR_SUM.search(f" {remarks}")
    rain_mm_h = int(hour_sum[1]) * _HUNDREDTH_INCH_MM if hour_sum else _rain(body)
    wind, temperature = _WIND.search(body), _TEMPERATURE.search(body)
    report = StationReport(
        measured_at=_moment(int(head[2]), int(head[3]), int(head[4]), now_s, where),
        station=head[1],
        rain_mm_h=rain_mm_h,
        visibility_m=_visibility(body),
        temperature_c=math.nan if temperature is None else (-1.0 if temperature[1] else 1.0) * int(temperature[2]),
        wind_mps=math.nan if wind is None else int(wind[1]) * _MPS[wind[2]],
    )
    return check_station(report, where)


def _rain(body: str) -> float:
    """mm/h by the class of the first precipitation at the station; 0 where none is told."""
    for found in _RAIN.finditer(body):
        if "VC" not in found[0]:
            return _CLASS_MM_H[found[1]]
    return 0.0


def _visibility(body: str) -> float:
    if " CAVOK " in body:
        return _UNLIMITED_M
    metres = _METRES.search(body)
    if metres is not None:
        return _UNLIMITED_M if metres[1] == "9999" else float(metres[1])
    miles = _MILES.search(body)
    if miles is None:
        return math.nan
    whole, upper, lower = int(miles[1] or 0), int(miles[2]), int(miles[3] or 1)
    return math.nan if lower == 0 else min((whole + upper / lower) * _MILE_M, 1e5)


def _moment(day: int, hour: int, minute: int, now_s: float, where: str) -> float:
    latest = datetime.fromtimestamp(now_s, UTC) + timedelta(hours=1)
    year, month = latest.year, latest.month
    for _ in range(12):
        try:
            when = datetime(year, month, day, hour, minute, tzinfo=UTC)
        except ValueError:
            when = None
        if when is not None and when <= latest:
            return when.timestamp()
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    raise MessageError(MALFORMED, f"{where}time: no such day, hour and minute")
