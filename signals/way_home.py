"""From any lamps back into a signal's own programme, in step with it; and the lamps of a signal out of order."""

from __future__ import annotations

import math

from networks.graph import Signal
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.rules import rules_of
from signals.transitions import is_stage, length_s, settle


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


def next_change_s(plan: SignalPlan, after_s: float) -> float:
    """Moment after `after_s` at which the next step of the plan begins, inf when there is none."""
    begin_s = after_s - (after_s - plan.offset_s) % plan.cycle_s if plan.repeats else plan.valid_from_s
    last = len(plan.steps) - 1
    for n, step in enumerate(plan.steps):
        begin_s += step.duration_s
        if begin_s > after_s:
            return begin_s if plan.repeats or n < last else math.inf
    return math.inf


def flash_state(signal: Signal) -> str:
    """Yellow flash for vehicles, dark for people on foot."""
    return "".join("O" if walkers else "o" for walkers in signal.pedestrian)
