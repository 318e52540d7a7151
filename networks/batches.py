"""What feeds deliver after validation: structures of arrays, one row a report.

Row i of every array belongs together. `measured_at_s` is when the street saw it, `available_at_s` when we could
first use it; live, replay and backtest cut by the latter, so no look-ahead is possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from networks.graph import Floats, Ints


@dataclass(frozen=True, slots=True)
class CountBatch:
    """Loop intervals."""

    detector: Ints  # (N,) index into the city's detector table
    count: Ints  # (N,) vehicles that left the loop in the interval
    occupancy: Floats  # (N,) share of the interval covered, 0..1
    speed_mps: Floats  # (N,) mean of those vehicles, NaN when none
    interval_s: Floats  # (N,)
    measured_at_s: Floats  # (N,) end of the interval
    available_at_s: Floats  # (N,)


@dataclass(frozen=True, slots=True)
class TrackBatch:
    """Objects seen by roadside units, in local metres of the network."""

    unit: Ints  # (N,) signal index of the instrumented junction
    object_id: NDArray[np.int64]  # (N,) the unit's own track number; pseudonym, no identity
    x_m: Floats
    y_m: Floats
    speed_mps: Floats
    heading_rad: Floats  # 0 is east, counter-clockwise
    kind: Ints  # VEHICLE_KINDS index
    measured_at_s: Floats
    available_at_s: Floats


@dataclass(frozen=True, slots=True)
class ProbeBatch:
    """Positions that equipped vehicles report of themselves (V2X BSM or probe GPS)."""

    vehicle: NDArray[np.int64]  # (N,) pseudonym
    x_m: Floats
    y_m: Floats
    speed_mps: Floats
    heading_rad: Floats
    kind: Ints
    destination_edge: Ints  # (N,) where it asked to be guided to, -1 unknown
    measured_at_s: Floats
    available_at_s: Floats


@dataclass(frozen=True, slots=True)
class SignalStateBatch:
    """Lamps reported by controllers, newest per signal last."""

    signal: Ints  # (N,)
    state: tuple[str, ...]  # one lamp string a row
    plan_version: NDArray[np.int64]  # (N,) version of the plan being executed, -1 the controller's own fixed plan
    measured_at_s: Floats
    available_at_s: Floats


class ControlNotice(NamedTuple):
    """A closure or works: lanes or edges with a reduced capacity for a while."""

    id: str
    edge: int
    lanes: tuple[int, ...]  # dense lane indices closed; empty: the whole edge
    speed_limit_mps: float  # NaN: unchanged
    begin_s: float
    end_s: float
    available_at_s: float


@dataclass(frozen=True, slots=True)
class WeatherBatch:
    """Weather observations, and forecasts: rows that name the hours they are for."""

    rain_mm_h: Floats
    visibility_m: Floats
    temperature_c: Floats
    wind_mps: Floats
    forecast_from_s: Floats  # NaN: observed
    forecast_until_s: Floats  # NaN: observed
    measured_at_s: Floats
    available_at_s: Floats


class WeatherWarning(NamedTuple):
    """An official warning for an area that touches the network."""

    id: str
    event: str  # as the authority names it
    severity: str  # CAP: Extreme, Severe, Moderate, Minor, Unknown
    begin_s: float
    end_s: float
    available_at_s: float


VEHICLE_KINDS = ("car", "bus", "truck", "bicycle", "pedestrian", "emergency", "tram")


class FeedHealth(NamedTuple):
    """What the inbox knows of one feed: whole messages accepted, but single entries quarantined.

    A message of which some entries are refused is accepted all the same, so the two do not add up to anything.
    """

    feed: str
    accepted: int  # messages
    quarantined: int  # entries
    last_measured_s: float  # NaN: never heard
    silent_s: float  # since the last accepted message


@dataclass(frozen=True, slots=True)
class Batches:
    """Everything that became available since the last cycle."""

    counts: CountBatch
    tracks: TrackBatch
    probes: ProbeBatch
    signals: SignalStateBatch
    notices: tuple[ControlNotice, ...]
    weather: WeatherBatch
    health: tuple[FeedHealth, ...]
    warnings: tuple[WeatherWarning, ...] = ()
