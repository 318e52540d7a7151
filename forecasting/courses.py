"""What the graph model is trained on: each city's training part, and copies of it with other steps and less history.

A step never seen does not transfer, and a city with a few days of history looks different from one with a year: so
every training part also appears averaged to coarser steps, counts also thinned to finer ones, and cut into short
pieces. Copies hold training rows only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from forecasting.city_context import CityContext, fit_context, grid_starts
from forecasting.ridge import CityRidge, fit_ridge
from forecasting.series import DAY_S, WINDOW, CitySeries

_COARSE = (2, 3, 6, 12)
_COARSEST_S = 3600
_FINE_TO_S = 300
_PIECE_DAYS = (4, 8, 16)
_PIECES = 3  # of each length
_LEAST_WINDOWS = 60
_COPIES_SHARE = 0.5  # of a city's turns go to its copies


@dataclass(frozen=True, slots=True)
class Course:
    context: CityContext
    ridge: CityRidge
    starts: torch.Tensor  # (W,) grid rows of training windows
    turns: float  # relative number of steps


def make_courses(
    cities: Sequence[CitySeries], *, seed: int = 0, tell: Callable[[str], None] = lambda _: None
) -> list[Course]:
    """All courses of the cities, turns summing to one."""
    courses: list[Course] = []
    for city in cities:
        train = city.split_starts()[0]
        turns = float(np.clip(np.sqrt(len(train) * city.nodes), 100.0, 800.0))
        copies = list(_copies(city.part(0, city.training_rows(), city.name), np.random.default_rng(seed)))
        own = turns * (1.0 - _COPIES_SHARE if copies else 1.0)
        courses.append(_course(city, city.training_rows(), train, own))
        courses += [_course(c, len(c.values), c.window_starts(), (turns - own) / len(copies)) for c in copies]
        tell(f"{city.name}: {1 + len(copies)} courses")
    total = sum(c.turns for c in courses)
    return [Course(c.context, c.ridge, c.starts, c.turns / total) for c in courses]


def _course(series: CitySeries, rows: int, starts: np.ndarray, turns: float) -> Course:
    context = fit_context(series, rows)
    return Course(context, fit_ridge(context, starts), grid_starts(context, starts), turns)


def _copies(train: CitySeries, rng: np.random.Generator) -> Iterator[CitySeries]:
    steps = [train]
    factor = train.step_s // _FINE_TO_S
    if train.quantity == "flow" and 1 < factor <= 3:
        steps.append(train.finer(factor, rng))
    steps += [train.coarser(f) for f in _COARSE if train.step_s * f <= _COARSEST_S]
    for series in steps:
        if series is not train and len(series.window_starts()) >= _LEAST_WINDOWS:
            yield series
    for series in steps:
        if series.step_s > _COARSEST_S // 2 and series is not train:
            continue  # hours of a few days are too few windows to be worth a turn
        yield from _pieces(series)


def _pieces(series: CitySeries) -> Iterator[CitySeries]:
    """A few stretches of some days each, spread over the series."""
    for days in _PIECE_DAYS:
        rows = days * DAY_S // series.step_s
        count = min(_PIECES, len(series.values) // rows)
        if rows < 2 * WINDOW or len(series.values) < 1.5 * rows:
            continue
        for first in np.linspace(0, len(series.values) - rows, count).astype(int):
            piece = series.part(int(first), int(first) + rows, f"{series.name}, {days} days from row {first}")
            if len(piece.window_starts()) >= _LEAST_WINDOWS and np.isfinite(piece.values).mean() > 0.3:
                yield piece
