"""One quantity of a city as the loop meets it: fitted on past days, looked at through a window that ends now.

The fit is the one of recorded series (`forecasters.fit_city`). A window of the loop may end between two steps of the
past's grid: what is known of each row is then interpolated. Beyond the day that was prepared the same day repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from forecasting.features import WindowFeatures, window_features
from forecasting.forecasters import FittedCity, WindowForecaster, fit_city
from forecasting.grid import Grid
from forecasting.series import DAY_S, STEPS_IN, STEPS_OUT, WINDOW, CitySeries, Float32s, Rows, weekday
from forecasting.street_graph import Links
from networks.graph import Bools, Floats
from networks.state import History, TimeGrid

QUANTITIES = ("flow", "speed")
FLOW, SPEED = 0, 1
STEP_S = 300.0  # of readings and forecasts
HORIZON_S = STEP_S * np.arange(1, STEPS_OUT + 1, dtype=np.float64)  # (H,)
VPH = 3600.0  # veh/s as veh/h
FARTHEST = 12.0  # scales from the profile: readings beyond are limited
AHEAD = slice(STEPS_IN, WINDOW)
_LEAST_KEPT = 0.3


@dataclass(frozen=True, slots=True)
class ExpectedChange:
    """What is known in advance to make a difference (closures, rain), against a day without it; nothing outside."""

    grid: TimeGrid
    flow_change_vps: Floats  # (T, E)
    speed_change_mps: Floats  # (T, E)

    def at(self, quantity: str, start_s: Floats) -> Floats:
        """Changes (K, E), in the unit of `LiveCity`, of the steps that begin at these epoch seconds."""
        table = self.flow_change_vps * VPH if quantity == "flow" else self.speed_change_mps
        where = (start_s - self.grid.start_s) / self.grid.step_s
        low = np.floor(where).astype(np.int64)
        share = (where - low)[:, None]
        padded = np.vstack([np.zeros((1, table.shape[1])), table, np.zeros((1, table.shape[1]))])
        first, second = (np.clip(row + 1, 0, len(table) + 1) for row in (low, low + 1))
        mixed: Floats = padded[first] * (1.0 - share) + padded[second] * share
        return mixed


@dataclass(frozen=True, slots=True)
class Effect:
    """What an expected change does to values of 24 steps: a loss takes its share of them, a gain is added."""

    kept_frac: Floats  # (24, E)
    gain: Floats  # (24, E)

    def apply(self, values: Floats, rows: slice) -> Floats:
        """Values with it; (K, E), or (K, E, Q) quantiles, whose spread around the gain shrinks with the share."""
        kept, gain = self.kept_frac[rows], self.gain[rows]
        if values.ndim == 3:
            kept, gain = kept[..., None], gain[..., None]
        return values * kept + gain

    def undo(self, readings: Floats, rows: slice) -> Floats:
        """What would have been read without it (K, E); NaN where too little is left to tell."""
        kept = self.kept_frac[rows]
        known = np.maximum(readings - self.gain[rows], 0.0) / np.maximum(kept, _LEAST_KEPT)
        answer: Floats = np.where(kept >= _LEAST_KEPT, np.where(self._moves(rows), known, readings), np.nan)
        return answer

    def _moves(self, rows: slice) -> Bools:
        return (self.kept_frac[rows] < 1.0) | (self.gain[rows] > 0.0)


@dataclass(frozen=True, slots=True)
class LiveWindow:
    """Twelve steps up to now, and what is expected of the twelve to come; units as in `LiveCity`."""

    city: FittedCity
    features: WindowFeatures
    usual: Floats  # (24, E) without what was announced
    effect: Effect  # of what was announced
    readings: Floats  # (12, E) NaN unknown
    deviation: Float32s  # (12, E) over scale, limited, 0 where not known
    known: Bools  # (12, E)
    compared: Bools  # (12,) the past knows this time of day; elsewhere the usual is a mere mean, and nothing deviates

    def quantiles(self, forecaster: WindowForecaster) -> Floats:
        """(12, E, Q) in the unit of the city, ascending, not calibrated."""
        made = forecaster.quantiles(self.city, self.features, torch.zeros(1, dtype=torch.int64))[:, 0]  # (E, 12, Q)
        scale = self.city.context.scale[:, None, None]
        off: Floats = (made * scale).permute(1, 0, 2).numpy().astype(np.float64)
        return self.effect.apply(off + self.usual[STEPS_IN:, :, None], AHEAD)

    def expected(self) -> Floats:
        """(24, E) the usual with what was announced."""
        return self.effect.apply(self.usual, slice(None))


@dataclass(frozen=True, slots=True)
class LiveCity:
    """Flow is in veh/h, speed in m/s."""

    city: FittedCity
    quantity: str
    first_row: int  # grid row of the step that holds the moment it was prepared for
    training_rows: int  # of the series, all past
    utc_offset_s: float
    known: Bools  # (E,) some past reading

    @property
    def scale(self) -> Floats:
        """(E,) typical deviation from the usual value."""
        scale: Floats = self.city.context.scale.numpy().astype(np.float64)
        return scale

    def window(self, now_s: float, readings: Floats, change: ExpectedChange | None = None) -> LiveWindow:
        """`readings` (12, E): means of the steps that end now, NaN unknown."""
        context, step_s = self.city.context, self.city.context.step_s
        start_s = now_s + (np.arange(WINDOW, dtype=np.float64) - STEPS_IN) * step_s
        local_s = start_s + self.utc_offset_s
        clock_s = np.round(local_s).astype(np.int64)
        low, high, share = self._rows(local_s)
        mix = torch.from_numpy(share.astype(np.float32))[:, None]

        def between(table: torch.Tensor) -> torch.Tensor:
            return table[..., low, :] * (1.0 - mix) + table[..., high, :] * mix

        usual = between(context.usual)
        nodes = context.nodes
        seen = replace(
            context,
            grid=Grid(np.arange(WINDOW), clock_s, context.grid.per_day, weekday(clock_s)),
            training=0,
            usual=usual,
            deviation=torch.zeros(WINDOW, nodes),
            known=torch.zeros(WINDOW, nodes, dtype=torch.bool),
            drift=between(context.drift),
            drift_known=context.drift_known[:, low],
            contrast=between(context.contrast),
            support=context.support[low],
            unrest=between(context.unrest),
        )
        plain = usual.numpy().astype(np.float64)
        moved = np.zeros(plain.shape) if change is None else change.at(self.quantity, start_s)
        effect = Effect(
            np.clip(1.0 + np.minimum(moved, 0.0) / np.maximum(plain, 1e-6), 0.0, 1.0), np.maximum(moved, 0.0)
        )
        given = torch.from_numpy(effect.undo(readings, slice(None, STEPS_IN)).astype(np.float32))
        known = torch.isfinite(given)
        compared = self._compared(low[:STEPS_IN], high[:STEPS_IN], share[:STEPS_IN])
        off = torch.nan_to_num(((given - usual[:STEPS_IN]) / context.scale).clamp(-FARTHEST, FARTHEST))
        off = off * compared[:, None]
        inputs = off[None], (known & compared[:, None])[None]
        return LiveWindow(
            replace(self.city, context=seen),
            window_features(seen, torch.zeros(1, dtype=torch.int64), inputs=inputs),
            plain, effect, readings, off.numpy(), known.numpy(), compared.numpy(),
        )  # fmt: skip

    def _compared(self, low: Rows, high: Rows, share: Floats) -> torch.Tensor:
        """Whether some past day was seen at each of these rows, (K,); between two rows, at both."""
        seen = self.city.context.support[:, 1] > 0
        upper = torch.from_numpy(share) > 1e-3
        return seen[low] & (seen[high] | ~upper)

    def _rows(self, local_s: Floats) -> tuple[Rows, Rows, Floats]:
        grid = self.city.context.grid
        position = (local_s - float(grid.start_s[self.first_row])) / self.city.context.step_s + STEPS_IN
        whole = np.floor(position + 1e-9)
        low = self.first_row - STEPS_IN + (whole % grid.per_day).astype(np.int64)
        high = self.first_row - STEPS_IN + ((whole + 1) % grid.per_day).astype(np.int64)
        return low, high, np.clip(position - whole, 0.0, 1.0)


def fit_live_city(
    days: Sequence[History], quantity: str, links: Links, *, from_s: float, utc_offset_s: float = 0.0
) -> LiveCity:
    """Fit a quantity ("flow" or "speed") on past days of one step length, for the day that begins at `from_s`.

    Days may be whole or parts; rows around a part are missing ones. Raises InputError when there is too little.
    """
    series, training, first = _series(days, quantity, links, from_s, utc_offset_s)
    city = fit_city(series, training)
    row = int(city.context.grid.row[first])
    known: Bools = np.asarray(np.isfinite(series.values[:training]).any(axis=0))
    return LiveCity(city, quantity, row, training, utc_offset_s, known)


def _series(
    days: Sequence[History], quantity: str, links: Links, from_s: float, utc_offset_s: float
) -> tuple[CitySeries, int, int]:
    """The past days with an hour of missing rows around each, then the day to come; how many rows are past; and the
    row of `from_s`."""
    step_s = round(days[0].grid.step_s)
    edges = days[0].flow_vps.shape[1]

    def number(at_s: float) -> int:
        return int(np.floor((at_s + utc_offset_s) / step_s + 1e-6))

    live = number(from_s)
    spans = [(number(d.grid.start_s), d.grid.count) for d in days]
    past = np.unique(np.concatenate([np.arange(a - STEPS_IN, a + n + STEPS_IN) for a, n in spans]))
    past = past[past < live - STEPS_IN]
    steps = np.concatenate([past, live - STEPS_IN + np.arange(DAY_S // step_s)])
    values = np.full((len(steps), edges), np.nan, np.float32)
    for day, (first, count) in zip(days, spans, strict=True):
        source = day.flow_vps * VPH if quantity == "flow" else day.speed_mps
        at = np.searchsorted(steps[: len(past)], first + np.arange(count))
        inside = (first + np.arange(count)) < live - STEPS_IN
        values[at[inside]] = np.where(day.valid, source, np.nan)[inside]
    series = CitySeries(
        "live", quantity, values, (steps * step_s).astype(np.int64), step_s, links.ends.astype(np.int64),
        links.length_m,
    )  # fmt: skip
    return series, len(past), len(past) + STEPS_IN
