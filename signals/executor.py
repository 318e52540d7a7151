"""The controller at the roadside: obeys approved plans, watches over them, and falls back to its own programme.

It trusts nobody. An order is refused when it does not fit the junction or cannot start from the lamps as they will
stand. A plan in force is dropped at the last second before a change that would break yellow, minimum green,
intergreen or a conflict. When the plan runs out, or when nothing has been heard for `SILENCE_S`, the signal returns
to its shipped programme through a safe interstage and is in step with it again from the stage that it joined on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from networks.graph import Signal
from networks.messages import PlanOrder
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.rules import ILLEGAL, encode, rules_of
from signals.safety import LATEST_START_S, MOST_STEPS, find_change_violations
from signals.transitions import is_stage, length_s, settle

SILENCE_S = 10.0
EARLIEST_S = 600.0  # or begin this long after

Mode = Literal["own", "plan", "return"]


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
class Fall:
    """A return to the own programme: when and why."""

    at_s: float
    reason: str


class Head:
    """One signal in the street. `step` is to be called every second with a clock that never runs back.

    `mode`: "own" programme, a "plan" of the control centre, or on the "return" from the latter to the former.
    """

    def __init__(self, signal: Signal, fixed: SignalPlan, now_s: float) -> None:
        self._signal = signal
        self._fixed = fixed
        self._plan = fixed  # whose lamps are shown now
        self._taken_s = now_s  # when it took over
        self._pending: list[_Accepted] = []  # by start, each to take over at its own valid_from_s
        self._in_force = -1
        self._heard_s = -math.inf
        self._newest = -1  # version accepted last; falling silent resets it
        self._wake_s = -math.inf  # nothing can change before
        self._record = LampRecord.start(fixed.state_at(now_s), now_s)
        self.mode: Mode = "own"
        self.falls: list[Fall] = []

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
        if now_s < self._wake_s:
            return self._record.state
        return self._wake(now_s)

    def receive(self, order: PlanOrder, now_s: float) -> Answer:
        """Take a plan over from its `valid_from`, or refuse it and keep the one in force.

        The same version once more is accepted and changes nothing: it says that the control centre is alive.
        """
        if order.junction != self._signal.id:
            return Answer(False, "unknown junction", order.junction)
        self._heard_s = now_s
        self._wake_s = -math.inf
        if order.plan_version == self._newest:
            lives = order.plan_version in (self._in_force, *(a.version for a in self._pending))
            return Answer(True, "", "known") if lives else Answer(False, "dropped", str(self.falls[-1:]))
        refusal = self._defect(order, now_s)
        if refusal is not None:
            return refusal
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
        self._pending = [*earlier, _Accepted(plan, order.plan_version)]
        self._newest = order.plan_version
        return Answer(True, "")

    def _defect(self, order: PlanOrder, now_s: float) -> Answer | None:
        states = [s.state for s in order.steps]
        if not 0 < len(states) <= MOST_STEPS or any(len(s) != self._signal.link_count for s in states):
            return Answer(False, "length", f"{len(states)} steps for {self._signal.link_count} links")
        if encode(states).max(initial=0) >= ILLEGAL:
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
        record, plan, mode = self._record, self._plan, self.mode
        waiting = list(pending)
        time_s = max(record.at_s, self._taken_s)
        while True:
            handover_s = max(time_s, waiting[0].plan.valid_from_s) if waiting else math.inf
            end_s = math.inf if mode == "own" else plan.valid_until_s
            event_s = min(_next_change_s(plan, time_s), end_s, handover_s)
            if event_s >= until_s:
                return record
            if handover_s <= event_s:
                plan, mode = waiting.pop(0).plan, "plan"
            elif end_s <= event_s:
                back = mode == "return"
                plan = self._fixed if back else plan_return(self._signal, self._fixed, record, event_s)
                mode = "own" if back else "return"
            record = record.then(plan.state_at(event_s), event_s)
            time_s = event_s

    def _wake(self, now_s: float) -> str:
        while self._pending and now_s >= self._pending[0].plan.valid_from_s:
            accepted = self._pending.pop(0)
            self._plan, self._in_force, self.mode, self._taken_s = accepted.plan, accepted.version, "plan", now_s
        if self.mode == "plan":
            if now_s >= self._heard_s + SILENCE_S:
                self._newest = -1  # whoever speaks next may count anew
                self._pending.clear()
                self._fall(now_s, "silence")
            elif now_s >= self._plan.valid_until_s:
                self._fall(now_s, "plan ran out")
        elif self.mode == "return" and now_s >= self._plan.valid_until_s:
            self._plan, self.mode, self._taken_s = self._fixed, "own", now_s
        state = self._plan.state_at(now_s)
        if state != self._record.state:
            if self.mode == "plan":
                broken = find_change_violations(self._signal, self._record, state, now_s)
                if broken:
                    self._pending.clear()
                    self._fall(now_s, f"monitor: {broken[0]}")
                    state = self._plan.state_at(now_s)
            if state != self._record.state:
                self._record = self._record.then(state, now_s)
        self._wake_s = self._next_event_s(now_s)
        return state

    def _next_event_s(self, now_s: float) -> float:
        event_s = _next_change_s(self._plan, now_s)
        if self.mode != "own":
            event_s = min(event_s, self._plan.valid_until_s)
        if self.mode == "plan":
            event_s = min(event_s, self._heard_s + SILENCE_S)
        if self._pending:
            event_s = min(event_s, self._pending[0].plan.valid_from_s)
        return event_s

    def _fall(self, now_s: float, reason: str) -> None:
        """Begin the return: the way to that stage of the own programme which can be joined soonest."""
        self.falls.append(Fall(now_s, reason))
        self._in_force, self.mode, self._taken_s = -1, "return", now_s
        self._plan = plan_return(self._signal, self._fixed, self._record, now_s)


def plan_return(signal: Signal, fixed: SignalPlan, record: LampRecord, now_s: float) -> SignalPlan:
    """The lamps from now until the own programme is joined, at `valid_until_s`, inside one of its stages.

    Of the stages to come the one joined soonest is taken, if enough of it is left for a minimum green; it is shown
    from the end of the interstage on, early if need be, so that the programme goes on from it in step.
    """
    shortest_s = float(rules_of(signal).min_green_s.max(initial=0.0))
    best: tuple[bool, float, tuple[LampStep, ...], str] | None = None
    for begin_s, end_s, state in _windows(fixed, now_s, now_s + 2.0 * fixed.cycle_s):
        if not is_stage(state):
            continue
        steps = settle(signal, record, state, now_s)
        arrival_s = now_s + length_s(steps)
        join_s = max(begin_s, arrival_s)
        candidate = (join_s + shortest_s > end_s, join_s, steps, state)
        if join_s < end_s and (best is None or candidate[:2] < best[:2]):
            best = candidate
    if best is None:  # a programme without stages, say switched off at night: joined as it is, after a full clearance
        closed = "r" * signal.link_count
        steps = (*settle(signal, record, closed, now_s), LampStep(closed, rules_of(signal).shortest_wait_s))
        join_s = now_s + math.ceil(length_s(steps))
    else:
        _, join_s, steps, state = best
        rest_s = join_s - now_s - length_s(steps)
        steps = (*steps, LampStep(state, max(rest_s, 1.0)))
    return SignalPlan(
        signal=fixed.signal,
        signal_id=signal.id,
        steps=steps,
        valid_from_s=now_s,
        valid_until_s=join_s if join_s > now_s else now_s + 1.0,
        source="return",
    )


def _windows(fixed: SignalPlan, from_s: float, until_s: float) -> list[tuple[float, float, str]]:
    """(begin, end, state) of the programme's steps between two moments, the running one first."""
    begin_s = from_s - (from_s - fixed.offset_s) % fixed.cycle_s
    windows: list[tuple[float, float, str]] = []
    while begin_s < until_s:
        for step in fixed.steps:
            end_s = begin_s + step.duration_s
            if end_s > from_s:
                windows.append((begin_s, end_s, step.state))
            begin_s = end_s
    return windows


def _next_change_s(plan: SignalPlan, after_s: float) -> float:
    """Moment after `after_s` at which the next step of the plan begins, inf when there is none."""
    begin_s = after_s - (after_s - plan.offset_s) % plan.cycle_s if plan.repeats else plan.valid_from_s
    last = len(plan.steps) - 1
    for n, step in enumerate(plan.steps):
        begin_s += step.duration_s
        if begin_s > after_s:
            return begin_s if plan.repeats or n < last else math.inf
    return math.inf
