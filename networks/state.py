"""What the twin knows now (`NetworkState`), remembers (`History`) and expects (`Forecast`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from networks.errors import ShapeError
from networks.graph import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Estimate:
    """One quantity on N things: value with variance (unit squared), age of its newest evidence, and validity."""

    value: Floats  # (N,)
    variance: Floats  # (N,)
    age_s: Floats  # (N,)
    valid: Bools  # (N,)

    @staticmethod
    def unknown(count: int) -> Estimate:
        return Estimate(
            np.zeros(count), np.full(count, np.inf), np.full(count, np.inf), np.zeros(count, dtype=np.bool_)
        )


@dataclass(frozen=True, slots=True)
class VehicleTable:
    """Vehicles that the twin believes in, one row each: tracked, self-reported or inferred from loops.

    `certainty` is the probability that the vehicle exists; the sum over a lane is the expected number there.
    """

    id: NDArray[np.int64]  # (V,) pseudonym; negative for one inferred from loops
    lane: Ints  # (V,)
    position_m: Floats  # (V,) front bumper, from the lane's start; below 0: still in the junction before the lane
    speed_mps: Floats
    kind: Ints  # index into batches.VEHICLE_KINDS
    movement: Ints  # (V,) movement it will take at the end of the lane, -1 unknown
    equipped: Bools
    destination_edge: Ints  # (V,) -1 unknown
    certainty: Floats
    age_s: Floats  # since last evidence
    movement_sure: Bools | None = None  # False: `movement` is one draw from the turning shares; None: as told
    wait_s: Floats | None = None  # (V,) how long it has stood; None: nobody knows
    late_s: Floats | None = None  # (V,) behind its timetable, negative early, NaN or None: nobody knows
    platoon: NDArray[np.int64] | None = None  # (V,) number of the platoon it drives in, -1 none; None: no platoons
    line_movement: Ints | None = None  # (V,) movement it will take at the next stop line, -1 or None: unknown
    weight: Floats | None = None  # (V,) what it counts at signals beside a car; None: all alike

    @staticmethod
    def empty() -> VehicleTable:
        ints, floats = np.zeros(0, np.int32), np.zeros(0)
        return VehicleTable(
            np.zeros(0, np.int64),
            ints,
            floats,
            floats,
            ints,
            ints,
            np.zeros(0, np.bool_),
            ints,
            floats,
            floats,
        )


@dataclass(frozen=True, slots=True)
class LampView:
    """What the lamps of one signal show, and since when.

    `since_s[k]` is when link k took its present colour; the caller may treat a time before the first report as -inf.
    """

    state: str
    since_s: Floats  # (K,)
    measured_at_s: float
    plan_version: int  # -1: the controller's own fixed plan


@dataclass(frozen=True, slots=True)
class NetworkState:
    """The fused state at `now_s`. Shapes follow the network's edges (E), lanes (L) and movements (M)."""

    now_s: float
    edge_flow_vps: Estimate  # (E,) vehicles a second leaving the edge
    edge_speed_mps: Estimate  # (E,) space mean
    edge_density_vpm: Estimate  # (E,) all lanes together
    lane_queue_veh: Estimate  # (L,) standing or crawling (< 2 m/s) at the lane's end
    lane_vehicles: Estimate  # (L,)
    movement_share: Estimate  # (M,) share of the vehicles of the from-lane
    vehicles: VehicleTable
    lamps: tuple[LampView | None, ...]  # per signal; None: never heard
    coverage: float  # share of edges with own evidence younger than two minutes
    unhealthy: tuple[str, ...]  # feeds and sensors not trusted now, with the reason
    edge_window_s: float = 0.0  # flow and speed of edges are means over about so long up to now


DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Equal steps: step k covers [start_s + k * step_s, start_s + (k + 1) * step_s)."""

    start_s: float
    step_s: float
    count: int


@dataclass(frozen=True, slots=True)
class History:
    """Edge series on a time grid, as they were known at the time."""

    grid: TimeGrid
    flow_vps: Floats  # (T, E)
    speed_mps: Floats  # (T, E)
    valid: Bools  # (T, E)
    window_s: float = 0.0  # values are means over so long up to the end of their step, where that is more than a step


QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
CONGESTION_STATES = ("free", "dense", "congested", "blocked")


@dataclass(frozen=True, slots=True)
class Forecast:
    """Edge flow and speed ahead, with quantiles that never cross."""

    made_at_s: float
    horizon_s: Floats  # (H,) seconds ahead of made_at_s: the end of the step meant
    quantiles: tuple[float, ...]  # (Q,)
    flow_vps: Floats  # (H, E, Q)
    speed_mps: Floats  # (H, E, Q)
    congestion: Floats  # (H, E, 4) probabilities of CONGESTION_STATES
    valid: Bools  # (E,)
    producer: tuple[str, ...]  # model or fallback that made it, distinct names


def check_shapes(pattern: str, **arrays: NDArray[np.generic]) -> None:
    """Raise ShapeError unless all arrays share the shape that `pattern` names, e.g. "T L"."""
    names = pattern.split()
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        if array.ndim != len(names):
            raise ShapeError(f"{name} has {array.ndim} axes, expected {pattern}")
        for axis, size in zip(names, array.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ShapeError(f"{name} has {axis}={size}, another array has {axis}={sizes[axis]}")
