"""What the graph model is trained on: each city's training part, and copies of it with other steps and less history.

A step never seen does not transfer, so every training part also appears averaged to coarser steps, and counts thinned
to finer ones. A city with a few days of history looks different from one with a year, and days after the history from
those within it: so most copies are rehearsals, in which context and ridge are fitted on the first part of some days
and the windows come from the rest, as they do in use. Copies hold training rows only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from forecasting.city_context import CityContext, fit_context, grid_starts
from forecasting.ridge import CityRidge, fit_ridge
from forecasting.series import DAY_S, STEPS_IN, WINDOW, CitySeries, Rows

_COARSE = (2, 3, 6, 12)
_COARSEST_S = 3600
_FINEST_S = 300
_LONG_CUTS = (0.45, 0.75)  # of the training part are history in a long rehearsal
_PIECES = ((1, 0.6), (2, 0.6), (6, 0.6), (9, 0.6), (18, 0.7))  # days, share of them that is history
_PIECES_EACH = 2
_LEAST_WINDOWS = 60
OWN_SHARE = 0.5  # of a city's turns go to it as it is; the rest to long rehearsals and to copies, half each


@dataclass(frozen=True, slots=True)
class Course:
    context: CityContext
    ridge: CityRidge
    starts: torch.Tensor  # (W,) grid rows of training windows
    turns: float  # relative number of steps
    cross_fitted: bool = True  # windows lie within the fitted rows; False: after them, a rehearsal


def make_courses(
    cities: Sequence[CitySeries], *, seed: int = 0, own_share: float = OWN_SHARE,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Course]:  # fmt: skip
    """All courses of the cities; turns grow with the root of a city's training windows times places.

    `own_share`: more of it for a model that will serve these cities, less for one that will meet others.
    """
    courses: list[Course] = []
    for city in cities:
        rows, starts = city.training_rows(), city.split_starts()[0]
        turns = float(np.clip(np.sqrt(len(starts) * city.nodes), 100.0, 800.0))
        train = city.part(0, rows, city.name)
        long = [c for share in _LONG_CUTS if (c := _rehearsal(train, share))]
        copies = list(_copies(train, np.random.default_rng(seed)))
        own = _course(city, rows, starts)
        rest = (1.0 - own_share) / 2.0
        for group, share in (([own], own_share), (long, rest), (copies, rest)):
            courses += [replace(c, turns=turns * share / len(group)) for c in group]
        tell(f"{city.name}: {1 + len(long) + len(copies)} courses")
    return courses


def _course(series: CitySeries, rows: int, starts: Rows) -> Course:
    context = fit_context(series, rows)
    on_grid = grid_starts(context, starts)
    return Course(context, fit_ridge(context, on_grid), on_grid, 1.0)


def _rehearsal(series: CitySeries, share: float) -> Course | None:
    """History is the first share of the rows; None when too few windows are left on either side."""
    rows = round(len(series.values) * share)
    starts = series.window_starts()
    before, after = starts[starts + WINDOW <= rows], starts[starts + STEPS_IN >= rows]
    if min(len(before), len(after)) < _LEAST_WINDOWS:
        return None
    context = fit_context(series, rows)
    if not context.known[: context.training].any() or not context.known[context.training :].any():
        return None
    ridge = fit_ridge(context, grid_starts(context, before))
    return Course(context, ridge, grid_starts(context, after), 1.0, cross_fitted=False)


def _copies(train: CitySeries, rng: np.random.Generator) -> Iterator[Course]:
    steps = []
    factor = train.step_s // _FINEST_S
    if train.quantity == "flow" and 1 < factor <= 3:
        steps.append(train.finer(factor, rng))
    steps += [train.coarser(f) for f in _COARSE if train.step_s * f <= _COARSEST_S]
    for series in steps:
        starts = series.window_starts()
        if len(starts) >= _LEAST_WINDOWS:
            yield _course(series, len(series.values), starts)
        if rehearsal := _rehearsal(series, 0.6):
            yield rehearsal
    for series in (train, *steps[:1]):
        for piece, share in _pieces(series, rng):
            if rehearsal := _rehearsal(piece, share):
                yield rehearsal


def _pieces(series: CitySeries, rng: np.random.Generator) -> Iterator[tuple[CitySeries, float]]:
    """Stretches of some days that begin on any weekday, each with the share of it that is history."""
    per_day = DAY_S // series.step_s
    for days, share in _PIECES:
        rows = days * per_day
        if len(series.values) < 1.2 * rows:
            continue
        for _ in range(_PIECES_EACH):
            first = int(rng.integers(0, len(series.values) - rows))
            yield series.part(first, first + rows, f"{series.name}, {days} days from row {first}"), share
