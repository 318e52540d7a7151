"""A plain verdict on a plan, fast enough for millions: `plain_kernels` on arrays, and simple checks before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.fuzzing import plain_kernels as kernels
from benchmarks.fuzzing.plain_kernels import PlainRules
from networks.graph import Signal
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan

Finding = tuple[str, tuple[int, ...]]

_NAMES = ("letters", "conflict", "priority", "off", "intergreen", "yellow", "min green", "max green", "max red")
_PAIRS = frozenset(("conflict", "priority", "off", "intergreen"))
_KNOWN = frozenset("rRuUyYgGsoO")
_PLAIN = str.maketrans("RuUY", "rrry")  # letters that mean the same


class PlainChecker:
    """Judges plans for one signal."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        links = range(signal.link_count)
        phases = [p.state[: signal.link_count] for programme in signal.programmes for p in programme.phases]
        self._shown = [{state[k] for state in phases} for k in links]
        yellow_s = math.ceil(signal.yellow_s)
        shape = (signal.link_count, signal.link_count)
        conflict, foes, clearance_s = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape)
        longest_s = float(yellow_s)
        for i in links:
            leaving_s = yellow_s + signal.all_red_s
            if signal.pedestrian[i]:
                leaving_s = max(signal.pedestrian_clearance_s[i], yellow_s)
            for j in links:
                conflict[i, j] = signal.conflicts[i, j] or signal.conflicts[j, i]
                foes[i, j] = signal.foes[i, j] or signal.foes[j, i] or conflict[i, j]
                needed_s = max(signal.intergreen_s[i, j], yellow_s)
                if conflict[i, j]:
                    clearance_s[i, j] = math.ceil(max(needed_s, leaving_s) if signal.pedestrian[i] else needed_s)
                elif foes[i, j]:
                    clearance_s[i, j] = math.ceil(leaving_s)
                longest_s = max(longest_s, clearance_s[i, j])
        letters = self._letters(phases)
        both_open = np.zeros((*shape, 2, 2), bool)
        off_beside, may_rise = np.zeros(shape, bool), np.zeros(shape, bool)
        kernels.tabulate(letters, both_open, off_beside, may_rise)
        waits = [
            (bool(signal.pedestrian[k]) or len(signal.link_movements[k]) > 0) and bool(self._shown[k] & {"G", "g"})
            for k in links
        ]
        self.rules = PlainRules(
            conflict=conflict,
            foes=foes,
            clearance_s=clearance_s,
            phases=letters,
            both_open=both_open,
            off_beside=off_beside,
            may_rise=may_rise,
            waits=np.array(waits),
            min_green_s=np.array([float(math.ceil(m)) for m in signal.min_green_s]),
            yellow_s=float(yellow_s),
            max_red_s=float(signal.max_red_s),
            grace_s=float(max(signal.min_green_s)) + longest_s + 1.0,
        )

    def approves(
        self, plan: SignalPlan, lamps: LampRecord | None, *, now_s: float, version: int, max_green_s: float
    ) -> tuple[bool, set[Finding] | None]:
        """Whether the plan may leave, and what it breaks; None where it is no plan for this signal."""
        if is_no_plan(plan, self.signal, lamps):
            return False, None
        in_time = (
            version >= 0 and math.isfinite(now_s) and now_s < plan.valid_until_s and plan.valid_from_s >= now_s - 2
        )
        broken = self.broken_rules(plan, lamps, max_green_s=max_green_s)
        return in_time and not broken, broken

    def broken_rules(
        self, plan: SignalPlan, lamps: LampRecord | None, *, max_green_s: float = math.inf
    ) -> set[Finding]:
        """(rule, links) of everything that a well-formed plan breaks; without lamps a cycle in its steady state."""
        signal, rules = self.signal, self.rules
        strange: set[Finding] = {
            ("letters", (k,))
            for state in {step.state for step in plan.steps}
            for k, letter in enumerate(state)
            if letter in "soO" and letter not in self._shown[k]
        }
        if strange:
            return strange
        durations_s = np.array([float(step.duration_s) for step in plan.steps])
        cycle_s, start_s = float(durations_s.sum()), float(plan.valid_from_s)
        standing_s = max(rules.max_red_s, max_green_s if max_green_s < math.inf else 0.0, rules.grace_s) + 2.0
        changing_s = 3.0 * cycle_s if plan.repeats else cycle_s
        seconds = int(min(plan.valid_until_s - start_s, changing_s + standing_s))
        judged_from = 0
        if lamps is None and plan.repeats:
            judged_from = int(cycle_s)
            start_s, seconds = start_s - judged_from, seconds + judged_from
        if lamps is None:
            lamps = LampRecord.start(_state_at(plan, start_s, durations_s), start_s)
        found = np.zeros((kernels.RULES, signal.link_count, signal.link_count), bool)
        kernels.watch_plan(
            self._letters([step.state for step in plan.steps]),
            durations_s,
            start_s,
            seconds,
            bool(plan.repeats),
            float(plan.offset_s),
            rules,
            max_green_s,
            self._letters([lamps.state])[0],
            lamps.since_s.copy(),
            lamps.green_from_s.copy(),
            lamps.green_until_s.copy(),
            judged_from,
            found,
        )
        return {self._finding(*map(int, row)) for row in np.argwhere(found)} if found.any() else set()

    def _finding(self, rule: int, i: int, j: int) -> Finding:
        name = _NAMES[rule]
        if name == "intergreen" and self.signal.pedestrian[i]:
            name = "pedestrian clearance"
        return name, (i,) if _NAMES[rule] not in _PAIRS else (i, j)

    def _letters(self, states: Sequence[str]) -> np.ndarray:
        flat = bytearray("".join(states).translate(_PLAIN), "ascii")
        return np.frombuffer(flat, np.uint8).reshape(len(states), -1)


def is_no_plan(plan: SignalPlan, signal: Signal, lamps: LampRecord | None) -> bool:
    """Whether the plan is unreadable or not meant for the signal, or its lamps are."""
    if plan.signal_id != signal.id or not 1 <= len(plan.steps) <= 1000:
        return True
    if any(_is_no_step(step, signal.link_count) for step in plan.steps):
        return True
    if not all(_whole(moment_s) and abs(moment_s) < 1e12 for moment_s in (plan.valid_from_s, plan.offset_s)):
        return True
    if not plan.valid_until_s > plan.valid_from_s or (plan.valid_until_s == math.inf and not plan.repeats):
        return True
    if lamps is None:
        return False
    if len(lamps.state) != signal.link_count or not _KNOWN.issuperset(lamps.state):
        return True
    for times in (lamps.since_s, lamps.green_from_s, lamps.green_until_s):
        if len(times) != signal.link_count or np.isnan(times).any():
            return True
    return not lamps.at_s <= plan.valid_from_s


def _is_no_step(step: LampStep, links: int) -> bool:
    wrong_lamps = len(step.state) != links or not _KNOWN.issuperset(step.state)
    return wrong_lamps or not _whole(step.duration_s) or not 0 < step.duration_s < 1e9


def _whole(number: float) -> bool:
    return math.isfinite(number) and number == round(number)


def _state_at(plan: SignalPlan, time_s: float, durations_s: np.ndarray) -> str:
    into_s = (time_s - plan.offset_s) % durations_s.sum() if plan.repeats else time_s - plan.valid_from_s
    for step, seconds in zip(plan.steps, durations_s, strict=True):
        if into_s < seconds:
            return step.state
        into_s -= seconds
    return plan.steps[-1].state
