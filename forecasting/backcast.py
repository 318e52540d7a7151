"""Forecast the windows of a referee with any forecaster: inputs from the windows, the past from the series.

Nothing of the series at or after a window's start is read for it: its inputs come from the windows themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from forecasting.city_context import place_quantiles
from forecasting.conformal import Record, adapt
from forecasting.congestion import cumulative
from forecasting.features import window_features
from forecasting.forecasters import FittedCity, Lags, LastValue, Profile, Ridge, WindowForecaster, fit_city
from forecasting.gate import Verdict, feed_defect, judge
from forecasting.model import MIDDLE
from forecasting.series import STEPS_IN, STEPS_OUT, WINDOW, CitySeries, Float32s, Rows
from forecasting.stacking import correct
from forecasting.virtual_sensors import VirtualSensors, virtual_sensors, with_virtual_sensors
from forecasting.window_file import WindowSet
from networks.errors import InputError
from networks.state import QUANTILES

TOKENS = 24_000  # places times windows at once
FARTHEST = 12.0  # scales from the profile: inputs beyond are limited
_RECENT_SHARE = 0.2  # of a series judges and calibrates its own forecast
_WARM_UP_WINDOWS = 400  # before the first forecast, to measure how far errors reach
_WARM_UP_TOKENS, _MOST_WARM_UP = 20_000, 4000  # a city of few places needs more windows to say as much
_TIE = 1.02  # times the error of a simpler forecast
_HARM = 1.01  # times the error without the online correction
_TELLING_DAYS = 7.0  # of held-out windows tell whether it does harm: it is there for days unlike the ones before
_FEWEST_JUDGED = 40  # held-out windows; with fewer nobody is refused
_CONGESTED_BELOW = 0.6  # of the free-flow speed
_FREE_FLOW_SHARE = 0.85  # of the training part's speeds are below it
_STATE_BORDERS = (-0.5, 0.5)  # standard deviations around a place's mean: quiet, usual, busy


@dataclass(frozen=True, slots=True)
class Backcast:
    quantiles: Float32s  # (S, O, N, Q), ascending, not negative; O steps as the windows ask
    congested: Float32s | None  # (S, O, N) probability; speeds only
    producers: dict[str, int]  # who made how many windows
    verdict: Verdict | None  # on the held-out windows; None: nobody was judged
    defects: dict[str, int]  # windows whose feed was stale, stuck or implausible
    virtual_places: tuple[int, ...] = ()  # have no sensor: forecast from virtual ones


def forecast_windows(
    city: FittedCity,
    windows: WindowSet,
    forecaster: WindowForecaster,
    *,
    guarded: bool = False,
    on_part: Callable[[int], None] = lambda _: None,
) -> Backcast:
    """Forecast all windows, their bands adapted to the errors that were known when each began.

    `guarded`: where the forecaster loses to ridge or profile on the held-out windows, they take over in that order;
    what simpler forecasts have known better of late corrects it; and windows of a feed that cannot be believed are
    left to the profile.
    """
    order = np.argsort(windows.start_row, kind="stable")
    values = np.full((len(order), STEPS_IN, city.context.nodes), np.nan, np.float32)
    values[:, STEPS_IN - windows.steps_in :] = windows.values[order]
    starts = _on_grid(city, windows)[order]
    before = warm_up(city, windows)
    lead: WindowForecaster = forecaster
    verdict = None
    if guarded and len(before) >= _FEWEST_JUDGED:
        lead, verdict = _lead(city, before, forecaster)
    others: list[WindowForecaster] = [Ridge(), Lags(), LastValue(), Profile()] if guarded else []
    early, early_others = raw_quantiles(city, before, None, lead, others)
    raw, raw_others = raw_quantiles(city, starts, values, lead, others, on_part)
    producers = np.full(len(starts), lead.name, dtype=object)
    defects: Counter[str] = Counter()
    on_grid = np.concatenate([before, starts])
    truth = _truth(city, on_grid)
    quantiles = np.concatenate([early, raw])
    if guarded:
        simpler = [np.concatenate(pair) for pair in zip(early_others, raw_others, strict=True)]
        shift = correct(quantiles[..., MIDDLE], simpler, truth, on_grid, city.context.scale.numpy())
        early_part = slice(0, len(before))
        telling = len(before) > 0 and np.ptp(before) >= _TELLING_DAYS * city.context.grid.per_day
        if not telling or _pays(quantiles[early_part, ..., MIDDLE], shift[early_part], truth[early_part]):
            quantiles += shift[..., None]
        defective = _defects(city, starts, values, windows.steps_in)
        defects.update(d for d in defective if d)
        bad = np.flatnonzero([bool(d) for d in defective])
        if len(bad):
            quantiles[len(before) + bad] = raw_quantiles(city, starts[bad], values[bad], Profile())[0]
            producers[bad] = Profile.name
    record = Record(quantiles, truth, _states(city, quantiles), on_grid)
    answer = np.empty_like(raw)
    answer[order] = np.maximum(adapt(record, len(before)), 0.0)
    answer = answer[:, : windows.steps_out]
    congested = congestion(city, answer, windows.training_rows) if city.context.quantity == "speed" else None
    return Backcast(answer, congested, dict(Counter(producers.tolist())), verdict, dict(defects))


def raw_quantiles(
    city: FittedCity,
    begin_at: Rows,
    values: Float32s | None,
    lead: WindowForecaster,
    others: Sequence[WindowForecaster] = (),
    on_part: Callable[[int], None] = lambda _: None,
) -> tuple[Float32s, list[Float32s]]:
    """Quantiles (S, 12, N, Q) of the lead in the unit of the series, not adapted, not clipped, and the medians of
    others (S, 12, N), not negative, for windows at these grid rows. `values` (S, 12, N): inputs, else the series'
    own."""
    context = city.context
    starts = torch.from_numpy(begin_at)
    answer = np.empty((len(starts), STEPS_OUT, context.nodes, len(QUANTILES)), np.float32)
    simpler = [np.empty(answer.shape[:3], np.float32) for _ in others]
    size = max(1, TOKENS // context.nodes)
    for begin in range(0, len(starts), size):
        part = starts[begin : begin + size]
        at = slice(begin, begin + len(part))
        inputs = None if values is None else _inputs(city, part, torch.from_numpy(values[at]))
        features = window_features(context, part, inputs=inputs)
        ahead = (part[:, None] + STEPS_IN + torch.arange(STEPS_OUT)).clamp(max=len(context.usual) - 1)
        usual, scale = context.usual[ahead].permute(2, 0, 1), context.scale[:, None, None]
        quantiles = lead.quantiles(city, features, part) * scale[..., None] + usual[..., None]
        answer[at] = quantiles.permute(1, 2, 0, 3).numpy()
        for one, kept in zip(others, simpler, strict=True):
            middle = one.quantiles(city, features, part)[..., MIDDLE] * scale + usual
            kept[at] = middle.clamp(min=0.0).permute(1, 2, 0).numpy()
        on_part(len(part))
    return answer, simpler


def forecast_next(
    city_rows: CitySeries, forecaster: Callable[[FittedCity], WindowForecaster]
) -> tuple[Backcast, Rows]:
    """Forecast the twelve steps after the end of a series: quantiles of one window, and the steps' start times (12,).

    Context and ridge are fitted on all but the last part of the rows, which judges and calibrates. Places that never
    report there are forecast from virtual sensors, where enough others do. Raises InputError when the series is too
    short.
    """
    rows = len(city_rows.values)
    training = rows - min(round(_RECENT_SHARE * rows), _WARM_UP_WINDOWS + STEPS_IN)
    if training < WINDOW + STEPS_IN:
        raise InputError(f"{city_rows.name}: {rows} rows are too few to forecast from")
    virtual = virtual_sensors(city_rows, training)
    if virtual is not None:
        city_rows = with_virtual_sensors(city_rows, virtual)
    longer = city_rows.extended(STEPS_OUT)
    city = fit_city(longer, training)
    first = rows - STEPS_IN
    windows = WindowSet(city_rows.values[None, first:], np.array([first]), training)
    made = forecast_windows(city, windows, forecaster(city), guarded=True)
    if virtual is not None:
        made = _unsensed(city, made, virtual, training)
    return made, longer.start_s[rows:]


def _unsensed(city: FittedCity, made: Backcast, virtual: VirtualSensors, training_rows: int) -> Backcast:
    """The same with what is not known of places without a sensor."""
    quantiles = made.quantiles.copy()
    quantiles[:, :, virtual.places] = virtual.widen(quantiles[:, :, virtual.places])
    congested = None if made.congested is None else congestion(city, quantiles, training_rows)
    return replace(made, quantiles=quantiles, congested=congested, virtual_places=tuple(virtual.places.tolist()))


def held_out_verdict(city: FittedCity, rows: Rows, forecaster: WindowForecaster) -> Verdict:
    """The gate, on the windows of a series that begin at these rows after its training part; bands as issued."""
    training = int(np.searchsorted(city.context.grid.row, city.context.training))
    windows = WindowSet(city.series.values[rows[:, None] + np.arange(STEPS_IN)], rows, training)
    made = [forecast_windows(city, windows, f).quantiles for f in (forecaster, Ridge(), Profile())]
    return judge(made[0], {"ridge": made[1], "profile": made[2]}, _truth(city, city.context.grid.row[rows]))


def warm_up(city: FittedCity, windows: WindowSet) -> Rows:
    """Grid rows of the held-out windows: their targets begin after the training part and end before the first
    window to forecast begins."""
    if not len(windows.start_row):
        return np.zeros(0, np.int64)
    row = city.context.grid.row
    starts = row[city.series.window_starts(windows.steps_in + windows.steps_out)] - (STEPS_IN - windows.steps_in)
    first, trained = row[windows.start_row.min()], row[windows.training_rows - 1] + 1
    between: Rows = starts[(starts + STEPS_IN >= trained) & (starts + STEPS_IN + windows.steps_out <= first)]
    most = int(np.clip(_WARM_UP_TOKENS // city.context.nodes, _WARM_UP_WINDOWS, _MOST_WARM_UP))
    return between[between >= 0][-most:]


def _on_grid(city: FittedCity, windows: WindowSet) -> Rows:
    """Grid rows at which the windows would begin if they had twelve inputs."""
    return np.maximum(city.context.grid.row[windows.start_row] - (STEPS_IN - windows.steps_in), 0)


def congestion(city: FittedCity, quantiles: Float32s, training_rows: int) -> Float32s:
    """Probability (S, 12, N) that speed is below 0.6 of the place's free-flow speed."""
    free = place_quantiles(city.series.values[:training_rows], _FREE_FLOW_SHARE, np.inf)
    return cumulative(quantiles.astype(np.float64), QUANTILES, _CONGESTED_BELOW * free).astype(np.float32)


def _inputs(city: FittedCity, starts: torch.Tensor, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    context = city.context
    usual = context.usual[starts[:, None] + torch.arange(STEPS_IN)]
    off = ((given - usual) / context.scale).clamp(-FARTHEST, FARTHEST)
    return torch.nan_to_num(off), torch.isfinite(given)


def _lead(city: FittedCity, held_out: Rows, forecaster: WindowForecaster) -> tuple[WindowForecaster, Verdict]:
    """The first of the chain that no simpler one clearly beats on the held-out windows. In a tie the richer leads:
    the online correction can still move to the simpler ones, reading by reading."""
    chain: Sequence[WindowForecaster] = [forecaster, Ridge(), Profile(), LastValue()]
    made = [raw_quantiles(city, held_out, None, f)[0] for f in chain]
    truth = _truth(city, held_out)
    verdict = judge(made[0], {"ridge": made[1], "profile": made[2]}, truth)
    for k, one in enumerate(chain):
        rivals = {f.name: q for f, q in zip(chain[k + 1 :], made[k + 1 :], strict=True)}
        against = judge(made[k], rivals, truth)
        own = against.mae.get("model", np.inf)
        if all(own <= _TIE * error for name, error in against.mae.items() if name != "model"):
            return one, verdict
    return chain[-1], verdict


def _pays(lead: Float32s, shift: Float32s, truth: Float32s) -> bool:
    """Whether the online correction did no clear harm on the held-out windows."""
    known = np.isfinite(truth)
    if not known.any():
        return True
    plain, moved = (float(np.abs(np.maximum(m, 0.0) - truth)[known].mean()) for m in (lead, lead + shift))
    return moved <= _HARM * plain


def _defects(city: FittedCity, begin_at: Rows, values: Float32s, steps_in: int) -> list[str]:
    found = []
    starts, given = torch.from_numpy(begin_at), slice(STEPS_IN - steps_in, STEPS_IN)
    for k in range(len(starts)):
        off, known = _inputs(city, starts[k : k + 1], torch.from_numpy(values[k : k + 1]))
        found.append(feed_defect(off[0].numpy()[given], known[0].numpy()[given], values[k][given]))
    return found


def _truth(city: FittedCity, begin_at: Rows) -> Float32s:
    """What followed windows at these grid rows (S, 12, N). `adapt` looks at it only once it is older than the window
    that is adapted."""
    ahead = begin_at[:, None] + STEPS_IN + np.arange(STEPS_OUT)
    values = city.context.grid.place(city.series.values)
    inside = ahead < len(values)
    truth: Float32s = values[np.minimum(ahead, len(values) - 1)]
    truth[~inside] = np.nan
    return truth


def _states(city: FittedCity, quantiles: Float32s) -> NDArray[np.int8]:
    middle = quantiles[..., MIDDLE]
    place = (middle - city.context.mean.numpy()) / city.context.spread.numpy()
    state: NDArray[np.int8] = np.digitize(place, _STATE_BORDERS).astype(np.int8)
    return state
