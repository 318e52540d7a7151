"""Own simulations to train on: days of drawn freeways and arterials, as speeds or flows at their sensors.

Open recordings of freeway speeds are few, so the shipped model learns from kinematic waves how jams begin, grow
upstream and dissolve: the cell transmission model (Daganzo 1994) with a capacity drop at active bottlenecks (Cassidy
& Bertini 1999), on drawn corridors with ramps, daily demand, incidents and rain. Jams are not smooth: what a
bottleneck lets go surges, and slower and faster stretches travel against the traffic at the speed of a jam's waves
(Treiber & Helbing 2002). Nothing is fitted to a place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.drawn_noise import MONDAY_S, STEP_S, draw_missing, moving_noise, slow_noise
from forecasting.drawn_roads_kernels import WAVE_KPH, run_cells
from forecasting.series import DAY_S, CitySeries
from networks.graph import Floats

_CELL_S = 15.0  # step of the cells; a vehicle at the highest free speed does not cross a whole cell in it


@dataclass(frozen=True, slots=True)
class RoadKind:
    """Ranges to draw from."""

    free_kph: tuple[float, float]
    capacity_vph: tuple[float, float]  # of a lane
    cell_km: tuple[float, float]
    slowing: tuple[float, float]  # share of the free speed lost below capacity
    drop: tuple[float, float]  # share of the capacity lost once a jam stands
    noise: tuple[float, float]  # of a speed reading, relative
    surges: tuple[float, float]  # of the capacity, relative, within minutes to half an hour
    waves: tuple[float, float]  # of the speed in a standing jam, relative


FREEWAY = RoadKind(
    (95.0, 118.0), (1900.0, 2300.0), (0.55, 0.9), (0.02, 0.12), (0.03, 0.12), (0.015, 0.04), (0.0, 0.1), (0.1, 0.8)
)
ARTERIAL = RoadKind(
    (32.0, 62.0), (650.0, 950.0), (0.3, 0.5), (0.2, 0.5), (0.0, 0.05), (0.02, 0.09), (0.0, 0.1), (0.0, 0.3)
)


def draw_roads(
    seed: int,
    *,
    quantity: str = "speed",
    kind: RoadKind = FREEWAY,
    corridors: int = 8,
    cells: int = 26,
    days: int = 14,
) -> CitySeries:
    """A drawn city: `corridors` directed roads of `cells` cells, a sensor in most cells, five-minute means.

    Speeds in km/h, flows in vehicles per step. Equal arguments give equal series.
    """
    rng = np.random.default_rng((seed, days))
    shape = (corridors, cells)
    free = rng.uniform(*kind.free_kph, (corridors, 1)) * rng.normal(1.0, 0.03, shape)
    lanes = rng.integers(2, 5, (corridors, 1)) + np.zeros(shape)
    lanes[rng.random(shape) < 0.08] -= 1.0  # lane drops
    capacity = lanes * rng.uniform(*kind.capacity_vph, (corridors, 1)) * rng.normal(1.0, 0.05, shape).clip(0.8, 1.1)
    length = rng.uniform(*kind.cell_km, shape)
    on_ramp = np.where(rng.random(shape) < 0.3, rng.uniform(0.04, 0.22, shape), 0.0)  # demand over mainline capacity
    off_ramp = np.where(rng.random(shape) < 0.3, rng.uniform(0.03, 0.2, shape), 0.0)
    on_ramp[:, 0] = 0.0
    demand = _demand(rng, corridors, days)  # (T, corridors), over the capacity of the entrance
    factor = _capacity_factors(rng, shape, len(demand), days)
    factor *= slow_noise(rng, len(demand), shape, hours=rng.uniform(0.1, 0.5), spread=rng.uniform(*kind.surges))
    ramp_noise = slow_noise(rng, len(demand), shape, hours=1.0, spread=0.08)
    flow, speed = np.zeros((len(demand), *shape)), np.zeros((len(demand), *shape))
    run_cells(
        demand * capacity[:, 0], ramp_noise * demand[..., None] * on_ramp * capacity[:, :1], off_ramp, free, capacity,
        length, factor, rng.uniform(*kind.slowing, corridors), rng.uniform(*kind.drop, corridors), _CELL_S,
        int(STEP_S / _CELL_S), flow, speed,
    )  # fmt: skip
    jam = (1.0 - speed / free).clip(0.0, 1.0)
    to_end_km = length.sum(axis=1, keepdims=True) - np.cumsum(length, axis=1)
    rough = rng.uniform(*kind.waves, (corridors, 1))
    speed *= np.exp(rough * jam * moving_noise(rng, len(demand), to_end_km / WAVE_KPH * 60.0))
    seen = np.flatnonzero(rng.random(corridors * cells) < 0.85)
    flow, speed = flow.reshape(len(demand), -1)[:, seen], speed.reshape(len(demand), -1)[:, seen]
    count = rng.poisson(np.maximum(flow, 0.0) * STEP_S / 3600.0)
    if quantity == "flow":
        values = count.astype(np.float64)
    else:
        relative = rng.uniform(*kind.noise, len(seen)) * (1.0 + 3.0 / np.sqrt(1.0 + count))
        values = speed * rng.normal(1.0, 0.04, len(seen)) * (1.0 + relative * rng.standard_normal(speed.shape))
        values = np.maximum(values, 1.0)
    values[draw_missing(rng, values.shape)] = np.nan
    edges, metres = _edges(rng, seen, length)
    start = MONDAY_S + int(rng.integers(0, 7)) * DAY_S + np.arange(len(demand)) * STEP_S
    name = f"drawn roads {seed}"
    return CitySeries(name, quantity, values.astype(np.float32), start, STEP_S, edges, metres.astype(np.float32))


def _demand(rng: np.random.Generator, corridors: int, days: int) -> Floats:
    """Demand over capacity (T, corridors): two peaks on workdays, a broad one at weekends, moods of day and hour."""
    per_day = DAY_S // STEP_S
    hour = np.arange(per_day) * STEP_S / 3600.0
    first_free = int(rng.integers(0, 7))
    level = rng.uniform(0.45, 0.95, corridors)
    tide = rng.uniform(0.0, 1.0, corridors)  # of the morning
    peak = rng.uniform(7.0, 8.5), rng.uniform(16.5, 18.0)
    width = rng.uniform(0.9, 1.8), rng.uniform(1.2, 2.4)
    parts = []
    for day in range(days):
        off = (day + first_free) % 7 >= 5
        jitter = rng.normal(0.0, 0.2, 2)
        if off:
            shape = 0.75 * np.exp(-0.5 * ((hour - 14.5 - jitter[0]) / 4.0) ** 2)[:, None] * np.ones(corridors)
        else:
            humps = [np.exp(-0.5 * ((hour - p - j) / w) ** 2) for p, j, w in zip(peak, jitter, width, strict=True)]
            between = 0.55 * np.exp(-0.5 * ((hour - 13.0) / 3.5) ** 2)
            shape = np.maximum(
                humps[0][:, None] * (0.55 + 0.55 * tide) + humps[1][:, None] * (1.1 - 0.55 * tide), between[:, None]
            )
        night = 0.06 + 0.04 * (hour > 5.0)
        parts.append((night[:, None] + shape) * level * rng.normal(1.0, 0.05) * rng.normal(1.0, 0.03, corridors))
    whole = np.concatenate(parts)
    return np.maximum(whole * slow_noise(rng, len(whole), (corridors,), hours=2.0, spread=0.06), 0.0)


def _capacity_factors(rng: np.random.Generator, shape: tuple[int, int], steps: int, days: int) -> Floats:
    """What is left of the capacity (T, C, K): rain on some days, incidents in single cells."""
    factor = np.ones((steps, *shape))
    per_day = DAY_S // STEP_S
    for day in range(days):
        if rng.random() < 0.2:
            first = day * per_day + int(rng.integers(0, per_day // 2))
            factor[first : first + int(rng.integers(24, 144))] *= rng.uniform(0.84, 0.97)
        for _ in range(rng.poisson(0.25 * shape[0])):
            first = day * per_day + int(rng.uniform(6.0, 22.0) * 3600 / STEP_S)
            c, k = int(rng.integers(shape[0])), int(rng.integers(shape[1]))
            factor[first : first + int(rng.integers(3, 18)), c, k] *= rng.uniform(0.35, 0.8)
    return factor


def _edges(rng: np.random.Generator, seen: NDArray[np.int64], length_km: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Links between neighbouring sensors of a corridor, and some between corridors that meet."""
    corridor = seen // length_km.shape[1]
    follows = np.flatnonzero(corridor[1:] == corridor[:-1])
    pairs = [(int(a), int(a) + 1) for a in follows]
    pairs += [(int(a), int(b)) for a, b in rng.integers(0, len(seen), (len(seen) // 12, 2)) if a != b]
    metres = 1000.0 * length_km.ravel()[seen[[a for a, _ in pairs]]]
    return np.array(pairs, np.int64).T.reshape(2, -1), metres
