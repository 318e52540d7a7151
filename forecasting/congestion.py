"""Congestion states relative to free flow, and their probabilities from speed quantiles.

Borders: GB/T 33171-2016 grades road sections by the ratio of travel speed to free-flow speed at 0.7, 0.5, 0.4 and
0.3; its two middle grades of congestion are one here. HCM 2016 (urban streets, exhibit 16-3) puts level of service
C | D at 0.5 and E | F at 0.3 of the base free-flow speed.
"""

from __future__ import annotations

import numpy as np

from networks.graph import Floats

FREE_ABOVE, DENSE_ABOVE, CONGESTED_ABOVE = 0.7, 0.5, 0.3


def congestion_probabilities(speed_mps: Floats, quantiles: tuple[float, ...], free_speed_mps: Floats) -> Floats:
    """Probabilities (H, E, 4) of CONGESTION_STATES from non-crossing speed quantiles (H, E, Q).

    The distribution is linear between quantiles; below the lowest it reaches zero speed, above the highest it ends
    after as much again as between the highest two.
    """
    upper = [
        cumulative(speed_mps, quantiles, border * free_speed_mps)
        for border in (CONGESTED_ABOVE, DENSE_ABOVE, FREE_ABOVE)
    ]
    blocked, congested, dense = upper
    return np.stack([1.0 - dense, dense - congested, congested - blocked, blocked], axis=-1)


def cumulative(values: Floats, quantiles: tuple[float, ...], at: Floats) -> Floats:
    """P(x <= at) for each of the distributions `values` (..., Q); `at` broadcasts against (...)."""
    top = values[..., -1:] + np.maximum(values[..., -1:] - values[..., -2:-1], 1e-6)
    knots = np.concatenate([np.minimum(values[..., :1], 0.0), values, top], axis=-1)
    levels = np.array([0.0, *quantiles, 1.0])
    probability = np.zeros(np.broadcast_shapes(values.shape[:-1], at.shape))
    for left in range(len(levels) - 1):
        low, high = knots[..., left], knots[..., left + 1]
        share = np.clip((at - low) / np.maximum(high - low, 1e-9), 0.0, 1.0)
        probability += (levels[left + 1] - levels[left]) * share
    return probability
