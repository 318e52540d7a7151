"""The usual value at each row: a robust profile that leaves the row's own day out, gated by its own reliability.

Candidates are the means of the other days at the same time of day: of the same weekday, of weekdays or weekends,
of all days, each also smoothed over neighbouring steps. They are mixed with non-negative weights that sum to at most
one, fitted on training rows; what is left falls to the place's mean, so that a profile of few days, which would
mislead, fades out by itself (stacked generalisation, Breiman 1996). Values beyond four deviations of their cell are
clipped first, so that single broken readings shape no profile.

Within the training part a row sees all other training days. After it a row sees only rows at least a day older than
itself, so that forecasts up to 24 steps ahead never look past the start of their window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from forecasting.grid import Grid
from forecasting.series import WINDOW, Float32s

ROBUST_WEEKS = 3  # below this, a weekday's cell holds too few values for a mean of its own: pool by day type
_CLIP = 4.0  # deviations of a cell
_FIT_VALUES = 200_000  # of the training part decide the weights


@dataclass(frozen=True, slots=True)
class Usual:
    value: Float32s  # (G, N)
    causal: Float32s  # (G, N) the same from earlier days alone, NaN before the first one
    other: Float32s  # (G, N) the mean of days of the other type (weekday or weekend), NaN where none was seen
    support: Float32s  # (G, 2) how many days of the row's own type, and of any, it rests on
    reliability: float  # share of the variance around the places' means that it explains, 0..1
    weights: dict[str, float]


def fit_usual(values: Float32s, grid: Grid, training: int) -> Usual:
    """Profile of every row of (G, N), fitted on the first `training` rows."""
    clipped, mean = _clip(values, grid, training)
    names, honest, causal = [], [], []
    for name, left_out, earlier in _candidates(clipped, grid, training):
        names.append(name)
        honest.append(left_out)
        causal.append(earlier)
    centred = [np.where(np.isfinite(c), c - mean, np.nan) for c in honest]
    for finer, coarser in zip(reversed(centred[:-1]), reversed(centred[1:]), strict=True):
        np.copyto(finer, coarser, where=~np.isfinite(finer))
    share, reliability = _mix(centred, clipped[:training] - mean, training)
    value = mean + sum(w * np.nan_to_num(c) for w, c in zip(share, centred, strict=True))
    earlier = _first_known([c for w, c in zip(share, causal, strict=True) if w > 0.05] or causal)
    weights = {name: round(float(w), 3) for name, w in zip(names, share, strict=True)}
    other, support = _other_type(clipped, grid, training)
    return Usual(value.astype(np.float32), earlier.astype(np.float32), other, support, reliability, weights)


def _candidates(values: Float32s, grid: Grid, training: int) -> Iterator[tuple[str, Float32s, Float32s]]:
    """(name, leave-one-day-out within training and causal after it, causal everywhere), finest first."""
    days = grid.weekday
    day = grid.start_s // 86400
    weeks = len(np.unique((day[:training] + 3) // 7))
    weekend = days >= 5
    groups: list[tuple[str, NDArray[np.int64]]] = []
    if weeks >= ROBUST_WEEKS:
        groups.append(("weekday", days))
    if weekend[:training].any() and not weekend[:training].all():
        groups.append(("day type", weekend.astype(np.int64)))
    groups.append(("day", np.zeros(len(days), np.int64)))
    reach = max(1, round(grid.per_day / 96))  # a quarter of an hour to each side
    known = np.isfinite(values).astype(np.float32)
    filled = np.where(known > 0, values, 0.0).astype(np.float32)
    for name, group in groups:
        for width in (0, reach) if 2 * reach < grid.per_day - WINDOW else (0,):
            left_out, earlier = _day_means(filled, known, group, grid.per_day, training, width)
            yield f"{name}, {2 * width + 1} steps", left_out, earlier


def _day_means(
    total: Float32s, count: Float32s, group: NDArray[np.int64], per_day: int, training: int, width: int = 0
) -> tuple[Float32s, Float32s]:
    """Means over other days of the row's group at the same place in the day, `width` steps to each side included."""
    rows, nodes = total.shape
    days = -(-rows // per_day)
    pad = days * per_day - rows

    def folded(part: Float32s, until: int) -> NDArray[np.float64]:
        kept = part.astype(np.float64)
        kept[until:] = 0.0
        kept = _boxcar(kept, width)
        return np.pad(kept, ((0, pad), (0, 0))).reshape(days, per_day, nodes)

    label = np.pad(group, (0, pad), mode="edge").reshape(days, per_day)
    left_out = np.full((days, per_day, nodes), np.nan)
    earlier = left_out.copy()
    in_training = (np.arange(days * per_day) < training).reshape(days, per_day)
    sums, counts = folded(total, rows), folded(count, rows)
    train_sums, train_counts = folded(total, training), folded(count, training)
    seen = counts.any(axis=(0, 2))  # a city of one hour a day need not pay for the others
    at = slice(None) if seen.all() else np.flatnonzero(seen)
    sums, counts, train_sums, train_counts = (part[:, at] for part in (sums, counts, train_sums, train_counts))
    for value in np.unique(group):
        of_group = (label[:, at] == value)[..., None]
        before = np.cumsum(sums * of_group, axis=0) - sums * of_group
        before_count = np.cumsum(counts * of_group, axis=0) - counts * of_group
        others = (train_sums * of_group).sum(axis=0) - train_sums
        others_count = (train_counts * of_group).sum(axis=0) - train_counts
        with np.errstate(invalid="ignore", divide="ignore"):
            causal = np.where(before_count > 0.5, before / before_count, np.nan)
            honest = np.where(others_count > 0.5, others / others_count, np.nan)
        earlier[:, at] = np.where(of_group, causal, earlier[:, at])
        left_out[:, at] = np.where(of_group, np.where(in_training[:, at, None], honest, causal), left_out[:, at])
    flat = (days * per_day, nodes)
    return left_out.reshape(flat)[:rows].astype(np.float32), earlier.reshape(flat)[:rows].astype(np.float32)


def _other_type(values: Float32s, grid: Grid, training: int) -> tuple[Float32s, Float32s]:
    """What a day of the other type would bring, and how many days of its own type and in all a row rests on."""
    of_type: NDArray[np.bool_] = np.stack([grid.weekday < 5, grid.weekday >= 5], axis=1)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0).astype(np.float32)
    reach = max(1, round(grid.per_day / 96))
    width = reach if 2 * reach < grid.per_day - WINDOW else 0
    count, all_days = known.astype(np.float32), np.zeros(len(values), np.int64)
    per_type = [
        _day_means(filled * one[:, None], count * one[:, None], all_days, grid.per_day, training, width)[0]
        for one in of_type.T
    ]
    other = np.where(of_type[:, :1], per_type[1], per_type[0])
    seen = (known.any(axis=1, keepdims=True) & of_type).astype(np.float32)
    days = _days_seen(seen, grid.per_day, training)
    own = np.where(of_type, days, 0.0).sum(axis=1)
    return other.astype(np.float32), np.stack([own, days.sum(axis=1)], axis=1).astype(np.float32)


def _days_seen(seen: Float32s, per_day: int, training: int) -> Float32s:
    """Other days with data at this time of day (G, 2): of all training for its own rows, earlier ones after it."""
    rows = len(seen)
    days = -(-rows // per_day)
    folded = np.pad(seen, ((0, days * per_day - rows), (0, 0))).reshape(days, per_day, 2)
    train = np.pad(seen[:training], ((0, days * per_day - training), (0, 0))).reshape(days, per_day, 2)
    before = np.cumsum(folded, axis=0) - folded
    inside = (np.arange(days * per_day) < training).reshape(days, per_day, 1)
    counted: Float32s = np.where(inside, train.sum(axis=0) - train, before).reshape(-1, 2)[:rows]
    return counted


def _clip(values: Float32s, grid: Grid, training: int) -> tuple[Float32s, Float32s]:
    """Values within four deviations of their place's daily pattern, and the places' means (N,) over training."""
    train = values[:training]
    known = np.isfinite(train)
    count = known.sum(axis=0)
    overall = float(train[known].mean()) if known.any() else 0.0
    mean = np.where(count > 0, np.where(known, train, 0.0).sum(axis=0) / np.maximum(count, 1), overall)
    zeros = np.zeros(len(values), np.int64)
    filled, seen = np.where(np.isfinite(values), values, 0.0), np.isfinite(values).astype(np.float32)
    usual, _ = _day_means(filled.astype(np.float32), seen, zeros, grid.per_day, training)
    usual = np.where(np.isfinite(usual), usual, mean)
    spread = np.sqrt(np.where(known, (train - usual[:training]) ** 2, 0.0).sum(axis=0) / np.maximum(count, 1))
    reach = np.where(spread > 0, _CLIP * spread, np.inf)
    return np.clip(values, usual - reach, usual + reach).astype(np.float32), mean.astype(np.float32)


def _mix(centred: list[Float32s], truth: Float32s, training: int) -> tuple[NDArray[np.float64], float]:
    """Non-negative weights of the candidates, and the share of the variance that the mix explains."""
    columns = np.stack([c[:training] for c in centred])
    good = np.isfinite(truth) & np.isfinite(columns).all(axis=0)
    if good.sum() < 2:
        return np.zeros(len(centred)), 0.0
    at = np.flatnonzero(good)
    at = at[:: max(1, len(at) // _FIT_VALUES)]
    design, wanted = (
        columns.reshape(len(centred), -1)[:, at].T.astype(np.float64),
        truth.ravel()[at].astype(np.float64),
    )
    share, _ = nnls(design, wanted)
    share /= max(1.0, share.sum())
    left = ((wanted - design @ share) ** 2).sum()
    return share, float(np.clip(1.0 - left / max((wanted**2).sum(), 1e-12), 0.0, 1.0))


def _first_known(tables: list[Float32s]) -> Float32s:
    answer = tables[0].copy()
    for table in tables[1:]:
        np.copyto(answer, table, where=~np.isfinite(answer))
    return answer


def _boxcar(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Sums over `width` rows to each side."""
    if width == 0:
        return values
    running = np.cumsum(np.pad(values, ((width + 1, width), (0, 0))), axis=0)
    return running[2 * width + 1 :] - running[: -2 * width - 1]
