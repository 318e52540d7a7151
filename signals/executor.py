"""The controller at the roadside: obeys approved plans, watches over them, and falls back to its own programme.

It trusts nobody. An order is refused when it does not fit the junction or cannot start from the lamps as they will
stand. A plan in force is dropped at the last second before a change that would break yellow, minimum green,
intergreen or a conflict. When the plan runs out, or when nothing has been heard for `SILENCE_S`, the signal returns
to its shipped programme through a safe interstage and is in step with it again from the stage that it joined on.
Where a timetable puts another programme in force, it goes on in that one if it safely can, and else returns to it.

What else may go wrong has a declared answer:

- power on: yellow flash, all red, then the own programme (`StartUp`)
- the clock jumps, or stands still and goes on: ages of lamps are not trusted any more, everything is taken to have
  begun or ended just now, and the way home starts from there
- the clock says nothing: seconds are counted from call to call
- the record of the lamps is damaged: as when the clock jumps
- the lamps in the street are not those ordered, or anything else is called a failure: flash until `recover`
- a link that is served waits much longer than the maximum red under plans: home, and no plan until it is served
- too many plans, or plans that change their mind too often: refused
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from networks.graph import Bools, Signal
from networks.messages import PlanOrder
from signals import safety_kernels as kernels
from signals.fixed import OwnProgrammes, flash_state
from signals.lamps import LampRecord
from signals.pace import Pace
from signals.plan import LampStep, SignalPlan
from signals.rules import ILLEGAL, encode, encode_letters, rules_of
from signals.safety import LATEST_START_S, MOST_STEPS, find_change_violations
from signals.transitions import is_stage, length_s, settle
from signals.way_home import may_join, next_change_s, plan_return

SILENCE_S = 10.0
EARLIEST_S = 600.0  # or begin this long after
LONGEST_TICK_S = 1.5  # between two calls of `step`; more, or less than nothing, is a clock that jumped
PLANS_PER_S, PLANS_AT_ONCE = 2.0, 10.0  # new plans taken over
INTENTS_PER_S, INTENTS_AT_ONCE = 1.0, 10.0  # of these, plans that lead to another stage than the one before

Mode = Literal["own", "plan", "return", "start", "failed"]


@dataclass(frozen=True, slots=True)
class StartUp:
    """What a controller shows when its power comes on: at least 10 s of yellow flash, then 5 s of red (GB 25280)."""

    flash_s: float = 10.0
    all_red_s: float = 5.0  # longer where clearing takes longer


@dataclass(frozen=True, slots=True)
class Answer:
    """What the controller says to an order; `reason` is a stable key, empty when accepted."""

    accepted: bool
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Accepted:
    plan: SignalPlan
    version: int


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A failure that the next step has to answer."""

    reason: str
    at_once: bool


@dataclass(frozen=True, slots=True)
class Fall:
    """A return to the own programme, or a failure: when and why."""

    at_s: float
    reason: str


class Head:
    """One signal in the street. `step` is to be called every second.

    `mode`: "own" programme, a "plan" of the control centre, on the "return" from the latter to the former, in the
    "start"-up sequence, or "failed".
    """

    def __init__(self, signal: Signal, own: OwnProgrammes, now_s: float, *, start_up: StartUp | None = None) -> None:
        """`start_up`: the power has just come on. None: it was on, and the own programme is running."""
        self._signal = signal
        self._own = own
        self._fixed = fixed = own.at(now_s)  # of the own programmes the one in force
        self._fixed_until_s = own.next_change_s(now_s)
        self._start_up = start_up or StartUp()
        self._plan = fixed  # whose lamps are shown now
        self._taken_s = now_s  # when it took over
        self._pending: list[_Accepted] = []  # by start, each to take over at its own valid_from_s
        self._in_force = -1
        self._heard_s = -math.inf
        self._newest = -1  # version accepted last; falling silent resets it
        self._wake_s = -math.inf  # nothing can change before
        self._clock_s = now_s  # of the latest step
        self._plans = Pace(PLANS_PER_S, PLANS_AT_ONCE)
        self._intents = Pace(INTENTS_PER_S, INTENTS_AT_ONCE)
        self._intent = ""  # stage that the newest plan leads to
        self._verdict: _Verdict | None = None
        self._mended = False
        self._record = LampRecord.start(fixed.state_at(now_s), now_s)
        self.mode: Mode = "own"
        self.falls: list[Fall] = []
        if start_up is not None:
            self._record = LampRecord.doubtful(flash_state(signal), now_s)
            self._begin_start(now_s)

    @property
    def plan_version(self) -> int:
        """Version of the plan in force, -1 while the own programme or the return to it runs."""
        return self._in_force

    @property
    def record(self) -> LampRecord:
        """The lamps as last shown; `at_s` is the moment of their last change."""
        return self._record

    @property
    def lamps(self) -> str:
        return self._record.state

    def step(self, now_s: float) -> str:
        """The lamps to show from now on."""
        if not math.isfinite(now_s):
            now_s = self._clock_s + 1.0
        if not 0.0 <= now_s - self._clock_s <= LONGEST_TICK_S:
            self._mistrust(now_s, f"clock jumped by {now_s - self._clock_s:.0f} s")
        self._clock_s = now_s
        if now_s < self._wake_s:
            return self._record.state
        return self._wake(now_s)

    def vouch(self, unwanted: Bools, now_s: float) -> None:
        """Detectors of its own see nobody at some links (K,): the watch over long reds counts from now."""
        if 0.0 <= now_s - self._clock_s <= LONGEST_TICK_S and len(unwanted) == len(self._record.state):
            self._record = self._record.vouched(unwanted, now_s)
            self._wake_s = -math.inf

    def fail(self, reason: str, *, at_once: bool = False) -> None:
        """Something is broken: from the next step on go to yellow flash, and stay there until `recover`.

        `at_once`: the lamps cannot be relied upon, so there is no point in closing greens in order.
        """
        self._verdict = _Verdict(reason, at_once)
        self._wake_s = -math.inf

    def recover(self) -> None:
        """Whatever was broken is mended: from the next step on start as after power on."""
        self._verdict = None
        self._mended = self.mode == "failed"
        self._wake_s = -math.inf

    def check_lamps(self, measured: str) -> None:
        """What the lamps' own currents say is lit. Anything but what was ordered is a failure."""
        if self.mode != "failed" and measured != self._record.state:
            self.fail(f"lamps show {measured}, not {self._record.state}", at_once=True)

    def receive(self, order: PlanOrder, now_s: float) -> Answer:
        """Take a plan over from its `valid_from`, or refuse it and keep the one in force.

        The same version once more is accepted and changes nothing: it says that the control centre is alive.
        """
        if order.junction != self._signal.id:
            return Answer(False, "unknown junction", order.junction)
        if not 0.0 <= now_s - self._clock_s <= LONGEST_TICK_S:
            return Answer(False, "clock", f"{now_s} after {self._clock_s}")
        self._heard_s = now_s
        self._wake_s = -math.inf
        if order.plan_version == self._newest:
            lives = order.plan_version in (self._in_force, *(a.version for a in self._pending))
            return Answer(True, "", "known") if lives else Answer(False, "dropped", str(self.falls[-1:]))
        if self.mode in ("start", "failed") or self._verdict is not None:
            return Answer(False, self.mode if self._verdict is None else "failed")
        refusal = self._defect(order, now_s)
        if refusal is not None:
            return refusal
        if not self._plans.take(now_s):
            return Answer(False, "rate", f"more than {PLANS_PER_S:g} plans a second")
        plan = SignalPlan(
            signal=self._fixed.signal,
            signal_id=self._signal.id,
            steps=tuple(LampStep(s.state, s.duration_s) for s in order.steps),
            valid_from_s=order.valid_from,
            valid_until_s=order.valid_until,
            repeats=order.repeats,
            offset_s=order.valid_from,
            source="order",
        )
        start_s = max(order.valid_from, now_s)
        earlier = [a for a in self._pending if a.plan.valid_from_s < plan.valid_from_s]
        record = self._foresee(earlier, start_s)
        broken = find_change_violations(self._signal, record, plan.state_at(start_s), start_s)
        if broken:
            return Answer(False, "start", str(broken[0]))
        if start_s >= self._starved_s(record):
            return Answer(False, "max red", "a link has to be served first")
        intent = next((s.state for s in plan.steps if s.state != record.state and is_stage(s.state)), record.state)
        if intent != self._intent and not self._intents.take(now_s):
            return Answer(False, "rate", f"more than {INTENTS_PER_S:g} changes of intent a second")
        self._intent = intent
        self._pending = [*earlier, _Accepted(plan, order.plan_version)]
        self._newest = order.plan_version
        return Answer(True, "")

    def _defect(self, order: PlanOrder, now_s: float) -> Answer | None:
        states = [s.state for s in order.steps]
        if not 0 < len(states) <= MOST_STEPS or any(len(s) != self._signal.link_count for s in states):
            return Answer(False, "length", f"{len(states)} steps for {self._signal.link_count} links")
        if ILLEGAL in encode_letters("".join(states)):
            return Answer(False, "letters")
        numbers_s = [order.valid_from, *(s.duration_s for s in order.steps)]
        if not all(math.isfinite(n) and n == int(n) for n in numbers_s):
            return Answer(False, "times", "not whole seconds")
        if order.valid_until <= max(order.valid_from, now_s):
            return Answer(False, "times", f"valid until {order.valid_until}")
        if order.valid_from < now_s - LATEST_START_S:
            return Answer(False, "late", f"valid from {order.valid_from} at {now_s}")
        if order.valid_from > now_s + EARLIEST_S:
            return Answer(False, "early", f"valid from {order.valid_from} at {now_s}")
        if order.plan_version < self._newest:
            return Answer(False, "stale", f"version {order.plan_version} after {self._newest}")
        return None

    def _foresee(self, pending: Sequence[_Accepted], until_s: float) -> LampRecord:
        """The record just before `until_s` if nothing else is ordered and the street stays in touch."""
        record, plan, mode, fixed, fixed_until_s = (
            self._record, self._plan, self.mode, self._fixed, self._fixed_until_s,
        )  # fmt: skip
        waiting = list(pending)
        time_s = max(record.at_s, self._taken_s)
        while True:
            handover_s = max(time_s, waiting[0].plan.valid_from_s) if waiting else math.inf
            end_s = math.inf if mode == "own" else plan.valid_until_s
            event_s = min(next_change_s(plan, time_s), end_s, handover_s, max(time_s, fixed_until_s))
            if event_s >= until_s:
                return record
            if fixed_until_s <= event_s:
                fixed, fixed_until_s = self._own.at(event_s), self._own.next_change_s(event_s)
                if handover_s > event_s and mode in ("own", "return"):
                    plan, mode = self._towards(fixed, record, mode, event_s)
            if handover_s <= event_s:
                plan, mode = waiting.pop(0).plan, "plan"
            elif end_s <= event_s:
                back = mode == "return"
                plan = fixed if back else plan_return(self._signal, fixed, record, event_s)
                mode = "own" if back else "return"
            record = record.then(plan.state_at(event_s), event_s)
            time_s = event_s

    def _wake(self, now_s: float) -> str:
        seen = self._record
        if not kernels.is_past(seen.since_s, seen.green_from_s, seen.green_until_s, now_s):
            self._mistrust(now_s, "record of the lamps is damaged")
        if self._verdict is not None:
            verdict, self._verdict = self._verdict, None
            self._begin_failure(now_s, verdict)
        if self._mended:
            self._mended = False
            self._begin_start(now_s)
        while self._pending and now_s >= self._pending[0].plan.valid_from_s:
            accepted = self._pending.pop(0)
            self._follow(accepted.plan, "plan", now_s)
            self._in_force = accepted.version
        if now_s >= self._fixed_until_s:
            self._look_at_timetable(now_s)
            if self.mode in ("own", "return"):
                self._follow(*self._towards(self._fixed, self._record, self.mode, now_s), now_s)
        if self.mode == "plan":
            if now_s >= self._heard_s + SILENCE_S:
                self._newest = -1  # whoever speaks next may count anew
                self._fall(now_s, "silence")
            elif now_s >= self._plan.valid_until_s:
                self._go_home(now_s, "plan ran out")
            elif now_s >= self._starved_s(self._record):
                self._fall(now_s, "max red")
        elif self.mode == "start" and now_s >= self._plan.valid_until_s:
            self._follow(plan_return(self._signal, self._fixed, self._record, now_s), "return", now_s)
        elif self.mode == "return" and now_s >= self._plan.valid_until_s:
            self._follow(self._fixed, "own", now_s)
        state = self._plan.state_at(now_s)
        if state != self._record.state:
            if self.mode == "plan":
                broken = find_change_violations(self._signal, self._record, state, now_s)
                if broken:
                    self._fall(now_s, f"monitor: {broken[0]}")
                    state = self._plan.state_at(now_s)
            if state != self._record.state:
                self._record = self._record.then(state, now_s)
        self._wake_s = self._next_event_s(now_s)
        return state

    def _look_at_timetable(self, now_s: float) -> None:
        self._fixed, self._fixed_until_s = self._own.at(now_s), self._own.next_change_s(now_s)

    def _towards(self, fixed: SignalPlan, record: LampRecord, mode: Mode, now_s: float) -> tuple[SignalPlan, Mode]:
        """How to go on when this own programme comes into force, while the one before runs or is returned to."""
        if mode == "own" and may_join(self._signal, fixed, record, now_s):
            return fixed, "own"
        return plan_return(self._signal, fixed, record, now_s), "return"

    def _next_event_s(self, now_s: float) -> float:
        event_s = min(next_change_s(self._plan, now_s), self._fixed_until_s)
        if self.mode != "own":
            event_s = min(event_s, self._plan.valid_until_s)
        if self.mode == "plan":
            event_s = min(event_s, self._heard_s + SILENCE_S, self._starved_s(self._record))
        if self._pending:
            event_s = min(event_s, self._pending[0].plan.valid_from_s)
        return event_s

    def _starved_s(self, record: LampRecord) -> float:
        """When some link that is served has been red for so long that no sound plan can have wanted it."""
        rules = rules_of(self._signal)
        since_s = kernels.longest_red_since(encode([record.state])[0], rules.served, record.since_s)
        return since_s + rules.max_red_s + rules.shortest_wait_s

    def _follow(self, plan: SignalPlan, mode: Mode, now_s: float) -> None:
        self._plan, self.mode, self._taken_s = plan, mode, now_s
        self._in_force = -1
        self._wake_s = -math.inf

    def _forget_plans(self) -> None:
        self._pending.clear()
        self._intent = ""

    def _begin_failure(self, now_s: float, verdict: _Verdict) -> None:
        self.falls.append(Fall(now_s, verdict.reason))
        self._forget_plans()
        flash = flash_state(self._signal)
        way = () if verdict.at_once else settle(self._signal, self._record, flash, now_s)
        self._follow(_once(self._fixed, (*way, LampStep(flash, 1.0)), now_s, math.inf), "failed", now_s)

    def _begin_start(self, now_s: float) -> None:
        self._forget_plans()
        flash, closed = flash_state(self._signal), "r" * self._signal.link_count
        all_red_s = max(self._start_up.all_red_s, math.ceil(rules_of(self._signal).clear_s.max(initial=0.0)))
        way = settle(self._signal, self._record, flash, now_s)
        steps = (*way, LampStep(flash, self._start_up.flash_s), LampStep(closed, all_red_s))
        self._follow(_once(self._fixed, steps, now_s, now_s + length_s(steps)), "start", now_s)

    def _mistrust(self, now_s: float, reason: str) -> None:
        """No age can be relied on: everything may have begun or ended just now."""
        self._look_at_timetable(now_s)
        state, seen_s = self._record.state, self._record.since_s
        record = LampRecord.doubtful(state, now_s)
        if len(seen_s) == len(state):  # but whoever waits at red has waited as long as was counted so far
            waited_s = np.where([c in "rRuU" for c in state], self._clock_s - seen_s, 0.0)
            waited_s = np.where(np.isfinite(waited_s), np.maximum(waited_s, 0.0), 0.0)
            record = replace(record, since_s=now_s - waited_s)
        self._record = record
        self._heard_s = min(self._heard_s, now_s)
        if len(state) != self._signal.link_count or ILLEGAL in encode_letters(state):
            self._record = LampRecord.doubtful(flash_state(self._signal), now_s)
            self._begin_failure(now_s, _Verdict(reason, at_once=True))
        elif self.mode == "failed":
            self._begin_failure(now_s, _Verdict(reason, at_once=False))
        elif self.mode == "start":
            self._begin_start(now_s)
        else:
            self._fall(now_s, reason)

    def _fall(self, now_s: float, reason: str) -> None:
        """Home, whatever else was ordered."""
        self._forget_plans()
        self._go_home(now_s, reason)

    def _go_home(self, now_s: float, reason: str) -> None:
        """Begin the return: the way to that stage of the own programme which can be joined soonest."""
        self.falls.append(Fall(now_s, reason))
        self._follow(plan_return(self._signal, self._fixed, self._record, now_s), "return", now_s)


def _once(fixed: SignalPlan, steps: tuple[LampStep, ...], from_s: float, until_s: float) -> SignalPlan:
    return SignalPlan(fixed.signal, fixed.signal_id, steps, from_s, until_s)
