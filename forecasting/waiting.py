"""Forecasts of the loop that wait for their truth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forecasting.live_city import HORIZON_S, STEP_S
from forecasting.series import STEPS_OUT
from forecasting.spread import Quantiles
from forecasting.windows import window_mean
from networks.graph import Bools, Floats
from networks.state import History


@dataclass(frozen=True, slots=True)
class Issued:
    """A forecast as it was made. Axis 0 of the arrays is (flow, speed)."""

    made_at_s: float
    point: Floats  # (2, H, E)
    valid: Bools  # (E,)
    candidates: NDArray[np.float32]  # (2, P, H, E)
    comparable: Bools  # (E,) all producers had a value
    deviation: Floats  # (2, E) recent minus profile
    watched: Quantiles
    due: Bools = field(default_factory=lambda: np.ones(STEPS_OUT, np.bool_))  # (H,) truth not seen yet


class Waiting:
    """Keeps one forecast a history step until all its truths are known."""

    def __init__(self) -> None:
        self._issued: list[Issued] = []
        self._last_issue_s = self._last_call_s = -np.inf

    def keep(self, issued: Issued, step_s: float, *, believed: bool) -> None:
        """One forecast a history step; none that was made from a broken feed."""
        if issued.made_at_s < self._last_issue_s:  # the clock was set back: those forecasts were of another past
            self._issued.clear()
        elif issued.made_at_s < self._last_issue_s + step_s:
            return
        self._last_issue_s = issued.made_at_s
        if believed:
            self._issued.append(issued)

    def come_true(
        self, history: History, now_s: float, *, believed: bool
    ) -> Iterator[tuple[Issued, int, Floats, Bools]]:
        """Forecasts and horizons whose truth (2, E) has become known, and at which edges (E,), the oldest first.

        The truths of a step arrive together. Called several times a step, give a share of them at a time: it keeps
        every call short. Called once a step or less often, give all. What comes in from a feed that is not believed
        is no truth.
        """
        grid = history.grid
        end_s = grid.start_s + grid.count * grid.step_s
        ripe: list[tuple[Issued, int, float]] = []
        for issued in self._issued:
            target_s = np.floor((issued.made_at_s + HORIZON_S) / grid.step_s) * grid.step_s
            ripe += [(issued, int(h), float(target_s[h])) for h in np.flatnonzero(issued.due & (target_s <= end_s))]
        truths: dict[float, tuple[Floats, Bools]] = {}
        share = min(max((now_s - self._last_call_s) / grid.step_s, 0.25), 1.0)
        for issued, horizon, target in ripe[: math.ceil(len(ripe) * share)]:
            issued.due[horizon] = False
            if not believed:
                continue
            if target not in truths:
                flow, speed, valid = window_mean(history, np.array([target]), STEP_S, least_frac=0.5)
                truths[target] = np.stack([flow[0], speed[0]]), valid[0]
            truth, known = truths[target]
            yield issued, horizon, truth, known & issued.valid
        self._issued = [i for i in self._issued if i.due.any()]
        self._last_call_s = now_s
