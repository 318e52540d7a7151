"""`Forecaster.predict`: the graph model in the live loop, with a declared chain of fallbacks and measured bands.

The chain, richest first: a trained model, the city's ridge, profile and decaying deviation, profile, persistence. A
model joins it through a gate (`admit`: held-out past days against ridge and profile); from then on rolling errors on
what the street really did decide, horizon by horizon, what each counts for in the mean that is served. A feed that
nobody should believe is answered by the profile. Candidates run in the shadow: scored on the same readings, never
served.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forecasting.backcast import held_out_verdict
from forecasting.calibration import Bands, Coverage
from forecasting.congestion import congestion_probabilities
from forecasting.forecasters import Ridge, WindowForecaster, fit_city
from forecasting.gate import Verdict, feed_defect
from forecasting.live_city import AHEAD, FARTHEST, ExpectedChange, LiveCity, LiveWindow
from forecasting.oddness import Oddness
from forecasting.series import STEPS_IN, STEPS_OUT
from forecasting.windows import window_mean
from networks.errors import InputError
from networks.graph import Bools, Floats
from networks.state import QUANTILES, Forecast, History, check_shapes

STEP_S = 300.0
SIMPLE = ("ridge", "profile+deviation", "profile", "persistence")  # the chain below the models
QUANTITIES = ("flow", "speed")
_RIDGE, _DEVIATION, _PROFILE, _PERSISTENCE = range(-4, 0)
_FLOW, _SPEED = 0, 1
_VPH = 3600.0
_MIDDLE = QUANTILES.index(0.5)
_FLOW_FLOOR_VPS = 1 / 300  # Poisson scale of an almost empty edge
_FLOW_CLASSES_VPS = np.array([150.0, 600.0]) / 3600.0  # state borders: minor street, collector, arterial
_SPEED_CLASSES = np.array([0.5, 0.75])  # state borders relative to free speed
_TOP_SPEED = 1.2  # of free speed: SUMO's and observed drivers exceed a limit by up to a fifth
_DECAY_S = 3600.0  # before anything was learnt: a day busier than usual stays so, a deviation halves in 40 minutes
_PRIOR_WEIGHT = 10.0  # updates that the decay counts for which follows from the past and from how odd the day is
_FLOW_SPREAD, _SPEED_SPREAD = 2.5, 0.17  # before any residual: Poisson deviations; share of free speed
_OWN_STRETCH = 1.5  # of a model's own quantiles before any truth: past days hold less chance than the street
_SPREAD_GROWTH_S = 1800.0  # on Bologna 2.5 deviations hold 93 % of 90 % five minutes ahead, 80 % at twenty-five
_NORMAL = np.array([-1.6449, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 1.6449])  # of a normal at QUANTILES
_MEMORY = 0.98  # per update, one a history step: about 50 minutes
_SHARE_MEMORY = 0.95  # of the errors that decide the shares: about 20 minutes
_SHARPNESS = 10.0  # a share falls with this power of the error: a tenth more error, 0.39 times the share
_SHARED = 0.8  # of the evidence of the next shorter horizon
_GATE_WEIGHT = 1.0  # updates that the gate counts for: days of a simulator are little evidence
_UNPROVEN = 1.05  # times the profile's error is assumed of its deviation, until it was seen
_WORST = 2.0  # times the least error: nobody counts as worse than that in one update
_CLEARLY = 0.97  # times the error of the others: so good must a model be that the gate refused
_BACK, _LEAVES = 0.97, 0.96  # a richer producer leads until another's error is this share of its own, and then again
_CLEARLY_MORE = 1.5  # times the share of who counted most, from which on it is told
_NAMED = 0.1  # share from which on a producer is named
_READMIT_WEIGHT = 16.0  # evidence, 15 updates of the street, before a model that the gate refused may count after all
_WATCHED = 400  # edges whose quantiles are kept until their truth is known
_BUSY_VEH = 3.0  # usual vehicles a step, from which on none at all is remarkable
_ZERO_SHARE = 0.8
_WILD_SHARE = 0.2  # of the readings of a step are beyond any deviation seen
_HELD_OUT_DAYS = 2  # the last past days judge a model; the day before measures its bands


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


@dataclass(frozen=True, slots=True)
class ForecastScore:
    """How the issued forecasts turned out so far, per horizon (H,); NaN before the first truth. Errors are of edges
    and times at which every producer had a value; without a past, of all."""

    horizon_s: Floats
    flow_mae_vps: Floats
    speed_mae_mps: Floats
    flow_coverage: Coverage  # of the watched edges
    speed_coverage: Coverage
    flow_mae_by_producer_vps: dict[str, Floats]
    speed_mae_by_producer_mps: dict[str, Floats]
    flow_lead: tuple[str, ...]  # producer in front per horizon
    speed_lead: tuple[str, ...]
    truths: NDArray[np.int64]  # (H,) on common ground


@dataclass(slots=True)
class _Issued:
    """A forecast waiting for its truth. Axis 0 of the arrays is (flow, speed)."""

    made_at_s: float
    due: Bools  # (H,) truth not seen yet
    point: Floats  # (2, H, E)
    candidates: NDArray[np.float32]  # (2, P, H, E)
    comparable: Bools  # (E,) all producers had a value
    deviation: Floats  # (2, E) recent minus profile
    own: Bools  # (2, H) made with a model's own quantiles
    led: Bools  # (2, H, W) the leader had a value, at the watched edges
    made: NDArray[np.float32]  # (2, H, W, Q)
    sent: NDArray[np.float32]  # (2, H, W, Q) stretched, as issued
    state: NDArray[np.int8]  # (2, H, W)
    valid: Bools  # (E,)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What every producer says now."""

    value: Floats  # (2, P, H, E) veh/s, m/s
    available: Bools  # (P, H, E)
    deviation: Floats  # (2, E)
    own: dict[int, Floats]  # producer -> its quantiles (2, H, E, Q)
    defect: str  # of the feed, "" none


class Forecaster:
    """Forecasts edge flow and speed; learns decay, lead and bands from every history it is shown."""

    def __init__(
        self,
        free_speed_mps: Floats,
        cities: Sequence[LiveCity] = (),
        models: Sequence[LiveModel] = (),
    ) -> None:
        """`free_speed_mps` (E,): speed on the empty edge, waiting at signals included where known.

        `cities`: flow and speed of the past, or nothing where no past is known; then persistence is all there is.
        `models`: richest first; they need a past.
        """
        if len(cities) not in (0, 2):
            raise InputError(f"cities: {len(cities)} quantities, expected flow and speed or none")
        self._free_mps = np.maximum(free_speed_mps, 0.1)
        self._cities = tuple(cities)
        self._models = tuple(models) if cities else ()
        self._served = [m for m in self._models if not m.shadow]
        self.producers = (*(m.label for m in self._models), *SIMPLE)
        chain = [k for k, m in enumerate(self._models) if not m.shadow]
        self._chain = [*chain, *(len(self._models) + k for k in range(len(SIMPLE)))]
        self._horizon_s = STEP_S * np.arange(1, STEPS_OUT + 1, dtype=np.float64)
        count, producers, edges = STEPS_OUT, len(self.producers), len(free_speed_mps)
        growth = np.sqrt(1.0 + self._horizon_s / _SPREAD_GROWTH_S)
        self._spread = (_FLOW_SPREAD * growth, _SPEED_SPREAD * growth)
        # of assumed spreads, and of a model's own quantiles
        self._bands = [[Bands(count), Bands(count, _OWN_STRETCH)] for _ in QUANTITIES]
        self._watched = np.sort(np.random.default_rng(0).permutation(edges)[:_WATCHED])
        self._oddness = Oddness(self._cities)
        self._moments = np.zeros((3, 2, count))  # updates, deviation x later deviation, deviation squared
        self._error = np.zeros((2, producers, count))  # fading sums of errors on common ground, over the least
        self._error_weight = np.zeros((2, count))
        self._gate_error = self._errors_at_the_gate()  # (2, P)
        self._total = np.zeros((2, count))
        self._total_by_producer = np.zeros((2, producers, count))
        self._total_count = np.zeros((2, count))  # truths of what was served, truths on common ground
        self._issued: list[_Issued] = []
        self._last_issue_s = self._last_call_s = -np.inf
        self._last_defect = ""
        self._said: _Candidates | None = None
        self._notes: list[str] = []
        for model in self._served:
            for quantity, verdict in model.verdicts.items():
                if not verdict.passes:
                    self._notes.append(f"{model.label} waits in the shadow for {quantity}: {verdict.reasons[0]}")
        self._leading = np.zeros((2, count), np.int64)
        shares = self._shares()
        self._leading = self._lead(shares)
        self._told_most = shares.mean(axis=2).argmax(axis=1)

    def predict(self, history: History, now_s: float, change: ExpectedChange | None = None) -> Forecast:
        """Forecast from what was known by `now_s`. Never raises for missing data: edges without any are not valid,
        and hold zero flow at free speed. `change`: what closures and rain known in advance will make of it."""
        check_shapes("T E", flow=history.flow_vps, speed=history.speed_mps, valid=history.valid)
        check_shapes("E", free_speed=self._free_mps, history=np.zeros(history.flow_vps.shape[1]))
        self._learn(history, now_s)
        self._last_call_s = now_s
        said = self._candidates(history, now_s, change)
        self._said = said
        shares = self._shares()
        self._leading = lead = self._lead(shares)
        self._tell(shares, said.defect)
        point, part = _mean(said, shares)
        point[_FLOW] += self._incidents(said, point[_FLOW])
        valid = part.sum(axis=1).min(axis=(0, 1)) > 0
        point[_FLOW] = np.where(valid, np.maximum(point[_FLOW], 0.0), 0.0)
        top_mps = _TOP_SPEED * self._free_mps
        point[_SPEED] = np.where(valid, np.clip(point[_SPEED], 0.0, top_mps), self._free_mps)
        state = np.stack(
            [
                np.digitize(point[_FLOW], _FLOW_CLASSES_VPS).astype(np.int8),
                np.digitize(point[_SPEED] / self._free_mps, _SPEED_CLASSES).astype(np.int8),
            ]
        )
        made, own, led = self._made(said, lead, point)
        sent = np.stack(
            [
                np.where(
                    own[q][:, None, None],
                    self._bands[q][1].stretch(made[q], state[q]),
                    self._bands[q][0].stretch(made[q], state[q]),
                )
                for q in (_FLOW, _SPEED)
            ]
        )
        flow = np.maximum(sent[_FLOW], 0.0)
        speed = np.clip(sent[_SPEED], 0.0, top_mps[:, None])
        self._remember(history, now_s, said, lead, _Issued(
            now_s, np.ones(STEPS_OUT, np.bool_), point, said.value.astype(np.float32),
            said.available.min(axis=(0, 1)), said.deviation, own,
            led[..., self._watched] & valid[self._watched],
            made[:, :, self._watched].astype(np.float32), sent[:, :, self._watched].astype(np.float32),
            state[..., self._watched], valid,
        ))  # fmt: skip
        names = [self.producers[k] for k in self._chain if (part[:, k][..., valid] >= _NAMED).any()]
        return Forecast(
            made_at_s=now_s,
            horizon_s=self._horizon_s.copy(),
            quantiles=QUANTILES,
            flow_vps=flow,
            speed_mps=speed,
            congestion=congestion_probabilities(speed, QUANTILES, self._free_mps),
            valid=valid,
            producer=(*names, "none") if not valid.all() else tuple(names),
        )

    @property
    def models(self) -> tuple[LiveModel, ...]:
        """The models of the chain and the candidates."""
        return self._models

    def said(self) -> dict[str, Floats]:
        """What every producer, served or not, said in the newest forecast: (2, H, E), veh/s and m/s. Where one had
        nothing to say it is the profile, and where no past is known the last value."""
        if self._said is None:
            return {}
        value, available = self._said.value, self._said.available
        fallback = np.where(available[_PROFILE], value[:, _PROFILE], value[:, _PERSISTENCE])
        return {name: np.where(available[k], value[:, k], fallback) for k, name in enumerate(self.producers)}

    def take_notes(self) -> list[str]:
        """What an operator should know and was not told yet: refused models, changes of the lead, broken feeds."""
        notes, self._notes = self._notes, []
        return notes

    def score(self) -> ForecastScore:
        with np.errstate(invalid="ignore"):
            mae = self._total / self._total_count[0]
            by_producer = self._total_by_producer / self._total_count[1]
        lead = self._lead(self._shares())
        return ForecastScore(
            self._horizon_s.copy(),
            mae[_FLOW],
            mae[_SPEED],
            self._coverage(_FLOW),
            self._coverage(_SPEED),
            {name: by_producer[_FLOW, k] for k, name in enumerate(self.producers)},
            {name: by_producer[_SPEED, k] for k, name in enumerate(self.producers)},
            tuple(self.producers[k] for k in lead[_FLOW]),
            tuple(self.producers[k] for k in lead[_SPEED]),
            self._total_count[1].astype(np.int64),
        )

    def _coverage(self, quantity: int) -> Coverage:
        assumed, own = (bands.coverage() for bands in self._bands[quantity])
        count = assumed.count + own.count
        inside = sum(np.nan_to_num(c.measured) * c.count[:, None] for c in (assumed, own))
        measured = np.divide(
            inside, count[:, None], out=np.full(assumed.measured.shape, np.nan), where=count[:, None] > 0
        )
        return Coverage(assumed.nominal, measured, count)

    def _candidates(self, history: History, now_s: float, change: ExpectedChange | None) -> _Candidates:
        ends_s = now_s + STEP_S * np.arange(1 - STEPS_IN, 1, dtype=np.float64)
        flow, speed, known = window_mean(history, ends_s, STEP_S)
        edges = known.shape[1]
        shape = (STEPS_OUT, edges)
        value, available = (
            np.zeros((2, len(self.producers), *shape)),
            np.zeros((len(self.producers), *shape), np.bool_),
        )
        value[_FLOW, _PERSISTENCE], value[_SPEED, _PERSISTENCE] = flow[-1], speed[-1]
        available[_PERSISTENCE] = known[-1]
        deviation = np.zeros((2, edges))
        if not self._cities:
            return _Candidates(value, available, deviation, {}, "")
        readings = np.stack([np.where(known, flow * _VPH, np.nan), np.where(known, speed, np.nan)])
        windows = [city.window(now_s, part, change) for city, part in zip(self._cities, readings, strict=True)]
        broken = _broken_rows(windows)
        defect = _defect(windows, broken)
        if any(broken):  # what came in then is no reading
            readings[:, [bool(b) for b in broken]] = np.nan
            windows = [city.window(now_s, part, change) for city, part in zip(self._cities, readings, strict=True)]
        past = self._cities[_FLOW].known & self._cities[_SPEED].known
        believed = known[-1] & (not defect)
        self._oddness.note(windows, believed & past, now_s)
        own: dict[int, Floats] = {k: np.zeros((2, *shape, len(QUANTILES))) for k in range(len(self._models))}
        for quantity, window in enumerate(windows):
            unit = _VPH if quantity == _FLOW else 1.0
            expected = window.expected() / unit
            comparable = believed & past & window.compared[-1]
            deviation[quantity] = np.where(comparable, value[quantity, _PERSISTENCE, 0] - expected[STEPS_IN - 1], 0.0)
            value[quantity, _PROFILE] = expected[AHEAD]
            kept = self._kept_of_a_deviation(quantity)
            value[quantity, _DEVIATION] = expected[AHEAD] + kept[:, None] * deviation[quantity]
            value[quantity, _RIDGE] = window.quantiles(Ridge())[..., _MIDDLE] / unit
            for k, model in enumerate(self._models):
                own[k][quantity] = window.quantiles(model.forecaster) / unit
                value[quantity, k] = own[k][quantity, ..., _MIDDLE]
        available[_PROFILE] = past
        available[_DEVIATION] = past & believed
        available[: len(self._models)] = available[_RIDGE] = past & (not defect)
        if defect:
            available[_PERSISTENCE] &= ~past
        return _Candidates(value, available, deviation, own, defect)

    def _kept_of_a_deviation(self, quantity: int) -> Floats:
        """Share (H,) of a deviation that is left later: first by the past and by how odd the day is, then by what
        came true.

        A day that is as far off the profile as others has chance deviations, which fade as past ones did. What makes
        a day odder than that lasts: of the variance of its deviations, oddness squared, all but 1.
        """
        lasting = 1.0 - 1.0 / self._oddness.day[quantity] ** 2
        assumed = lasting + (1.0 - lasting) * np.exp(-self._horizon_s / _DECAY_S)
        weight, product, square = self._moments[:, quantity]
        slope = np.divide(product, square, out=assumed.copy(), where=square > 1e-12)
        mixed: Floats = (weight * slope + _PRIOR_WEIGHT * assumed) / (weight + _PRIOR_WEIGHT)
        return np.clip(mixed, 0.0, 1.0)

    def _incidents(self, said: _Candidates, flow: Floats) -> Floats:
        """What to add to a flow (H, E) where something has happened: there a deviation is carried on, whoever leads.
        Of speeds this made travel times of usual days worse: jams end."""
        carried = np.exp(-self._horizon_s / _DECAY_S)[:, None] * said.deviation[_FLOW]
        added: Floats = self._oddness.incidents * (said.value[_FLOW, _PROFILE] + carried - flow)
        return added

    def _made(self, said: _Candidates, lead: NDArray[np.int64], point: Floats) -> tuple[Floats, Bools, Bools]:
        """Quantiles (2, H, E, Q) before they are stretched, where they are as far apart as a model's own (2, H), and
        where the leader had a value (2, H, E)."""
        made = np.empty((*point.shape, len(QUANTILES)))
        own, led = np.zeros(lead.shape, np.bool_), np.ones(point.shape, np.bool_)
        for quantity in (_FLOW, _SPEED):
            spread = self._spread[quantity][:, None] * self._scale(quantity, point[quantity])
            made[quantity] = point[quantity][..., None] + spread[..., None] * _NORMAL
            for k, quantiles in said.own.items():
                at = lead[quantity] == k
                own[quantity] |= at
                led[quantity, at] = said.available[k, at]
                mine = at[:, None] & said.available[k]
                moved = point[quantity] - said.value[quantity, k]
                made[quantity][mine] = (quantiles[quantity] + moved[..., None])[mine]
        return made, own, led

    def _shares(self) -> Floats:
        """What each producer counts for per quantity and horizon (2, P, H), by its errors of late. A candidate counts
        for nothing; nor does a model that the gate refused, until much evidence says that it is clearly better.
        """
        errors, weights = self._error.copy(), self._error_weight.copy()
        for horizon in range(1, STEPS_OUT):  # truths of shorter horizons come earlier, and speak for the longer ones
            errors[..., horizon] += _SHARED * errors[..., horizon - 1]
            weights[..., horizon] += _SHARED * weights[..., horizon - 1]
        weights += _GATE_WEIGHT
        mean = (errors + _GATE_WEIGHT * self._errors_before_truths()) / weights[:, None]
        shares = np.zeros(mean.shape)
        for quantity in (_FLOW, _SPEED):
            for k in self._chain:
                counts = np.ones(STEPS_OUT, np.bool_)
                if k < len(self._models) and not self._admitted(k, quantity):
                    others = mean[quantity, [j for j in self._chain if j != k]].min(axis=0)
                    counts = (weights[quantity] >= _READMIT_WEIGHT) & (mean[quantity, k] < _CLEARLY * others)
                shares[quantity, k] = counts * mean[quantity, k] ** -_SHARPNESS
        answer: Floats = shares / shares.sum(axis=1, keepdims=True)
        return answer

    def _lead(self, shares: Floats) -> NDArray[np.int64]:
        """Producer in front per quantity and horizon (2, H): the first of the chain that no other has clearly beaten
        of late; the one in front keeps its place in between."""
        lead = np.zeros((2, STEPS_OUT), np.int64)
        most = shares.max(axis=1)
        for k in reversed(self._chain):
            gain = np.where(k < self._leading, _BACK, _LEAVES)
            lead[shares[:, k] >= gain**_SHARPNESS * most] = k
        return lead

    def _errors_before_truths(self) -> Floats:
        """What is expected of each producer (2, P, H), over the least, before the street has told anything.

        Held-out past days say who is better on a day like them, and count alike where they judged nobody. All that
        trusts the profile errs the more the odder the day is; what carries deviations on does not.
        """
        errors = np.ones((2, len(self.producers), STEPS_OUT))
        for quantity, past in enumerate(self._oddness.past):
            odd = self._oddness.day[quantity]
            errors[quantity] = self._gate_error[quantity, :, None] * odd
            errors[quantity, _DEVIATION] = _UNPROVEN
            errors[quantity, _PERSISTENCE] = past.persistence
        least = np.maximum(errors.min(axis=1, keepdims=True), 1e-9)
        answer: Floats = np.minimum(errors / least, _WORST)
        return answer

    def _errors_at_the_gate(self) -> Floats:
        """Errors on held-out past days over that of the profile (2, P); 1 where nobody was judged."""
        errors = np.ones((2, len(self.producers)))
        for k, model in enumerate(self._models):
            for quantity, name in enumerate(QUANTITIES):
                if (verdict := model.verdicts.get(name)) and verdict.mae:
                    errors[quantity, k] = verdict.mae["model"] / verdict.mae["profile"]
                    errors[quantity, _RIDGE] = verdict.mae["ridge"] / verdict.mae["profile"]
        return errors

    def _admitted(self, model: int, quantity: int) -> bool:
        verdict = self._models[model].verdicts.get(QUANTITIES[quantity])
        return verdict is not None and verdict.passes

    def _tell(self, shares: Floats, defect: str) -> None:
        """Say who counts most, over all horizons, when somebody else clearly does."""
        for quantity, name in enumerate(QUANTITIES):
            share, before = shares[quantity].mean(axis=1), int(self._told_most[quantity])
            most = int(share.argmax())
            if share[most] >= _CLEARLY_MORE * share[before]:
                self._notes.append(
                    f"forecast of {name}: {self.producers[most]} counts most now, {share[most]:.0%} beside "
                    f"{share[before]:.0%} of {self.producers[before]}"
                )
                self._told_most[quantity] = most
        if defect != self._last_defect:
            told = f"feed {defect}: forecasts fall back to the profile" if defect else "feed believed again"
            self._notes.append(told)
            self._last_defect = defect

    def _scale(self, quantity: int, point: Floats) -> Floats:
        """Unit of assumed spreads (H, E): Poisson deviation of a count over the step for flow, free speed for
        speed."""
        if quantity == _SPEED:
            return np.broadcast_to(self._free_mps, point.shape)
        scale: Floats = np.sqrt(np.maximum(point, _FLOW_FLOOR_VPS) / STEP_S)
        return scale

    def _remember(
        self, history: History, now_s: float, said: _Candidates, lead: NDArray[np.int64], issued: _Issued
    ) -> None:
        """Keep one forecast a history step for later scoring; none that was made from a broken feed."""
        if now_s < self._last_issue_s:  # the clock was set back: those forecasts were of another past
            self._issued.clear()
        elif now_s < self._last_issue_s + history.grid.step_s:
            return
        self._last_issue_s = now_s
        if not said.defect:
            self._issued.append(issued)

    def _learn(self, history: History, now_s: float) -> None:
        """Score waiting forecasts whose truth has become known, the oldest first.

        The truths of a step arrive together. Called several times a step, learn from a share of them at a time: it
        keeps every call short. Called once a step or less often, learn from all. What comes in from a feed that is
        not believed is no truth.
        """
        grid = history.grid
        end_s = grid.start_s + grid.count * grid.step_s
        ripe: list[tuple[_Issued, int, float]] = []
        for issued in self._issued:
            target_s = np.floor((issued.made_at_s + self._horizon_s) / grid.step_s) * grid.step_s
            ripe += [(issued, int(h), float(target_s[h])) for h in np.flatnonzero(issued.due & (target_s <= end_s))]
        truths: dict[float, tuple[Floats, Bools]] = {}
        share = min(max((now_s - self._last_call_s) / grid.step_s, 0.25), 1.0)
        for issued, horizon, target in ripe[: math.ceil(len(ripe) * share)]:
            issued.due[horizon] = False
            if self._last_defect:
                continue
            if target not in truths:
                flow, speed, valid = window_mean(history, np.array([target]), STEP_S, least_frac=0.5)
                truths[target] = np.stack([flow[0], speed[0]]), valid[0]
            truth, known = truths[target]
            self._score_one(issued, horizon, truth, known & issued.valid)
        self._issued = [i for i in self._issued if i.due.any()]

    def _score_one(self, issued: _Issued, horizon: int, truth: Floats, known: Bools) -> None:
        if not known.any():
            return
        common = known & issued.comparable
        ground = common if self._cities else known
        self._total_count[:, horizon] += ground.sum(), common.sum()
        for quantity in (_FLOW, _SPEED):
            point = issued.point[quantity]
            seen = known[self._watched] & issued.led[quantity, horizon]
            self._bands[quantity][int(issued.own[quantity, horizon])].learn(
                horizon,
                issued.made[quantity, horizon][seen],
                issued.sent[quantity, horizon][seen],
                issued.state[quantity, horizon][seen],
                truth[quantity][self._watched][seen],
            )
            self._total[quantity, horizon] += np.abs(truth[quantity] - point[horizon])[ground].sum()
            if common.any():
                scale = self._scale(quantity, point)[horizon]
                weight = truth[_FLOW] + _FLOW_FLOOR_VPS if quantity == _SPEED else np.ones(len(common))
                self._compare(issued, quantity, horizon, truth[quantity], common, scale, weight)

    def _compare(
        self, issued: _Issued, quantity: int, horizon: int, truth: Floats, common: Bools, scale: Floats,
        weight_of_edge: Floats,
    ) -> None:  # fmt: skip
        """Update the producers' fading errors and the decay of deviations, where all producers had a value. An
        error of speed counts by the vehicles that met it: the speed of an almost empty edge is chance."""
        candidates = issued.candidates[quantity, :, horizon][:, common]
        wrong = np.abs(candidates - truth[common])
        self._total_by_producer[quantity, :, horizon] += wrong.sum(axis=1)
        mean = np.maximum(np.average(wrong, axis=1, weights=weight_of_edge[common]), 1e-9)
        limited = np.minimum(mean / mean[self._chain].min(), _WORST)  # a bad spell ends soon after it is over
        self._error[quantity, :, horizon] = _SHARE_MEMORY * self._error[quantity, :, horizon] + limited
        self._error_weight[quantity, horizon] = _SHARE_MEMORY * self._error_weight[quantity, horizon] + 1.0
        now = issued.deviation[quantity, common] / scale[common]
        later = (truth[common] - candidates[_PROFILE]) / scale[common]
        self._moments[:, quantity, horizon] *= _MEMORY
        self._moments[:, quantity, horizon] += 1.0, (now * later).mean(), (now * now).mean()


def _mean(said: _Candidates, shares: Floats) -> tuple[Floats, Floats]:
    """Means (2, H, E) of the producers that have a value, by their shares, and what each counts for there
    (2, P, H, E); all zero where none has one."""
    weight = shares[..., None] * said.available
    part = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    return (part * said.value).sum(axis=1), part


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


def _broken_rows(windows: Sequence[LiveWindow]) -> list[str]:
    """For each of the twelve steps what is wrong with its readings as a whole: "implausible", "silenced" or ""."""
    flow = windows[_FLOW]
    found = []
    for row in range(STEPS_IN):
        wild = [
            float((np.abs(w.deviation[row][w.known[row]]) >= FARTHEST - 0.1).mean())
            for w in windows
            if w.known[row].any()
        ]
        busy = flow.known[row] & (flow.usual[row] * STEP_S / _VPH >= _BUSY_VEH)
        silenced = busy.any() and (flow.readings[row][busy] == 0).mean() > _ZERO_SHARE
        found.append("implausible" if max(wild, default=0.0) > _WILD_SHARE else "silenced" if silenced else "")
    return found


def _defect(windows: Sequence[LiveWindow], broken: Sequence[str]) -> str:
    """What is wrong with the feeds now: "stale", "stuck", or what broke their last step; "" nothing, or nothing came
    yet."""
    heard = np.flatnonzero(windows[_FLOW].known.any(axis=1))
    if not len(heard):
        return ""
    if not windows[_FLOW].known[-1].any():
        return "stale"
    if broken[-1]:
        return broken[-1]
    whole = np.array([k >= heard[0] and not broken[k] for k in range(STEPS_IN)])
    for window in windows:
        found = feed_defect(window.deviation[whole], window.known[whole], window.readings[whole].astype(np.float32))
        if found:
            return found
    return ""
