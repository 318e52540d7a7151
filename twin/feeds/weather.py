"""Weather stations -> `WeatherBatch`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from networks.batches import WeatherBatch
from networks.messages import Frame, WeatherReport
from twin.feeds.base import Decoded, Placed, decode_message


class WeatherRow(NamedTuple):
    measured_at_s: float
    available_at_s: float
    rain_mm_h: float
    visibility_m: float
    temperature_c: float
    wind_mps: float


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
        return place_weather(report, received_at_s)


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
    measured, available, rain, visibility, temperature, wind = (
        zip(*rows, strict=True) if rows else ((),) * len(WeatherRow._fields)
    )
    return WeatherBatch(
        rain_mm_h=np.array(rain, float),
        visibility_m=np.array(visibility, float),
        temperature_c=np.array(temperature, float),
        wind_mps=np.array(wind, float),
        measured_at_s=np.array(measured, float),
        available_at_s=np.array(available, float),
    )
