"""Offsets along the zone's streets: a small platoon model in the manner of TRANSYT (Robertson 1969)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from networks.graph import Floats

PLATOON_SPEED_SHARE = 0.9  # of the limit: speed of a platoon between stop lines
PLATOON_START_S = 4.0  # what it loses in gathering that speed
PLATOON_DISPERSION = 0.25  # Robertson: 0.25 on good roads, 0.35 typical, 0.5 with heavy side friction
MOST_SHARE_OF_CAPACITY = 0.95  # arrivals above it are cut: a queue without end has no best offset


@dataclass(frozen=True, slots=True)
class Coupling:
    """One lane group fed by the previous junction.

    `departures_vps` (C,): what the feeding junction sends, in its own cycle; `green` (C,): when the group is open in
    its own; `saturation_vps` its discharge; `travel_s` from stop line to stop line.
    """

    feeder: int
    follower: int
    departures_vps: Floats
    green: Floats
    saturation_vps: float
    travel_s: float


def best_offsets(couplings: Sequence[Coupling], junctions: int, cycle_s: int, rng: np.random.Generator) -> list[int]:
    """Offsets (start of each cycle, s) with the least total delay found by coordinate descent from several starts."""
    if not couplings:
        return [0] * junctions
    cost = _delay_by_shift(couplings, cycle_s)
    feeders = np.array([c.feeder for c in couplings])
    followers = np.array([c.follower for c in couplings])
    incoming = [np.flatnonzero(followers == j) for j in range(junctions)]
    outgoing = [np.flatnonzero(feeders == j) for j in range(junctions)]
    shifts = np.arange(cycle_s)
    best, best_cost = np.zeros(junctions, int), np.inf
    for start in range(6):
        offsets = np.zeros(junctions, int) if start == 0 else rng.integers(0, cycle_s, junctions)
        for _ in range(30):
            before = offsets.copy()
            for j in rng.permutation(junctions):
                total = np.zeros(cycle_s)
                for i in incoming[j]:
                    total += cost[i, (shifts - offsets[feeders[i]]) % cycle_s]
                for o in outgoing[j]:
                    total += cost[o, (offsets[followers[o]] - shifts) % cycle_s]
                if total.min() < total[offsets[j]] - 1e-9:
                    offsets[j] = int(total.argmin())
            if np.array_equal(before, offsets):
                break
        value = cost[np.arange(len(cost)), (offsets[followers] - offsets[feeders]) % cycle_s].sum()
        if value < best_cost - 1e-9:
            best, best_cost = offsets.copy(), value
    return [int(o) for o in best]


def _dispersed(departures_vps: Floats, travel_s: float) -> Floats:
    """Arrivals (C,) of a platoon that spreads on its way: Robertson's recurrence, run until the cycle repeats."""
    first_s = round(0.8 * travel_s)
    share = 1.0 / (1.0 + PLATOON_DISPERSION * 0.8 * travel_s)
    ahead = np.roll(departures_vps, first_s)
    arrivals = np.full_like(ahead, ahead.mean())
    for second in range(3 * len(ahead)):
        t = second % len(ahead)
        arrivals[t] = share * ahead[t] + (1.0 - share) * arrivals[t - 1]
    return arrivals


def _delay_by_shift(couplings: Sequence[Coupling], cycle_s: int) -> Floats:
    """Delay in vehicle seconds a cycle, (couplings, C): column d is for a follower d s behind its feeder."""
    count = len(couplings)
    arrivals = np.empty((count, cycle_s, cycle_s))  # coupling, shift, second of the follower's cycle
    green = np.array([c.green for c in couplings])
    saturation = np.array([c.saturation_vps for c in couplings])
    capacity = green.mean(axis=1) * saturation
    for i, c in enumerate(couplings):
        profile = _dispersed(c.departures_vps, c.travel_s)
        mean = profile.mean()
        if mean > MOST_SHARE_OF_CAPACITY * capacity[i] > 0:
            profile = profile * (MOST_SHARE_OF_CAPACITY * capacity[i] / mean)
        for d in range(cycle_s):
            arrivals[i, d] = np.roll(profile, -d)
    queue = np.zeros((count, cycle_s))
    delay = np.zeros((count, cycle_s))
    for second in range(3 * cycle_s):
        t = second % cycle_s
        queue += arrivals[:, :, t]
        queue -= np.minimum(queue, (green[:, t] * saturation)[:, None])
        if second >= 2 * cycle_s:
            delay += queue
    return delay
