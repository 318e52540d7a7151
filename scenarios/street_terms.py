"""What a virtual city is asked for and what it answers: options, noise, faults, reports, truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from networks.city import Coverage
from networks.graph import Floats, Ints
from networks.messages import Frame, NoticeReport


@dataclass(frozen=True, slots=True)
class SensorNoise:
    """How well the street's devices see. Latencies are (lowest, highest) seconds, uniform."""

    loop_miss_frac: float = 0.005
    loop_double_frac: float = 0.0  # of the vehicles counted, counted twice
    dead_frac: float = 0.0  # of all loops: silent from the start
    roadside_range_m: float = 120.0
    roadside_sigma_m: float = 0.5
    roadside_speed_sigma_mps: float = 0.3
    roadside_miss_frac: float = 0.03
    roadside_false_per_s: float = 0.05
    roadside_swap_frac: float = 0.002  # a track gets a new number, each second
    roadside_dropouts_per_h: float = 2.0
    roadside_dropout_s: float = 15.0
    v2x_sigma_m: float = 1.0
    v2x_speed_sigma_mps: float = 0.2
    v2x_loss_frac: float = 0.01
    loop_latency_s: tuple[float, float] = (0.05, 0.25)
    roadside_latency_s: tuple[float, float] = (0.1, 0.4)
    v2x_latency_s: tuple[float, float] = (0.05, 0.3)
    signal_latency_s: tuple[float, float] = (0.02, 0.1)


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong between device and twin. Shares are of all frames; `silent` holds (feed, from, to)."""

    malformed_frac: float = 0.0  # cut JSON, wrong types, NaN, a clock in the future, unknown ids
    duplicate_frac: float = 0.0
    delayed_frac: float = 0.0  # 1-5 s late, so out of order
    garbage_per_frame: float = 0.0  # further frames of nonsense beside each honest one
    lying_frac: float = 0.0  # of all loops: biased, stuck or with the id of another, a third each
    lying_from_s: float = 0.0  # seconds since the start of the run
    skewed_frac: float = 0.0  # of all loop cabinets, roadside units and signals: their clock is off ...
    skew_s: float = 5.0  # ... by so much, ahead or behind
    silent: tuple[tuple[str, float, float], ...] = ()  # seconds since the start of the run


class RainSpell(NamedTuple):
    """Rain between two moments, seconds since the start, and when a forecast of it is sent (None: never)."""

    rain_mm_h: float
    from_s: float
    until_s: float
    foretold_s: float | None = None


def rain_at(rain: Sequence[RainSpell], second: float) -> float:
    """Rate of rain, mm/h, so many seconds after the start."""
    return max((spell.rain_mm_h for spell in rain if spell.from_s <= second < spell.until_s), default=0.0)


@dataclass(frozen=True, slots=True)
class StreetOptions:
    """One day of a virtual city. `seed` draws demand, drivers, sensors and SUMO's own chance."""

    seed: int
    duration_s: float
    coverage: Coverage
    demand_spread: float = 0.15
    compliance: float = 0.7  # share of equipped drivers who follow advice
    noise: SensorNoise = field(default_factory=SensorNoise)
    faults: Faults = field(default_factory=Faults)
    notices: tuple[NoticeReport, ...] = ()  # closures and works: announced to the twin and real on the street
    rain: tuple[RainSpell, ...] = ()  # real on the street; the twin hears of it from stations, and of forecasts
    snapshot_every_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Truth:
    """What really happened since the last report; for scoring only, never seen by the twin.

    Motor vehicles only, as loops see them. One leaves an edge when it enters the junction behind it, or ends its
    trip there. Queued: below 5 km/h.
    """

    now_s: float
    window_s: float
    edge_flow_vps: Floats  # (E,) vehicles that left / window
    edge_speed_mps: Floats  # (E,) mean over vehicle-seconds, NaN where there were none
    edge_samples: Ints  # (E,) vehicle-seconds
    lane_queue_veh: Floats  # (L,) queued at now_s
    lane_vehicles: Floats  # (L,) at now_s


class StreetReport(NamedTuple):
    """The street at `now_s`: what the twin has received since the last report, and the truth beside it."""

    now_s: float
    frames: tuple[Frame, ...]  # in order of received_at_s
    truth: Truth | None
    finished: bool
    sent: dict[str, int]  # since the start: frames by feed, injected faults by kind ("malformed" ...)


class Command(NamedTuple):
    """What the handle tells the street's process."""

    verb: str  # "advance", "finish"
    until_s: float = 0.0
    orders: Sequence[bytes] = ()
