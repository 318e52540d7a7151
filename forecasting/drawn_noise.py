"""What drawn series share: moods that keep for hours, waves that travel, and readings that were never reported."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from networks.graph import Floats

STEP_S = 300  # of all drawn series
MONDAY_S = 1_767_571_200  # 2026-01-05, from which on they are dated


def slow_noise(
    rng: np.random.Generator, steps: int, shape: tuple[int, ...], *, hours: float, spread: float
) -> Floats:
    """Factors around one that keep for hours (T, *shape)."""
    keep = float(np.exp(-STEP_S / 3600.0 / hours))
    noise = rng.standard_normal((steps, *shape)) * spread * np.sqrt(1.0 - keep**2)
    for t in range(1, steps):
        noise[t] += keep * noise[t - 1]
    factors: Floats = np.exp(noise)
    return factors


def moving_noise(rng: np.random.Generator, steps: int, late_min: Floats) -> Floats:
    """Noise (T, C, K) of variance one before the mean over each step; one for every row of late_min (C, K).

    It keeps for some minutes and comes to each place so many minutes later, rounded to whole ones.
    """
    per_step = STEP_S // 60
    late = np.round(late_min).astype(np.int64)
    answer = np.empty((steps, *late.shape))
    for c, row in enumerate(late):
        keep = np.exp(-1.0 / rng.uniform(3.0, 20.0))
        latest = int(row.max())
        noise = lfilter([np.sqrt(1.0 - keep**2)], [1.0, -keep], rng.standard_normal(steps * per_step + latest))
        for k, minutes in enumerate(row.tolist()):
            first = latest - minutes
            answer[:, c, k] = noise[first : first + steps * per_step].reshape(steps, per_step).mean(axis=1)
    return answer


def draw_missing(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Single readings, and stretches of hours at some sensors."""
    gone: NDArray[np.bool_] = rng.random(shape) < rng.choice([0.0, 0.01, 0.04])
    for _ in range(rng.poisson(shape[1] * rng.choice([0.0, 0.1, 0.5]))):
        first = int(rng.integers(shape[0]))
        gone[first : first + int(rng.integers(12, 288)), int(rng.integers(shape[1]))] = True
    return gone
