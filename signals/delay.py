"""Closed-form delay and cycle length of one approach: a cheap score, and a yardstick for simulated models.

Flows and capacities are in veh/s, times in seconds, delays in seconds a vehicle. `green_s` is effective green.
Sources: F. V. Webster, "Traffic Signal Settings", Road Research Technical Paper 39 (1958); Highway Capacity Manual
2010, chapter 18 (equations 18-19 to 18-21, control delay at a pretimed signal).
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def uniform_delay_s(cycle_s: float, green_s: float, flow_vps: float, saturation_vps: float) -> float:
    """Delay if vehicles came evenly: C (1 - u)^2 / (2 (1 - u min(1, x))), u = g/C; beyond capacity that at x = 1."""
    share, degree = _share_and_degree(cycle_s, green_s, flow_vps, saturation_vps)
    if share >= 1.0:
        return 0.0
    return 0.5 * cycle_s * (1.0 - share) ** 2 / (1.0 - share * min(1.0, degree))


def webster_delay_s(cycle_s: float, green_s: float, flow_vps: float, saturation_vps: float) -> float:
    """Webster's delay: uniform + x^2 / (2 q (1 - x)) - 0.65 (C / q^2)^(1/3) x^(2 + 5u); inf from capacity on."""
    share, degree = _share_and_degree(cycle_s, green_s, flow_vps, saturation_vps)
    if degree >= 1.0:
        return math.inf
    uniform_s = uniform_delay_s(cycle_s, green_s, flow_vps, saturation_vps)
    if flow_vps == 0.0:
        return uniform_s
    random_s = degree**2 / (2.0 * flow_vps * (1.0 - degree))
    correction_s: float = 0.65 * (cycle_s / flow_vps**2) ** (1.0 / 3.0) * degree ** (2.0 + 5.0 * share)
    return uniform_s + random_s - correction_s


def hcm_delay_s(
    cycle_s: float,
    green_s: float,
    flow_vps: float,
    saturation_vps: float,
    *,
    period_h: float = 0.25,
    k: float = 0.5,
    upstream: float = 1.0,
    progression: float = 1.0,
) -> float:
    """HCM control delay d1 PF + d2, finite beyond capacity, no queue at the start of the period.

    d2 = 900 T ((x - 1) + sqrt((x - 1)^2 + 8 k I x / (c T))), T the period in hours, c the capacity in veh/h; k = 0.5
    pretimed, `upstream` (I) = 1 for an isolated signal.
    """
    share, degree = _share_and_degree(cycle_s, green_s, flow_vps, saturation_vps)
    capacity_vph = share * saturation_vps * 3600.0
    root = math.sqrt((degree - 1.0) ** 2 + 8.0 * k * upstream * degree / (capacity_vph * period_h))
    incremental_s = 900.0 * period_h * ((degree - 1.0) + root)
    return progression * uniform_delay_s(cycle_s, green_s, flow_vps, saturation_vps) + incremental_s


def webster_cycle_s(flow_ratios: Sequence[float], lost_s: float) -> float:
    """Webster's cycle of least delay, (1.5 L + 5) / (1 - Y), from the critical flow ratio of each stage.

    Raises ValueError when the stages ask for more green than there is (Y >= 1).
    """
    load = math.fsum(flow_ratios)
    if load >= 1.0:
        raise ValueError(f"critical flow ratios add up to {load:.2f}: no cycle serves them")
    return (1.5 * lost_s + 5.0) / (1.0 - load)


def webster_greens_s(cycle_s: float, flow_ratios: Sequence[float], lost_s: float) -> tuple[float, ...]:
    """Effective greens in proportion to the critical flow ratios."""
    load = math.fsum(flow_ratios)
    return tuple((cycle_s - lost_s) * ratio / load for ratio in flow_ratios)


def _share_and_degree(cycle_s: float, green_s: float, flow_vps: float, saturation_vps: float) -> tuple[float, float]:
    """Green share u and degree of saturation x. Raises ValueError for numbers that mean nothing."""
    if not (0.0 < green_s <= cycle_s and saturation_vps > 0.0 and flow_vps >= 0.0):
        raise ValueError(f"green {green_s} of cycle {cycle_s} s, flow {flow_vps} of {saturation_vps} veh/s")
    share = green_s / cycle_s
    return share, flow_vps / (share * saturation_vps)
