"""What a forecaster knows of a city before it looks at a window: profile, scales, graphs, drift; no learned weights.

Everything that is fitted comes from the first `training` rows. Rows after them are only read as the past of a later
window: the profile and the drift of a row know nothing younger than a day before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import uniform_filter1d

from forecasting.free_days import country_of, worked_holidays
from forecasting.grid import Grid
from forecasting.series import DAY_S, WINDOW, CitySeries, Float32s, Rows
from forecasting.usual import Usual, fit_usual

_DRIFT_DAYS = 7
_DRIFT_FADE = 0.7  # a day
_ALIKE = 8  # correlated places that each place listens to
_ALIKE_ROWS = 4000  # of the training part decide who is alike
_ALIKE_MOST_NODES = 4000  # beyond, a full correlation matrix costs too much: the road graph alone
GRAPHS = ("out", "in", "near", "alike")
STATISTICS = 10
_RETURNS = 3  # of random walks of 2, 4 and 8 steps
STRUCTURE = _RETURNS + 2  # and degrees
_REACH = (0.1, 0.9)
_UNREST_S = 3600.0  # readings so far away in the day speak for its restlessness too, less and less
_UNREST_OF_ALL, _UNREST_OF_DAY = 20.0, 200.0  # readings that speak for the city's rhythm, and for none


@dataclass(frozen=True, slots=True)
class CityContext:
    """Arrays on the grid (G rows) and the places (N). Deviations are in units of each place's `scale`."""

    name: str
    quantity: str
    step_s: int
    grid: Grid
    training: int  # grid rows that were fitted on
    usual: torch.Tensor  # (G, N) profile, original unit
    mean: torch.Tensor  # (N,)
    spread: torch.Tensor  # (N,) standard deviation of the values
    scale: torch.Tensor  # (N,) typical deviation from the profile
    deviation: torch.Tensor  # (G, N) over scale, 0 where missing
    known: torch.Tensor  # (G, N) bool
    drift: torch.Tensor  # (3, G, N) yesterday, fading week, same weekday of past weeks; over scale, 0 where unknown
    drift_known: torch.Tensor  # (3, G, N) bool
    contrast: torch.Tensor  # (G, N) what a day of the other type would bring beyond the profile, over scale
    support: torch.Tensor  # (G, 2) days that the profile rests on, of the own type and in all, log1p over 3
    graphs: tuple[torch.Tensor, ...]  # GRAPHS, (N, N) sparse, rows sum to one or are empty
    unrest: torch.Tensor  # (G, N) log of how far off the profile the place is at this time of day, over its mean
    reach: torch.Tensor  # (2, N) what a tenth of the values are below, and above, original unit
    statistics: torch.Tensor  # (N, STATISTICS)
    structure: torch.Tensor  # (N, STRUCTURE) where in the network
    reliability: float
    history_days: float

    @property
    def nodes(self) -> int:
        return int(self.mean.shape[0])


def fit_context(series: CitySeries, training_rows: int | None = None) -> CityContext:
    """The context of a series whose first `training_rows` rows may be fitted on; None: its training part."""
    training_rows = series.training_rows() if training_rows is None else training_rows
    country = country_of(series)
    worked = worked_holidays(series.values[:training_rows], series.start_s[:training_rows], country)
    grid = Grid.of(series.start_s, series.step_s, country, worked)
    values = grid.place(series.values)
    training = int(grid.row[training_rows - 1]) + 1
    usual = fit_usual(values, grid, training)
    mean, spread = _moments(values[:training])
    with np.errstate(invalid="ignore"):
        off = values - usual.value
        scale = _scale(off[:training], spread)
        deviation = np.clip(off / scale, -12.0, 12.0)
    known = np.isfinite(deviation)
    deviation = np.where(known, deviation, 0.0).astype(np.float32)
    drift = _drift(values, usual, scale, grid)
    with np.errstate(invalid="ignore"):
        contrast = np.clip((usual.other - usual.value) / scale, -8.0, 8.0)
    graphs = _road_graphs(series)
    alike = _alike(deviation[:training], known[:training])
    days = len(np.unique(grid.start_s[:training][known[:training].any(axis=1)] // 86400))
    return CityContext(
        name=series.name,
        quantity=series.quantity,
        step_s=series.step_s,
        grid=grid,
        training=training,
        usual=torch.from_numpy(usual.value),
        mean=torch.from_numpy(mean),
        spread=torch.from_numpy(spread),
        scale=torch.from_numpy(scale),
        deviation=torch.from_numpy(deviation),
        known=torch.from_numpy(known),
        drift=torch.from_numpy(np.where(np.isfinite(drift), drift, 0.0).astype(np.float32)),
        drift_known=torch.from_numpy(np.isfinite(drift)),
        contrast=torch.from_numpy(np.where(np.isfinite(contrast), contrast, 0.0).astype(np.float32)),
        support=torch.from_numpy(np.log1p(usual.support) / 3.0),
        graphs=(*(to_sparse(g) for g in graphs), to_sparse(alike)),
        unrest=torch.from_numpy(_unrest(deviation, known, grid, training)),
        reach=torch.from_numpy(place_quantiles(values[:training], _REACH, mean).astype(np.float32)),
        structure=torch.from_numpy(_structure(graphs)),
        statistics=torch.from_numpy(_statistics(deviation[:training], known[:training], mean, spread, scale, graphs)),
        reliability=usual.reliability,
        history_days=float(days),
    )


def to_sparse(matrix: sparse.csr_array) -> torch.Tensor:
    entries = matrix.tocoo()
    index = torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64))
    weight = torch.from_numpy(entries.data.astype(np.float32))
    return torch.sparse_coo_tensor(index, weight, entries.shape, check_invariants=False).coalesce()


def _moments(train: Float32s) -> tuple[Float32s, Float32s]:
    """Mean and standard deviation of each place; places without readings take those of all."""
    known = np.isfinite(train)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, train, 0.0).sum(axis=0, dtype=np.float64) / count
    spread = np.sqrt(np.where(known, (train - mean) ** 2, 0.0).sum(axis=0, dtype=np.float64) / count)
    seen = known.any(axis=0)
    overall = mean[seen].mean() if seen.any() else 0.0
    wide = spread[seen].mean() if seen.any() else 1.0
    spread = np.where(seen & (spread > 1e-3 * max(wide, 1e-6)), spread, max(wide, 1e-6))
    return np.where(seen, mean, overall).astype(np.float32), spread.astype(np.float32)


def place_quantiles(values: Float32s, shares: float | tuple[float, ...], otherwise: Float32s | float) -> NDArray[Any]:
    """Quantile of the readings of each place (N,), one row a share of several; `otherwise` where it has none."""
    seen = np.isfinite(values).any(axis=0)
    return np.where(seen, np.nanquantile(np.where(seen, values, 0.0), shares, axis=0), otherwise)


def _scale(off: Float32s, spread: Float32s) -> Float32s:
    """Typical deviation: 1.25 mean absolute (a normal's standard deviation), at least a twentieth of the spread."""
    known = np.isfinite(off)
    count = known.sum(axis=0)
    mean_off = np.where(known, np.abs(off), 0.0).sum(axis=0, dtype=np.float64) / np.maximum(count, 1)
    return np.where(count > 0, np.maximum(1.25 * mean_off, 0.05 * spread), spread).astype(np.float32)


def _drift(values: Float32s, usual: Usual, scale: Float32s, grid: Grid) -> NDArray[np.float32]:
    """How the last days differed at this time of day, from rows at least a day old (3, G, N); NaN unknown."""
    with np.errstate(invalid="ignore"):
        surprise = np.clip((values - usual.causal) / scale, -8.0, 8.0)
    rows = len(values)
    total, weight = np.zeros(values.shape, np.float32), np.zeros(values.shape, np.float32)
    answer = np.full((3, *values.shape), np.nan, np.float32)
    for back in range(1, _DRIFT_DAYS + 1):
        shift = back * grid.per_day
        if shift >= rows:
            break
        past = surprise[:-shift]
        if back == 1:
            answer[0, shift:] = past
        seen = np.isfinite(past)
        total[shift:] += _DRIFT_FADE**back * np.where(seen, past, 0.0)
        weight[shift:] += _DRIFT_FADE**back * seen
    answer[1] = np.where(weight > 0, total / np.maximum(weight, 1e-6), np.nan)
    total, weight = np.zeros(values.shape, np.float32), np.zeros(values.shape, np.float32)
    for back in range(1, 5):
        shift = back * 7 * grid.per_day
        if shift >= rows:
            break
        past = values[:-shift]
        seen = np.isfinite(past)
        total[shift:] += np.where(seen, past, 0.0)
        weight[shift:] += seen
    with np.errstate(invalid="ignore"):
        answer[2] = np.where(weight > 0, (total / np.maximum(weight, 1e-6) - usual.value) / scale, np.nan)
    limited: Float32s = np.clip(answer, -8.0, 8.0)
    return limited


def _road_graphs(series: CitySeries) -> tuple[sparse.csr_array, ...]:
    """Row-normalised (downstream, upstream, two steps in any direction)."""
    start, end = series.edges if series.edges.size else np.zeros((2, 0), np.int64)
    length = np.where(np.isfinite(series.edge_length_m), series.edge_length_m, 0.0)
    typical = float(np.mean(length)) if len(length) and length.any() else 1.0
    weight = np.exp(-length / typical)
    shape = (series.nodes, series.nodes)
    out = _normalised(sparse.csr_array((weight, (start, end)), shape=shape))
    back = _normalised(sparse.csr_array((weight, (end, start)), shape=shape))
    near = _normalised((out + back) @ (out + back)) if len(start) else out
    return out, back, near


def _normalised(matrix: sparse.csr_array) -> sparse.csr_array:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.csr_array(sparse.diags_array(1.0 / np.maximum(sums, 1e-12)) @ matrix)


def _alike(deviation: Float32s, known: NDArray[np.bool_]) -> sparse.csr_array:
    """For each place the places whose deviations go with its own, weighted by squared correlation."""
    nodes = deviation.shape[1]
    if nodes < 2 or nodes > _ALIKE_MOST_NODES:
        return sparse.csr_array((nodes, nodes))
    rows = np.unique(np.linspace(0, len(deviation) - 1, min(len(deviation), _ALIKE_ROWS)).astype(np.int64))
    part = np.clip(deviation[rows], -4.0, 4.0)
    seen = known[rows].astype(np.float32)
    part = part * seen
    both = part.T @ part
    norm = np.sqrt((part**2).T @ seen)  # (i, j): length of i over the rows where j was seen
    correlation = both / np.maximum(norm * norm.T, 1e-6)
    correlation *= np.clip((seen.T @ seen) / 200.0, 0.0, 1.0)  # few common rows prove little
    np.fill_diagonal(correlation, 0.0)
    keep = min(_ALIKE, nodes - 1)
    best = np.argpartition(-correlation, keep - 1, axis=1)[:, :keep]
    strength = np.maximum(np.take_along_axis(correlation, best, axis=1), 0.0) ** 2
    index = np.repeat(np.arange(nodes), keep)
    matrix = sparse.csr_array((strength.ravel(), (index, best.ravel())), shape=(nodes, nodes))
    matrix.eliminate_zeros()
    return _normalised(matrix)


def _statistics(
    deviation: Float32s, known: NDArray[np.bool_], mean: Float32s, spread: Float32s, scale: Float32s,
    graphs: tuple[sparse.csr_array, ...],
) -> Float32s:  # fmt: skip
    """Of each place, without a unit: size, variability, memory of its deviations, degree, how often it reports."""
    clipped = np.clip(deviation, -4.0, 4.0)
    variance = np.maximum((clipped**2 * known).sum(axis=0), 1e-6)
    memory = []
    for lag in (1, 3, 6, 12):
        both = known[lag:] & known[:-lag]
        product = (clipped[lag:] * clipped[:-lag] * both).sum(axis=0)
        memory.append(product / np.maximum(variance * both.sum(axis=0) / np.maximum(known.sum(axis=0), 1), 1e-6))
    typical = max(float(np.mean(np.abs(mean))), 1e-6)
    columns = [
        np.log(np.maximum(np.abs(mean) / typical, 1e-2)),
        spread / np.maximum(np.abs(mean), 1e-3 * typical),
        scale / spread,
        *(np.clip(m, -1.0, 1.0) for m in memory),
        (graphs[0] + graphs[1]).count_nonzero(axis=1) / 8.0,
        known.mean(axis=0),
        np.log1p(known.sum(axis=0)) / 10.0,
    ]
    limited: Float32s = np.clip(np.stack(columns, axis=1), -4.0, 4.0).astype(np.float32)
    return limited


def _unrest(deviation: Float32s, known: NDArray[np.bool_], grid: Grid, training: int) -> Float32s:
    """Of every row from the other days of the training part (G, N): a row must not tell of itself."""
    slot = (grid.start_s % DAY_S * grid.per_day // DAY_S).astype(np.int64)
    day = grid.start_s // DAY_S
    shape = (grid.per_day, deviation.shape[1])
    width = 1 + 2 * int(_UNREST_S * grid.per_day / DAY_S / 2)

    def of_day(rows: slice) -> Float32s:
        """How far off its readings are, and where there are any (2, steps of a day, N)."""
        found = np.zeros((2, *shape), np.float32)
        found[0, slot[rows]] = np.minimum(np.abs(deviation[rows]), 6.0) * known[rows]
        found[1, slot[rows]] = known[rows]
        return found

    def spread_out(sums: Float32s) -> Float32s:
        for _ in range(2):  # twice a moving sum: a triangle
            sums = uniform_filter1d(sums, width, axis=1, mode="wrap") * width**0.5
        return sums

    def told(off: Float32s, count: Float32s) -> Float32s:
        typical = max(float(off.sum() / max(count.sum(), 1.0)), 1e-3)
        rhythm = (off.sum(axis=1) / typical + _UNREST_OF_DAY) / (count.sum(axis=1) + _UNREST_OF_DAY)
        own = off.sum(axis=0) / np.maximum(count.sum(axis=0), 1.0)
        usual = np.where(own > 0, own, typical)
        found: Float32s = (off / usual + _UNREST_OF_ALL * rhythm[:, None]) / (count + _UNREST_OF_ALL)
        return np.log(np.clip(found, 0.1, 10.0)).astype(np.float32)

    begins = np.flatnonzero(np.diff(day[:training], prepend=day[0] - 1)).tolist()
    days = [slice(first, last) for first, last in pairwise([*begins, training])]
    whole = np.zeros((2, *shape), np.float32)
    for rows in days:
        whole += of_day(rows)
    whole = spread_out(whole)
    answer = np.empty((len(slot), shape[1]), np.float32)
    answer[training:] = told(*whole)[slot[training:]]
    for rows in days:
        answer[rows] = told(*np.maximum(whole - spread_out(of_day(rows)), 0.0))[slot[rows]]
    return answer


def _structure(graphs: tuple[sparse.csr_array, ...]) -> Float32s:
    """Random-walk encodings (Dwivedi et al. 2022) on the links of either direction, and degrees (N, STRUCTURE)."""
    walk = _normalised(sparse.csr_array(((graphs[0] + graphs[1]) > 0).astype(np.float64)))
    columns = []
    for doubling in range(_RETURNS):
        if doubling:
            walk = sparse.csr_array(walk @ walk)
        columns.append(np.asarray(walk.multiply(walk.T).sum(axis=1)).ravel())  # back after twice as many steps
    columns += [np.log1p(graph.count_nonzero(axis=1)) / 2.0 for graph in graphs[:2]]
    return np.stack(columns, axis=1).astype(np.float32)


def grid_starts(context: CityContext, starts: Rows) -> torch.Tensor:
    """Grid rows of the first row of windows that start at these series rows."""
    return torch.from_numpy(context.grid.row[starts])


def calendar(context: CityContext, starts: torch.Tensor) -> torch.Tensor:
    """Known in advance of each window (B, 12): time of day of the first target, weekday."""
    row = starts.numpy() + WINDOW // 2
    row = np.minimum(row, len(context.grid.start_s) - 1)
    when, day = context.grid.start_s[row], context.grid.weekday[row]
    angle = 2 * np.pi * (when % 86400) / 86400
    columns = [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
    columns += [(day == d).astype(float) for d in range(7)]
    columns.append((day >= 5).astype(float))
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))
