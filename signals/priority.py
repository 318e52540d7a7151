"""Who goes first: what each traveller counts at a signal, by a city's policy file.

`signals/policy.toml` is the default and says what every key means. A weight is in seconds of a car. Controllers read
them off `VehicleTable.weight`, so what stands in between (estimates of queues, draws of turns) passes them on.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from networks.batches import VEHICLE_KINDS
from networks.errors import InputError
from networks.graph import Bools, Floats, Network
from networks.state import VehicleTable
from signals.lamps import GREEN, OFF, LampRecord

DEFAULT_POLICY = Path(__file__).with_name("policy.toml")
BUS, EMERGENCY, TRAM = (VEHICLE_KINDS.index(kind) for kind in ("bus", "emergency", "tram"))
PATIENCE_S = 15.0  # of people at a kerb; HCM 6th ed. calls them impatient from 30 s on, when they count five times
IMPATIENCE_MAX = 20.0
LEAST_WEIGHT = 1.0  # of a bus or tram: it is at least a vehicle


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Weights(_Table):
    """Of a vehicle, or of one person waiting at a crossing, in cars."""

    car: float = Field(gt=0, le=1000)
    truck: float = Field(gt=0, le=1000)
    bicycle: float = Field(gt=0, le=1000)
    pedestrian: float = Field(ge=0, le=100)
    emergency: float = Field(gt=0, le=10_000)


class Transit(_Table):
    """A kind that keeps a timetable: persons times a factor of its lateness."""

    persons: float = Field(gt=0, le=1000)
    full_late_s: float = Field(gt=0, le=3600)
    on_time_factor: float = Field(ge=0, le=10)
    cap_factor: float = Field(ge=0, le=10)
    unknown_factor: float = Field(ge=0, le=10)

    def weigh(self, late_s: Floats) -> Floats:
        """Weights (N,) from seconds of lateness (N,): negative early, NaN unknown."""
        late = np.minimum(late_s / self.full_late_s, 1.0)
        factor = np.where(late < 0.0, 0.0, self.on_time_factor + late * (self.cap_factor - self.on_time_factor))
        factor = np.where(np.isnan(late_s), self.unknown_factor, factor)
        return np.maximum(LEAST_WEIGHT, self.persons * factor)


class Platoon(_Table):
    follower_factor: float = Field(ge=1, le=100)


class Pedestrians(_Table):
    rate_per_s: float = Field(ge=0, le=10)
    expected_factor: float = Field(ge=0, le=1)
    crossings: dict[str, float]


class Limits(_Table):
    held_back_frac: float = Field(gt=0, le=1)


class Emergency(_Table):
    margin_s: float = Field(ge=0, le=60)
    ahead_s: float = Field(gt=0, le=300)
    junctions: int = Field(ge=0, le=20)
    limit_s: float = Field(gt=0, le=600)
    recovery_s: float = Field(gt=0, le=600)
    recovery_gain: float = Field(ge=0, le=100)


class Policy(_Table):
    """A policy file. `read_policy` makes it."""

    weights: Weights
    bus: Transit
    tram: Transit
    platoon: Platoon
    pedestrians: Pedestrians
    limits: Limits
    emergency: Emergency


def read_policy(path: Path | None = None) -> Policy:
    """The default policy, or the default with what the file says instead.

    Raises InputError naming file, table and key.
    """
    said = _read_toml(DEFAULT_POLICY)
    if path is not None:
        said = _overlaid(said, _read_toml(path))
    try:
        policy = Policy.model_validate(said)
    except ValidationError as defect:
        first = defect.errors()[0]
        table, key = ".".join(map(str, first["loc"][:-1])), str(first["loc"][-1])
        where = f"[{table}] {key}" if table else f"[{key}]"
        raise InputError(f"{path or DEFAULT_POLICY}: {where}: {first['msg']}") from defect
    negative = [name for name, rate in policy.pedestrians.crossings.items() if not 0.0 <= rate <= 10.0]
    if negative:
        detail = "has to be from 0 to 10 people a second"
        raise InputError(f"{path or DEFAULT_POLICY}: [pedestrians.crossings] {negative[0]}: {detail}")
    return policy


def weigh_vehicles(policy: Policy, table: VehicleTable) -> Floats:
    """What each vehicle of the table (V,) counts, its certainty aside."""
    late_s = np.full(len(table.kind), np.nan) if table.late_s is None else table.late_s
    by_kind = np.array([getattr(policy.weights, kind, 1.0) for kind in VEHICLE_KINDS])
    weight = by_kind[table.kind]
    weight = np.where(table.kind == BUS, policy.bus.weigh(late_s), weight)
    weight = np.where(table.kind == TRAM, policy.tram.weigh(late_s), weight)
    if table.platoon is not None:
        weight = np.where(_follows(table, table.platoon), policy.platoon.follower_factor * weight, weight)
    return weight


def impatience(stood_s: Floats) -> Floats:
    """Weight of people who have stood at a kerb for so long: they walk at red sooner than drivers drive."""
    return np.minimum(1.0 + (stood_s / PATIENCE_S) ** 2, IMPATIENCE_MAX)


class Pavement(Protocol):
    """Whoever knows of people at crossings."""

    def expect(self, signal: int, record: LampRecord, now_s: float) -> tuple[Floats, Floats]:
        """Weighted people waiting at each link (K,) and weighted people a second who come to it (K,)."""


@dataclass(frozen=True, slots=True)
class Walkers:
    """What people at crossings count, and how many are expected: who came since red began, at a known mean rate."""

    rate_per_s: tuple[Floats, ...]  # per signal (K,): people a second at each link, 0 where nobody walks
    weight: float  # of somebody who is seen, in cars
    expected_factor: float = 1.0  # of it, where somebody is only expected

    def expect(self, signal: int, record: LampRecord, now_s: float) -> tuple[Floats, Floats]:
        rate = self.rate_per_s[signal] * (self.weight * self.expected_factor)
        closed = np.array([lamp not in GREEN + OFF for lamp in record.state[: len(rate)]])
        since_s = np.where(np.isfinite(record.green_until_s), record.green_until_s, record.since_s)
        red_s = np.where(closed & np.isfinite(since_s), np.maximum(now_s - since_s, 0.0), 0.0)
        return rate * red_s[: len(rate)], rate


def expect_walkers(policy: Policy, network: Network) -> Walkers:
    """The policy's weight and rates on the crossings of a network. Raises InputError for a crossing that it lacks."""
    known = {crossing.id for signal in network.signals for crossing in signal.crossings}
    for name in policy.pedestrians.crossings:
        if name not in known:
            raise InputError(f"[pedestrians.crossings] {name}: the network has no such crossing")
    rates = []
    for signal in network.signals:
        rate = np.where(signal.pedestrian, policy.pedestrians.rate_per_s, 0.0)
        for crossing in signal.crossings:
            people_per_s = policy.pedestrians.crossings.get(crossing.id, policy.pedestrians.rate_per_s)
            links = [link for link in crossing.links if signal.pedestrian[link]]
            rate[links] = people_per_s / max(len(links), 1)
        rates.append(rate)
    return Walkers(tuple(rates), policy.weights.pedestrian, policy.pedestrians.expected_factor)


def _follows(table: VehicleTable, platoon: NDArray[np.int64]) -> Bools:
    """(V,) drives behind another member of its platoon; all members of one that is torn over several lanes."""
    order = np.lexsort((-table.position_m, table.lane, platoon))
    number, lane = platoon[order], table.lane[order]
    behind = np.zeros(len(order), np.bool_)
    behind[order[1:]] = (number[1:] == number[:-1]) & (lane[1:] == lane[:-1])
    for name in np.unique(platoon[platoon >= 0]):
        members = platoon == name
        behind |= members & (len(np.unique(table.lane[members])) > 1)
    answer: Bools = behind & (platoon >= 0)
    return answer


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as missing:
        raise InputError(f"{path}: {missing.strerror or missing}") from missing
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as defect:
        raise InputError(f"{path}: not TOML: {defect}") from defect


def _overlaid(base: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in above.items():
        old = both.get(key)
        both[key] = _overlaid(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both
