"""How well tracks follow the truth: MOTA, IDF1 and GOSPA over a sequence of moments.

MOTA: Bernardin and Stiefelhagen (2008): a pair of the moment before is kept while it is within reach.
IDF1: Ristani et al. (2016): the one assignment of tracks to objects over the whole sequence with most common moments.
GOSPA: Rahmathullah, Garcia-Fernandez, Svensson (2017), with p = 2 and alpha = 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from networks.graph import Floats


class Moment(NamedTuple):
    """True objects (N,) and tracks (M,) at one moment."""

    true_id: NDArray[np.int64]
    true_xy_m: Floats  # (N, 2)
    track_id: NDArray[np.int64]
    track_xy_m: Floats  # (M, 2)


class TrackScores(NamedTuple):
    mota: float
    idf1: float
    gospa_m: float  # root of the mean square over moments
    misses: int
    ghosts: int
    switches: int
    objects: int  # true objects, summed over moments
    position_rmse_m: float  # of the pairs


def score_tracks(moments: Sequence[Moment], *, reach_m: float = 2.0, cutoff_m: float = 5.0) -> TrackScores:
    """Score a sequence. `reach_m`: farthest that a track may be from its object; `cutoff_m`: GOSPA's c."""
    last: dict[int, int] = {}
    common: Counter[tuple[int, int]] = Counter()
    misses = ghosts = switches = objects = tracked = 0
    squares: list[float] = []
    gospa: list[float] = []
    for moment in moments:
        far = _far(moment)
        gospa.append(gospa_of(moment.true_xy_m, moment.track_xy_m, cutoff_m=cutoff_m) ** 2)
        near_rows, near_columns = np.nonzero(far <= reach_m)
        common.update(zip(moment.true_id[near_rows].tolist(), moment.track_id[near_columns].tolist(), strict=True))
        pairs = _pairs(moment, far, last, reach_m)
        for row, column in pairs:
            true_id, track_id = int(moment.true_id[row]), int(moment.track_id[column])
            switches += last.get(true_id, track_id) != track_id
            last[true_id] = track_id
            squares.append(float(far[row, column]) ** 2)
        misses += len(moment.true_id) - len(pairs)
        ghosts += len(moment.track_id) - len(pairs)
        objects += len(moment.true_id)
        tracked += len(moment.track_id)
    return TrackScores(
        mota=1.0 - (misses + ghosts + switches) / max(objects, 1),
        idf1=2.0 * _most_common(common) / max(objects + tracked, 1),
        gospa_m=float(np.sqrt(np.mean(gospa))) if gospa else 0.0,
        misses=misses,
        ghosts=ghosts,
        switches=switches,
        objects=objects,
        position_rmse_m=float(np.sqrt(np.mean(squares))) if squares else float("nan"),
    )


def gospa_of(true_xy_m: Floats, track_xy_m: Floats, *, cutoff_m: float) -> float:
    """GOSPA of two sets of points (N, 2), (M, 2), p = 2, alpha = 2, metres."""
    far = np.hypot(*(true_xy_m[:, None, :] - track_xy_m[None, :, :]).transpose(2, 0, 1))
    squared = np.minimum(far, cutoff_m) ** 2
    rows, columns = linear_sum_assignment(squared)
    paired = far[rows, columns] < cutoff_m
    alone = len(true_xy_m) + len(track_xy_m) - 2 * int(paired.sum())
    return float(np.sqrt(squared[rows, columns][paired].sum() + alone * cutoff_m**2 / 2.0))


def _far(moment: Moment) -> Floats:
    apart = moment.true_xy_m[:, None, :] - moment.track_xy_m[None, :, :]
    return np.hypot(apart[..., 0], apart[..., 1])


def _pairs(moment: Moment, far: Floats, last: dict[int, int], reach_m: float) -> list[tuple[int, int]]:
    column_of = {int(track): column for column, track in enumerate(moment.track_id)}
    kept = []
    for row, true_id in enumerate(moment.true_id.tolist()):
        column = column_of.get(last.get(true_id, -1), -1)
        if column >= 0 and far[row, column] <= reach_m:
            kept.append((row, column))
    rows = sorted(set(range(len(moment.true_id))) - {row for row, _ in kept})
    columns = sorted(set(range(len(moment.track_id))) - {column for _, column in kept})
    if rows and columns:
        cost = np.where(far[np.ix_(rows, columns)] <= reach_m, far[np.ix_(rows, columns)], 1e6)
        for a, b in zip(*linear_sum_assignment(cost), strict=True):
            if cost[a, b] < 1e6:
                kept.append((rows[int(a)], columns[int(b)]))
    return kept


def _most_common(common: Counter[tuple[int, int]]) -> int:
    trues, tracks = sorted({t for t, _ in common}), sorted({k for _, k in common})
    if not common:
        return 0
    row, column = {t: i for i, t in enumerate(trues)}, {k: i for i, k in enumerate(tracks)}
    shared = np.zeros((len(trues), len(tracks)))
    for (true_id, track_id), count in common.items():
        shared[row[true_id], column[track_id]] = count
    best = linear_sum_assignment(shared, maximize=True)
    return int(shared[best].sum())
