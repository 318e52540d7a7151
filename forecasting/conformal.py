"""Bands that keep their promise: split conformal prediction, carried along with the readings that arrive.

The distance of a quantile from the median is stretched, per horizon and state of the place, until the share of recent
truths beyond it is the promised one. It starts from windows before the first forecast and moves on with every
reading; a truth counts only for windows that begin after it.
Sources: split conformal prediction, Vovk et al. (2005); on a rolling window with correction of the level, adaptive
conformal inference, Gibbs & Candès (2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.series import STEPS_IN, STEPS_OUT, Rows
from networks.state import QUANTILES

_LEVELS = np.array(QUANTILES)
_MIDDLE = QUANTILES.index(0.5)
_TAILS = [k for k in range(len(QUANTILES)) if k != _MIDDLE]
_MEMORY_WINDOWS = 600
_UPDATE_EVERY = 6  # windows
_MOST_SCORES = 6_000  # of a pool decide
_ENOUGH = 200
_GAIN, _MOST_GAIN = 0.0065, 0.15  # of the level, per window that became known since, and per update
_STRETCH = (0.2, 6.0)
STATES = 3  # quiet, usual, busy

Quantiles = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Record:
    """Forecasts in time order, with what became of them."""

    quantiles: Quantiles  # (S, 12, N, Q)
    truth: NDArray[np.float32]  # (S, 12, N), NaN unknown
    state: NDArray[np.int8]  # (S, 12, N) 0..STATES-1
    start_row: Rows  # (S,) ascending


def adapt(record: Record, first: int) -> Quantiles:
    """Quantiles of the windows from `first` on, adapted with truths older than their start (S - first, 12, N, Q)."""
    total = len(record.start_row)
    answer = record.quantiles[first:].copy()
    wanted = np.broadcast_to(_LEVELS, (STEPS_OUT, len(_LEVELS))).copy()
    counted = np.zeros(STEPS_OUT, np.int64)
    rng = np.random.default_rng(0)
    for begin in range(first, total, _UPDATE_EVERY):
        end = min(begin + _UPDATE_EVERY, total)
        for horizon in range(STEPS_OUT):
            # rows before the start of the first of these windows are known
            ripe = int(np.searchsorted(record.start_row, record.start_row[begin] - STEPS_IN - horizon, side="left"))
            since = max(0, ripe - _MEMORY_WINDOWS)
            if ripe <= since:
                continue
            fresh = slice(max(int(counted[horizon]), first), ripe)
            if fresh.start < fresh.stop and correct_levels(
                wanted[horizon],
                answer[fresh.start - first : fresh.stop - first, horizon],
                record.truth[fresh, horizon],
                gain=min(_GAIN * (fresh.stop - fresh.start), _MOST_GAIN),
            ):
                counted[horizon] = ripe
            past = slice(since, ripe)
            stretch = stretches(
                record.quantiles[past, horizon], record.truth[past, horizon], record.state[past, horizon],
                np.sort(wanted[horizon]), rng,
            )  # fmt: skip
            part = answer[begin - first : end - first, horizon]
            middle = part[..., _MIDDLE : _MIDDLE + 1]
            part[:] = middle + (part - middle) * stretch[record.state[begin:end, horizon]]
    lower = np.minimum.accumulate(answer[..., : _MIDDLE + 1][..., ::-1], axis=-1)[..., ::-1]
    upper = np.maximum.accumulate(answer[..., _MIDDLE:], axis=-1)
    return np.concatenate([lower, upper[..., 1:]], axis=-1)


def stretches(
    quantiles: Quantiles, truth: NDArray[np.float32], state: NDArray[np.int8], wanted: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float32]:  # fmt: skip
    """Factors (STATES, Q) on the distance from the median."""
    known = np.isfinite(truth)
    answer = np.ones((STATES, len(_LEVELS)), np.float32)
    pooled = None
    for of in range(STATES):
        at = np.flatnonzero((known & (state == of)).ravel())
        if len(at) < _ENOUGH:
            if pooled is None:
                pooled = np.flatnonzero(known.ravel())
            at = pooled
        if len(at) < _ENOUGH:
            continue
        if len(at) > _MOST_SCORES:
            at = at[rng.integers(0, len(at), _MOST_SCORES)]
        values = quantiles.reshape(-1, len(_LEVELS))[at]
        off = truth.ravel()[at] - values[:, _MIDDLE]
        for k in _TAILS:
            distance = values[:, k] - values[:, _MIDDLE]
            good = np.abs(distance) > 1e-6
            if good.sum() < _ENOUGH:
                continue
            score = off[good] / distance[good]
            level = 1.0 - wanted[k] if k < _MIDDLE else wanted[k]
            answer[of, k] = np.clip(np.quantile(score, level), *_STRETCH)
    return answer


def correct_levels(
    wanted: NDArray[np.float64], issued: Quantiles, truth: NDArray[np.float32], *, gain: float
) -> bool:
    """Move the levels asked for by what the issued bands missed; whether there were enough truths for that."""
    known = np.isfinite(truth)
    if known.sum() < _ENOUGH:
        return False
    below = (truth[known][:, None] <= issued[known]).mean(axis=0)
    for k in _TAILS:
        wanted[k] = np.clip(wanted[k] + gain * (_LEVELS[k] - below[k]), 0.002, 0.998)
    return True
