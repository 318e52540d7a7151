"""The loop: feeds → fused state → twin → forecast → plans and guidance → published, every cycle.

`run_cycle` is that sentence. Every stage runs within a deadline and has a declared fallback; one that fails is named
in the cycle's report and the rest goes on. A signal that no approved plan reaches goes back to its own programme by
itself, so no failure here can leave a city without signals.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from forecasting.serve import Forecaster
from forecasting.windows import HistoryBuffer
from networks.batches import Batches
from networks.graph import Network
from networks.messages import GuidanceOrder
from networks.state import Forecast, NetworkState
from scenarios.announced import Announced
from scenarios.outlook import Outlook
from signals.arbiter import Decision, decide
from signals.closures import Closures
from signals.controllers.base import Controller
from signals.guidance import RouteGuide, to_order
from signals.lamps import LampRecord
from signals.loop_calls import LoopCalls
from signals.plan import Proposal
from twin.ahead import Ahead
from twin.crossing_sight import CrossingSight
from twin.cycle_record import CycleRecord
from twin.feeds.receipts import Receipt
from twin.fusion import Fusion
from twin.inbox import Inbox
from twin.lamp_tracker import LampTracker
from twin.mirror import Mirror
from twin.publisher import Publisher
from twin.stage import Outcome, Stage
from twin.store import Store

T = TypeVar("T")

LEAD_S = 1.0  # a plan takes over so long after the cycle that made it
FIRST_CYCLES, FIRST_GRACE = 3, 60.0  # kernels compile on first use
MAX_UNSTORED = 60  # cycles kept for a store that is slow; then the oldest are given up

FALLBACKS = {
    "fuse": "last state, older",
    "mirror": "state without mirror",
    "outlook": "forecasts without what was announced since",
    "forecast": "last forecast",
    "control": "next controller, in the end each signal's own programme",
    "decide": "no plan leaves",
    "guide": "no new advice",
    "publish": "controllers keep their plans, then their own programme",
    "store": "kept and stored with a later cycle",
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the slower stages run, and how long each may take, wall seconds."""

    cycle_s: float = 5.0
    forecast_every_s: float = 60.0
    forecast_lead_s: float = 5.0  # from the order of a forecast to its handing over; the cycles between do not wait
    outlook_lead_s: float = 60.0  # the same for what announced closures and rain will change
    guide_every_s: float = 15.0
    deadline_s: float = 4.0
    heard_after_s: float = 0.0  # a cycle also takes what is received so long after its moment


@dataclass
class City:
    """Everything one live loop is made of; `twin.app.build_city` puts it together."""

    network: Network
    inbox: Inbox
    fusion: Fusion
    mirror: Mirror | None
    history: HistoryBuffer
    forecaster: Forecaster
    crossings: CrossingSight
    loop_calls: LoopCalls | None  # None: empty lanes are opened by the clock all the same
    controllers: Sequence[Controller]  # in order: the first that answers wins
    ahead: Ahead | None
    guide: RouteGuide | None
    closures: Closures
    lamps: LampTracker
    publisher: Publisher
    store: Store | None
    pace: Pace = field(default_factory=Pace)
    stages: dict[str, Stage[object]] = field(default_factory=dict)
    cycle: int = 0
    next_version: int = 0
    state: NetworkState | None = None
    forecast: Forecast | None = None
    forecast_ordered_s: float = float("-inf")
    outlook: Outlook | None = None
    outlook_ordered_s: float = float("-inf")
    guided_s: float = float("-inf")
    shadow: bool = False  # plans and advice are worked out, shown and stored, and do not leave
    unstored: deque[CycleRecord] = field(default_factory=lambda: deque(maxlen=MAX_UNSTORED))

    def __post_init__(self) -> None:
        self.stages = {name: Stage(name, self.pace.deadline_s, text) for name, text in FALLBACKS.items()}

    def tend(self) -> list[str]:
        """Bring the mirror back if it died; what there is to say about it."""
        notes = []
        if self.mirror is not None and not self.mirror.alive:
            notes.append(f"mirror restarted: {self.mirror.failure or 'its process ended'}")
            self.mirror.restart()
        if self.mirror is not None and (complaint := self.mirror.take_complaint()):
            notes.append(complaint)
        return notes

    def settle(self) -> None:
        """Wait for what is still being worked out beside the cycles, as long as its deadline allows."""
        for name in ("outlook", "forecast"):
            if self.stages[name].begun:
                self.stages[name].collect(lambda: None)

    def close(self) -> None:
        """End the mirror; write what is not stored yet and close the store."""
        if self.mirror is not None:
            self.mirror.close()
        if self.store is not None:
            try:
                _store(self)
            finally:
                self.store.close()


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What one cycle did, for the page, the store and whoever asks why."""

    cycle: int
    now_s: float
    ms: float  # wall time of the whole cycle
    outcomes: tuple[Outcome, ...]
    state: NetworkState | None
    forecast: Forecast | None
    decision: Decision
    guidance_given: int
    receipts: tuple[Receipt, ...]
    silent_feeds: tuple[str, ...]
    notes: tuple[str, ...]  # processes restarted and the like
    forecast_notes: tuple[str, ...]  # models refused, changes of the lead, feeds that are not believed

    @property
    def failures(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.error)


class _Steps:
    """Runs the stages of one cycle and collects how they went."""

    def __init__(self, city: City) -> None:
        self._city = city
        self._grace = FIRST_GRACE if city.cycle < FIRST_CYCLES else 1.0
        self.outcomes: list[Outcome] = []

    def run(self, stage: str, work: Callable[[], T], instead: Callable[[], T]) -> T:
        self._city.stages[stage].begin(work)
        return self.collect(stage, instead)

    def collect(self, stage: str, instead: Callable[[], T]) -> T:
        """The value of work that an earlier cycle began."""
        value, outcome = self._city.stages[stage].collect(instead, grace=self._grace)
        self.outcomes.append(outcome)
        return value  # type: ignore[return-value]


def run_cycle(city: City, now_s: float, notes: Sequence[str] = ()) -> CycleReport:
    """Run one control cycle on everything received by `now_s`. Never raises for a failing stage."""
    begun = time.perf_counter()
    steps = _Steps(city)
    heard_s = now_s + city.pace.heard_after_s
    batches = city.inbox.take(heard_s)
    receipts = city.inbox.take_receipts(heard_s)
    _note_answers(city, batches, receipts, now_s)
    estimate = city.mirror.latest() if city.mirror is not None else None
    state = steps.run("fuse", lambda: city.fusion.update(batches, now_s, estimate), lambda: city.state)
    city.state = state
    forecast = city.forecast
    decision = Decision((), (), ())
    proposals: Sequence[Proposal] = ()
    lamps: list[LampRecord | None] = []
    given = 0
    if state is not None:
        steps.run("mirror", lambda: _assimilate(city, state), lambda: None)
        if state.now_s == now_s:
            city.history.append(state)
        city.outlook = _foresee(city, steps, now_s)
        city.forecast = forecast = _predict(city, steps, now_s)
        valid_from_s = now_s + LEAD_S
        lamps = city.lamps.foresee(valid_from_s)
        proposals = _propose(city, steps, state, forecast, lamps, valid_from_s)
        decision = steps.run("decide", lambda: _decide(city, proposals, lamps, now_s), lambda: Decision((), (), ()))
        advice = steps.run("guide", lambda: _advise(city, state, forecast, now_s), lambda: None)
        given = len(advice.routes) if advice is not None else 0
        steps.run("publish", lambda: _publish(city, decision, advice), lambda: None)
    silent = city.inbox.silent_feeds(now_s)
    report = CycleReport(
        cycle=city.cycle,
        now_s=now_s,
        ms=(time.perf_counter() - begun) * 1e3,
        outcomes=tuple(steps.outcomes),
        state=state,
        forecast=forecast,
        decision=decision,
        guidance_given=given,
        receipts=tuple(receipts),
        silent_feeds=silent,
        notes=tuple(notes),
        forecast_notes=tuple(city.forecaster.take_notes()),
    )
    if city.store is not None:
        city.unstored.append(_record(city, report, batches, proposals, lamps))
        steps.run("store", lambda: _store(city), lambda: None)
        ms = (time.perf_counter() - begun) * 1e3
        report = replace(report, outcomes=tuple(steps.outcomes), ms=ms)
    city.cycle += 1
    return report


def _note_answers(city: City, batches: Batches, receipts: Sequence[Receipt], now_s: float) -> None:
    for receipt in receipts:
        if not receipt.accepted:
            city.lamps.note_refused(receipt.signal, receipt.plan_version)
    city.lamps.note_reports(batches.signals)
    city.crossings.hear(batches.tracks, now_s)
    city.lamps.note_unwanted(city.crossings.unwanted(), now_s)
    if city.loop_calls is not None:
        city.lamps.note_calls(city.loop_calls, batches, city.fusion.distrusted, now_s)
    city.closures.note(batches.notices)
    if city.ahead is not None:
        city.ahead.note(batches)


def _assimilate(city: City, state: NetworkState) -> None:
    if city.mirror is not None:
        city.mirror.assimilate(state, city.closures.known)


def _foresee(city: City, steps: _Steps, now_s: float) -> Outlook | None:
    """What announced closures and rain will change, worked out beside the cycles whenever there is news of them."""
    stage, ahead = city.stages["outlook"], city.ahead
    if ahead is None:
        return None
    late = stage.take_late()
    if isinstance(late, Outlook):
        return late
    if not stage.begun and not stage.busy:
        announced = ahead.announced(now_s)
        if announced == (city.outlook.announced if city.outlook is not None else Announced()):
            return city.outlook
        stage.begin(lambda: ahead.foresee(announced))
        city.outlook_ordered_s = now_s
    elif stage.begun and now_s - city.outlook_ordered_s >= city.pace.outlook_lead_s:
        return steps.collect("outlook", lambda: city.outlook)
    return city.outlook


def _predict(city: City, steps: _Steps, now_s: float) -> Forecast | None:
    """The forecast in force. A new one is made beside the cycles and handed over a fixed time after its order: no
    cycle waits for it and equal days run alike; only the first is waited for."""
    stage, pace = city.stages["forecast"], city.pace
    if not stage.begun and now_s - city.forecast_ordered_s >= pace.forecast_every_s:
        history, outlook = city.history.until(now_s), city.outlook
        change = outlook.change if outlook is not None else None
        if stage.begin(lambda: city.forecaster.predict(history, now_s, change)):
            city.forecast_ordered_s = now_s
    due = city.forecast is None or now_s - city.forecast_ordered_s >= pace.forecast_lead_s
    if stage.busy or (stage.begun and due):
        return steps.collect("forecast", lambda: city.forecast)
    steps.outcomes.append(Outcome(stage.name, 0.0))
    return city.forecast


def _propose(
    city: City,
    steps: _Steps,
    state: NetworkState,
    forecast: Forecast | None,
    lamps: list[LampRecord | None],
    valid_from_s: float,
) -> Sequence[Proposal]:
    """The first controller that answers; each failure is on record."""
    for controller in city.controllers:
        before = len(steps.outcomes)
        proposals: Sequence[Proposal] = steps.run(
            "control",
            lambda controller=controller: controller.propose(state, forecast, lamps, valid_from_s=valid_from_s),  # type: ignore[misc]
            lambda: (),
        )
        if not steps.outcomes[before].error:
            return proposals
    return ()


def _decide(city: City, proposals: Sequence[Proposal], lamps: Sequence[LampRecord | None], now_s: float) -> Decision:
    decision = decide(proposals, city.network.signals, lamps, now_s=now_s, first_version=city.next_version)
    city.next_version += len(decision.approved)
    return decision


def _advise(city: City, state: NetworkState, forecast: Forecast | None, now_s: float) -> GuidanceOrder | None:
    if city.guide is None or now_s - city.guided_s < city.pace.guide_every_s:
        return None
    city.guided_s = now_s
    advice = city.guide.advise(state, forecast, now_s, closed=city.closures.closed(now_s))
    return to_order(advice, city.network)


def _publish(city: City, decision: Decision, advice: GuidanceOrder | None) -> None:
    if city.shadow:
        return
    city.publisher.publish(decision.approved, advice)
    city.lamps.note_sent(decision.approved)


def _store(city: City) -> None:
    """Append what no earlier cycle got stored. A record that the store cannot take is given up."""
    while city.store is not None:
        try:
            record = city.unstored.popleft()
        except IndexError:  # an earlier cycle's late stage took the last one
            return
        city.store.append_cycle(record)


def _record(
    city: City,
    report: CycleReport,
    batches: Batches,
    proposals: Sequence[Proposal],
    lamps: Sequence[LampRecord | None],
) -> CycleRecord:
    return CycleRecord(
        now_s=report.now_s,
        batches=batches,
        state=report.state,
        forecast=report.forecast,
        proposals=proposals,
        lamps=lamps,
        approved=report.decision.approved,
        refused=report.decision.refused,
        receipts=report.receipts,
        quarantined=city.inbox.quarantine.drain(),
        report={
            "ms": round(report.ms, 3),
            "stages": [o._asdict() for o in report.outcomes],
            "silent_feeds": list(report.silent_feeds),
            "unhealthy": list(report.state.unhealthy) if report.state is not None else [],
            "notes": list(report.notes),
            "forecast_notes": list(report.forecast_notes),
            "guidance_given": report.guidance_given,
        },
    )
