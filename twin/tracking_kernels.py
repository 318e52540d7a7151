"""Kalman filtering of many tracks at once: motion, distances to detections, updates. Imports math, numba and numpy.

State of a track: position and velocity (x, y, vx, vy) under white-noise acceleration. The measurement matrix picks
components and the noise of components is independent, so that updates run component by component, which is exact.
Source: Bar-Shalom, Li, Kirubarajan, Estimation with Applications to Tracking and Navigation (2001), 6.2 and 7.6.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

FAR = 1e6
"""Cost of a pair outside the gate."""


@njit(cache=True)
def predict(state: Floats, covariance: Floats, at_s: Floats, rows: Rows, now_s: float, accel_var: float) -> None:
    """Move tracks to `now_s`; one that is there already or beyond stays.

    state       (T, 4)     x, y, vx, vy
    covariance  (T, 4, 4)
    at_s        (T,)       time of each state
    rows        (R,)       tracks to move
    accel_var   float      spectral density of the acceleration, m2/s3
    """
    for i in rows:
        dt = now_s - at_s[i]
        if dt <= 0.0:
            continue
        p = covariance[i]
        for axis in range(2):
            state[i, axis] += dt * state[i, axis + 2]
        for j in range(4):
            p[0, j] += dt * p[2, j]
            p[1, j] += dt * p[3, j]
        for j in range(4):
            p[j, 0] += dt * p[j, 2]
            p[j, 1] += dt * p[j, 3]
        for axis in range(2):
            p[axis, axis] += accel_var * dt * dt * dt / 3.0
            p[axis, axis + 2] += accel_var * dt * dt / 2.0
            p[axis + 2, axis] += accel_var * dt * dt / 2.0
            p[axis + 2, axis + 2] += accel_var * dt
        at_s[i] = now_s


@njit(cache=True)
def distances(
    state: Floats,
    covariance: Floats,
    at_s: Floats,
    walks: NDArray[np.bool_],
    rows: Rows,
    now_s: float,
    detections: Floats,
    detected_walks: NDArray[np.bool_],
    position_var: float,
    gate: float,
    cost: Floats,
) -> None:
    """Write squared Mahalanobis distances plus log determinants, FAR outside the gate or between walker and vehicle.

    rows            (R,)      tracks
    detections      (N, 4)    x, y, vx, vy; velocity NaN where unknown
    detected_walks  (N,)
    gate            float     largest squared distance, chi-square of two degrees of freedom
    cost            (R, N)    written

    A track whose state is later than `now_s` is looked at where it was then, along its velocity.
    """
    for a in range(len(rows)):
        i = rows[a]
        back_s = min(now_s - at_s[i], 0.0)
        x, y = state[i, 0] + back_s * state[i, 2], state[i, 1] + back_s * state[i, 3]
        sxx = covariance[i, 0, 0] + position_var
        syy = covariance[i, 1, 1] + position_var
        sxy = covariance[i, 0, 1]
        det = sxx * syy - sxy * sxy
        spread = math.log(det)
        for n in range(len(detections)):
            dx, dy = detections[n, 0] - x, detections[n, 1] - y
            squared = (syy * dx * dx - 2.0 * sxy * dx * dy + sxx * dy * dy) / det
            cost[a, n] = squared + spread if squared <= gate and walks[i] == detected_walks[n] else FAR


@njit(cache=True)
def update(
    state: Floats,
    covariance: Floats,
    at_s: Floats,
    rows: Rows,
    now_s: float,
    detections: Floats,
    position_var: float,
    speed_var: float,
    speed_gate: float,
) -> None:
    """Correct tracks by one detection each: detection n belongs to track rows[n].

    detections  (N, 4)  x, y, vx, vy; velocity NaN where unknown
    speed_gate  float   a velocity farther off than this, squared and by its variance, is not believed
    """
    for n in range(len(rows)):
        i = rows[n]
        back_s = min(now_s - at_s[i], 0.0)
        p = covariance[i]
        for c in range(4):
            if math.isnan(detections[n, c]):
                continue
            expected = state[i, c] + (back_s * state[i, c + 2] if c < 2 else 0.0)
            off = detections[n, c] - expected
            noise = position_var if c < 2 else speed_var
            spread = p[c, c] + noise
            if c >= 2 and off * off > speed_gate * spread:
                continue
            gain = p[:, c] / spread
            row = p[c].copy()
            for a in range(4):
                state[i, a] += gain[a] * off
                for b in range(4):
                    p[a, b] -= gain[a] * row[b]
