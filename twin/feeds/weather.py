"""Weather stations -> `WeatherBatch`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from networks.batches import WeatherBatch
from networks.errors import MessageError
from networks.messages import Frame, WeatherReport
from twin.feeds.base import IMPOSSIBLE, MALFORMED, Decoded, Placed, decode_message


class WeatherRow(NamedTuple):
    measured_at_s: float
    available_at_s: float
    rain_mm_h: float
    visibility_m: float
    temperature_c: float
    wind_mps: float
    forecast_from_s: float = math.nan
    forecast_until_s: float = math.nan


class Told(Protocol):
    """What every format says of the weather."""

    @property
    def measured_at(self) -> float: ...
    @property
    def rain_mm_h(self) -> float: ...
    @property
    def visibility_m(self) -> float: ...
    @property
    def temperature_c(self) -> float: ...
    @property
    def wind_mps(self) -> float: ...


class WeatherAdapter:
    feed = "weather"
    delivers = "weather"
    own_clock = False
    lateness_s = 1800.0
    expected_every_s = 600.0
    source_every_s = math.inf

    def decode(self, frame: Frame) -> Decoded[WeatherReport]:
        return Decoded((decode_message(WeatherReport, frame.payload),))

    def place(self, report: WeatherReport, received_at_s: float) -> Placed[WeatherRow]:
        """Raises MessageError when a forecast names one end of its hours alone or ends before it begins."""
        begin_s, end_s = report.forecast_from, report.forecast_until
        if (begin_s is None) != (end_s is None):
            raise MessageError(MALFORMED, "forecast_from, forecast_until: one without the other")
        if begin_s is None or end_s is None:
            return place_weather(report, received_at_s)
        if end_s <= begin_s:
            raise MessageError(IMPOSSIBLE, "forecast_until: not after forecast_from")
        (row,) = place_weather(report, received_at_s).rows
        return Placed((row._replace(forecast_from_s=begin_s, forecast_until_s=end_s),))


def place_weather(report: Told, received_at_s: float) -> Placed[WeatherRow]:
    row = WeatherRow(
        report.measured_at,
        received_at_s,
        report.rain_mm_h,
        report.visibility_m,
        report.temperature_c,
        report.wind_mps,
    )
    return Placed((row,))


def weather_batch(rows: Sequence[WeatherRow]) -> WeatherBatch:
    measured, available, rain, visibility, temperature, wind, begin, end = (
        zip(*rows, strict=True) if rows else ((),) * len(WeatherRow._fields)
    )
    return WeatherBatch(
        rain_mm_h=np.array(rain, float),
        visibility_m=np.array(visibility, float),
        temperature_c=np.array(temperature, float),
        wind_mps=np.array(wind, float),
        forecast_from_s=np.array(begin, float),
        forecast_until_s=np.array(end, float),
        measured_at_s=np.array(measured, float),
        available_at_s=np.array(available, float),
    )
