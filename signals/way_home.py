"""From any lamps back into a signal's own programme, in step with it."""

from __future__ import annotations

import math

from networks.graph import Signal
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.rules import rules_of
from signals.safety import find_change_violations
from signals.transitions import is_stage, length_s, settle


def plan_return(signal: Signal, fixed: SignalPlan, record: LampRecord, now_s: float) -> SignalPlan:
    """The lamps from now until the own programme is joined, at `valid_until_s`, inside one of its stages.

    Of the stages to come the one joined soonest is taken, if enough of it is left for a minimum green and if nothing
    closed on the way is still clearing when the programme goes on. It is shown from the end of the interstage on,
    early if need be, so that the programme goes on from it in step.
    """
    rules = rules_of(signal)
    shortest_s = float(rules.min_green_s.max(initial=0.0))
    best: tuple[bool, float, tuple[LampStep, ...], str] | None = None
    for begin_s, end_s, state in _windows(fixed, now_s, now_s + 2.0 * fixed.cycle_s):
        if not is_stage(state):
            continue
        steps = settle(signal, record, state, now_s)
        join_s = max(begin_s, now_s + length_s(steps))
        if join_s >= end_s or (best is not None and not best[0] and best[1] <= join_s):
            continue
        clashes = join_s + shortest_s > end_s or _clashes(signal, fixed, _walk(record, steps, state, now_s), join_s)
        if best is None or (clashes, join_s) < best[:2]:
            best = (clashes, join_s, steps, state)
    if best is None:  # a programme without stages, say switched off at night: joined as it is, after a full clearance
        closed = "r" * signal.link_count
        steps = (*settle(signal, record, closed, now_s), LampStep(closed, rules.shortest_wait_s))
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


def may_join(signal: Signal, fixed: SignalPlan, record: LampRecord, now_s: float) -> bool:
    """Whether the programme can simply go on from these lamps at `now_s`, as if it had run before."""
    state = fixed.state_at(now_s)
    if state != record.state and find_change_violations(signal, record, state, now_s):
        return False
    return not _clashes(signal, fixed, record.then(state, now_s), now_s)


def _walk(record: LampRecord, steps: tuple[LampStep, ...], state: str, now_s: float) -> LampRecord:
    for step in steps:
        record, now_s = record.then(step.state, now_s), now_s + step.duration_s
    return record.then(state, now_s)


def _clashes(signal: Signal, fixed: SignalPlan, record: LampRecord, join_s: float) -> bool:
    """Whether what happened on the way here makes the programme's next changes come too soon.

    A link closed on the way may still be clearing when the programme opens another, which in the programme itself it
    never meets in time. What the programme breaks by itself is left to it.
    """
    undisturbed = LampRecord.start(record.state, join_s)
    at_s = next_change_s(fixed, join_s)
    while at_s <= join_s + rules_of(signal).shortest_wait_s:
        state = fixed.state_at(at_s)
        found = {(v.rule, v.links) for v in find_change_violations(signal, record, state, at_s)}
        if found and found - {(v.rule, v.links) for v in find_change_violations(signal, undisturbed, state, at_s)}:
            return True
        record, undisturbed = record.then(state, at_s), undisturbed.then(state, at_s)
        at_s = next_change_s(fixed, at_s)
    return False


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


def next_change_s(plan: SignalPlan, after_s: float) -> float:
    """Moment after `after_s` at which the next step of the plan begins, inf when there is none."""
    begin_s = after_s - (after_s - plan.offset_s) % plan.cycle_s if plan.repeats else plan.valid_from_s
    last = len(plan.steps) - 1
    for n, step in enumerate(plan.steps):
        begin_s += step.duration_s
        if begin_s > after_s:
            return begin_s if plan.repeats or n < last else math.inf
    return math.inf
