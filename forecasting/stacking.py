"""A lead forecast, corrected by what simpler ones have known better of late.

The correction is a weighted sum of how far the simpler forecasts are from the lead. Its weights per horizon are a
least-squares fit to the lead's recent errors, older ones fading, drawn to none by a prior: recursive least squares
with forgetting (Ljung & Söderström 1983) as stacking (Breiman 1996). On a day that the profile has never seen it
finds within hours that the last readings know more. A truth counts only for windows that begin after it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forecasting.series import STEPS_IN, STEPS_OUT, Float32s, Rows

_HALF_LIFE_WINDOWS = 100
_PRIOR = 40.0  # windows whose deviations are of one scale each speak for the lead alone
_LEAST_PRIOR = 4000.0  # places times windows; few places have too few readings for four weights in a week
_FARTHEST = 4.0  # scales: single readings beyond count as this far
_WEIGHTS = (-0.2, 1.2)


def correct(lead: Float32s, others: list[Float32s], truth: Float32s, start_row: Rows, scale: Float32s) -> Float32s:
    """What to add to the lead (S, 12, N).

    lead, others  (S, 12, N) medians in the unit of the series, windows in time order
    truth         (S, 12, N) NaN unknown; looked at for later windows only
    start_row     (S,) grid rows at which the windows begin, ascending
    scale         (N,) typical deviations of the places
    """
    windows, _, nodes = lead.shape
    known = np.isfinite(truth)
    reach = _FARTHEST * scale
    unit = float(scale.mean())

    def limited(part: Float32s) -> Float32s:
        return (np.clip(np.where(known, part, 0.0), -reach, reach) / unit).astype(np.float32)

    off = [limited(other - lead) for other in others]
    missed = limited(np.where(known, truth, 0.0) - lead)
    count = len(others)
    gram, moment = np.empty((windows, STEPS_OUT, count, count)), np.empty((windows, STEPS_OUT, count))
    for a in range(count):
        moment[..., a] = np.einsum("shn,shn->sh", off[a], missed)
        for b in range(a + 1):
            gram[..., a, b] = gram[..., b, a] = np.einsum("shn,shn->sh", off[a], off[b])
    weights = _weights(gram, moment, start_row, max(_PRIOR * nodes, _LEAST_PRIOR))
    shift = np.zeros_like(lead)
    for a, other in enumerate(others):
        shift += weights[..., a, None] * (other - lead)
    return shift


def _weights(
    gram: NDArray[np.float64], moment: NDArray[np.float64], start_row: Rows, prior: float
) -> NDArray[np.float32]:
    """Weights (S, 12, K) of each window from the fading sums over windows whose truth was known when it began."""
    windows, horizons, count = moment.shape
    keep = 0.5 ** (1.0 / _HALF_LIFE_WINDOWS)
    left = np.broadcast_to(prior * np.eye(count), (horizons, count, count))
    sums, right = np.zeros((horizons, count, count)), np.zeros((horizons, count))
    done = np.zeros(horizons, np.int64)
    answer = np.zeros((windows, horizons, count), np.float32)
    for window in range(windows):
        for horizon in range(horizons):
            last = done[horizon]
            while last < window and start_row[last] + STEPS_IN + horizon < start_row[window]:
                sums[horizon] = keep * sums[horizon] + gram[last, horizon]
                right[horizon] = keep * right[horizon] + moment[last, horizon]
                last += 1
            done[horizon] = last
        answer[window] = np.clip(np.linalg.solve(sums + left, right[..., None])[..., 0], *_WEIGHTS)
    return answer
