"""The gate into the loop: a model is judged on held-out past days, a feed by its last twelve steps.

A model that the gate refuses, for flow or for speed, waits in the shadow; readings that it does not believe are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forecasting.backcast import held_out_verdict
from forecasting.forecasters import WindowForecaster, fit_city
from forecasting.gate import Verdict, feed_defect
from forecasting.live_city import FARTHEST, FLOW, STEP_S, VPH, LiveCity, LiveWindow
from forecasting.series import STEPS_IN, STEPS_OUT
from networks.errors import InputError

_HELD_OUT_DAYS = 2  # the last past days judge a model; the day before measures its bands
_BUSY_VEH = 3.0  # usual vehicles a step, from which on none at all is remarkable
_ZERO_SHARE = 0.8
_WILD_SHARE = 0.2  # of the readings of a step are beyond any deviation seen


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A trained model of the chain, or a candidate in the shadow, and the gate's verdicts by quantity."""

    name: str
    forecaster: WindowForecaster
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    shadow: bool = False

    @property
    def label(self) -> str:
        return f"{'candidate' if self.shadow else 'model'} {self.name}"

    def admitted(self, quantity: str) -> bool:
        verdict = self.verdicts.get(quantity)
        return verdict is not None and verdict.passes


def admit(cities: Sequence[LiveCity], name: str, forecaster: WindowForecaster, *, shadow: bool = False) -> LiveModel:
    """Put a model before the gate: fitted on the earlier past days, judged on the last ones, for each quantity."""
    return LiveModel(name, forecaster, {c.quantity: _verdict(c, forecaster) for c in cities}, shadow)


def _verdict(live: LiveCity, forecaster: WindowForecaster) -> Verdict:
    series = live.city.series
    rows = series.values[: live.training_rows]
    seen = np.flatnonzero(np.isfinite(rows).any(axis=1))
    days = np.unique(series.start_s[seen] // 86400)
    if len(days) < _HELD_OUT_DAYS + 2:
        return Verdict({}, {}, 0, (f"{len(days)} past days are too few to judge by",))
    first_judged = series.start_s // 86400 >= days[-_HELD_OUT_DAYS]
    training = int(np.argmax(series.start_s // 86400 >= days[-_HELD_OUT_DAYS - 1]))
    starts = series.window_starts()
    targets = np.array([np.isfinite(rows[s + STEPS_IN : s + STEPS_IN + STEPS_OUT]).any() for s in starts])
    judged = starts[first_judged[starts] & targets & (starts + STEPS_IN + STEPS_OUT <= len(rows))]
    if not len(judged):
        return Verdict({}, {}, 0, ("the past days hold no window to judge by",))
    try:
        city = fit_city(series, training)
    except InputError as defect:
        return Verdict({}, {}, 0, (str(defect),))
    return held_out_verdict(city, judged, forecaster)


def broken_rows(windows: Sequence[LiveWindow]) -> list[str]:
    """For each of the twelve steps what is wrong with its readings as a whole: "implausible", "silenced" or ""."""
    flow = windows[FLOW]
    found = []
    for row in range(STEPS_IN):
        wild = [
            float((np.abs(w.deviation[row][w.known[row]]) >= FARTHEST - 0.1).mean())
            for w in windows
            if w.known[row].any()
        ]
        busy = flow.known[row] & (flow.usual[row] * STEP_S / VPH >= _BUSY_VEH)
        silenced = busy.any() and (flow.readings[row][busy] == 0).mean() > _ZERO_SHARE
        found.append("implausible" if max(wild, default=0.0) > _WILD_SHARE else "silenced" if silenced else "")
    return found


def defect_now(windows: Sequence[LiveWindow], broken: Sequence[str]) -> str:
    """What is wrong with the feeds now: "stale", "stuck", or what broke their last step; "" nothing, or nothing came
    yet."""
    heard = np.flatnonzero(windows[FLOW].known.any(axis=1))
    if not len(heard):
        return ""
    if not windows[FLOW].known[-1].any():
        return "stale"
    if broken[-1]:
        return broken[-1]
    whole = np.array([k >= heard[0] and not broken[k] for k in range(STEPS_IN)])
    for window in windows:
        found = feed_defect(window.deviation[whole], window.known[whole], window.readings[whole].astype(np.float32))
        if found:
            return found
    return ""
