"""What the retimer changes at one signal, and the proven plan that follows from it.

A timing is an ordered list of stages with whole seconds of green and an offset. What lies between two stages is not
a matter of choice: `signals.transitions` spells it out, and `signals.safety` proves the cycle as a whole. A timing
that cannot be proven does not exist for the search, so nothing unsafe can win.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from networks.errors import UnsafePlanError
from networks.graph import Network, Signal
from signals.lamps import GREEN
from signals.plan import LampStep, SignalPlan
from signals.safety import find_violations
from signals.transitions import is_stage, length_s, transition

SHORTEST_CYCLE_S = 20
LONGEST_CYCLE_S = 150
_ROOMY_GREENS_S = (5, 7, 10)  # tried where a shipped programme is too tight for the safety rules


_Way = Literal["eager", "patient", "unsound"]


@dataclass(frozen=True, slots=True)
class StageTiming:
    """The programme of one signal: second `offset_s` of the simulation's clock is the begin of the first stage."""

    states: tuple[str, ...]
    greens_s: tuple[int, ...]
    offset_s: int = 0


class PlanMaker:
    """Timings -> lamp steps and proven plans; remembers transitions and verdicts of the signals of one network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._between: dict[tuple[int, str, str], tuple[LampStep, ...]] = {}
        self._ways: dict[tuple[int, tuple[str, ...], tuple[int, ...]], _Way] = {}

    def between(self, signal: int, before: str, after: str) -> tuple[LampStep, ...]:
        """The interstage from one stage to another."""
        key = (signal, before, after)
        if key not in self._between:
            self._between[key] = transition(self.network.signals[signal], before, after)
        return self._between[key]

    def lost_s(self, signal: int, states: Sequence[str]) -> int:
        """Seconds of a cycle through these stages that belong to interstages."""
        return int(
            sum(
                length_s(self.between(signal, state, states[(n + 1) % len(states)])) for n, state in enumerate(states)
            )
        )

    def cycle_s(self, signal: int, timing: StageTiming) -> int:
        return sum(timing.greens_s) + self.lost_s(signal, timing.states)

    def steps(self, signal: int, timing: StageTiming) -> tuple[LampStep, ...]:
        """The whole cycle, interstages spelt out, equal neighbours joined."""
        return self._steps(signal, timing, patient=self._way(signal, timing) == "patient")

    def _steps(self, signal: int, timing: StageTiming, *, patient: bool) -> tuple[LampStep, ...]:
        joined: list[LampStep] = []
        for n, (state, green_s) in enumerate(zip(timing.states, timing.greens_s, strict=True)):
            after = timing.states[(n + 1) % len(timing.states)]
            between = self.between(signal, state, after)
            if patient:
                between = tuple(LampStep(_patient(state, step.state), step.duration_s) for step in between)
            for step in (LampStep(state, float(green_s)), *between):
                if joined and joined[-1].state == step.state:
                    joined[-1] = LampStep(step.state, joined[-1].duration_s + step.duration_s)
                else:
                    joined.append(step)
        return tuple(joined)

    def _way(self, signal: int, timing: StageTiming) -> _Way:
        """How greens begin: eagerly, each as its foes of the last stage have cleared, where that is sound. Else
        patiently, together with their stage: somebody who left the stage before the last may be clearing still."""
        key = (signal, timing.states, timing.greens_s)
        if key not in self._ways:
            own = self.network.signals[signal]
            self._ways[key] = "unsound"
            for way in ("eager", "patient") if min(timing.greens_s) >= 1 else ():
                steps = self._steps(signal, timing, patient=way == "patient")
                if not find_violations(self._cyclic(signal, steps, 0), own, None):
                    self._ways[key] = way
                    break
        return self._ways[key]

    def plan(self, signal: int, timing: StageTiming) -> SignalPlan:
        """The cyclic plan, not yet judged. Its clock is the simulation's."""
        return self._cyclic(signal, self.steps(signal, timing), timing.offset_s)

    def _cyclic(self, signal: int, steps: tuple[LampStep, ...], offset_s: int) -> SignalPlan:
        return SignalPlan(
            signal=signal,
            signal_id=self.network.signals[signal].id,
            steps=steps,
            valid_from_s=0.0,
            valid_until_s=math.inf,
            repeats=True,
            offset_s=float(offset_s % int(length_s(steps))),
            source="retime",
        )

    def is_sound(self, signal: int, timing: StageTiming) -> bool:
        """Whether the cyclic plan breaks no rule; the offset does not matter."""
        return self._way(signal, timing) != "unsound"

    def prove(self, signal: int, timing: StageTiming) -> SignalPlan:
        """The plan of a timing. Raises UnsafePlanError with every violation found."""
        plan = self.plan(signal, timing)
        violations = find_violations(plan, self.network.signals[signal], None)
        if violations:
            raise UnsafePlanError(violations)
        return plan

    def fit(self, signal: int, timing: StageTiming, cycle_s: int, least_s: int = 5) -> StageTiming | None:
        """The same stages in another cycle, greens in proportion, none below `least_s`; None when they do not fit."""
        greens_s = share_seconds(cycle_s - self.lost_s(signal, timing.states), timing.greens_s, least_s)
        return None if greens_s is None else replace(timing, greens_s=greens_s)


def _patient(before: str, lamps: str) -> str:
    """The lamps of an interstage, but nobody goes green who did not show green before it."""
    return "".join(b if lamp in GREEN and b not in GREEN else lamp for b, lamp in zip(before, lamps, strict=True))


def share_seconds(total_s: int, weights: Sequence[float], least_s: int) -> tuple[int, ...] | None:
    """Whole seconds in proportion to weights, each at least `least_s`; None when there are too few seconds."""
    count = len(weights)
    spare_s = total_s - least_s * count
    if spare_s < 0:
        return None
    # what a stage has by right counts against its share, so that long ones do not pay for short ones twice
    load = sum(weights) or 1.0
    wanted = [max(0.0, w / load * total_s - least_s) for w in weights]
    scale = spare_s / sum(wanted) if sum(wanted) > 0 else 0.0
    exact = [least_s + (w * scale if scale else spare_s / count) for w in wanted]
    whole = [int(x) for x in exact]
    by_rest = sorted(range(count), key=lambda n: (whole[n] - exact[n], n))
    for n in by_rest[: total_s - sum(whole)]:
        whole[n] += 1
    return tuple(whole)


def shipped_timing(maker: PlanMaker, signal: int) -> StageTiming | None:
    """The shipped programme in our terms: its stages in order, cycle and start of the first stage kept.

    A programme too tight for the safety rules gets greens and a cycle that they allow. None when it has fewer than
    two stages or none of that helps.
    """
    programme = maker.network.signals[signal].programme
    width = maker.network.signals[signal].link_count
    states: list[str] = []
    greens_s: list[int] = []
    begin_s = at_s = 0.0
    for phase in programme.phases:
        state = phase.state[:width]
        if is_stage(state):
            if states and states[-1] == state:
                greens_s[-1] += round(phase.duration_s)
            else:
                begin_s = begin_s if states else at_s
                states.append(state)
                greens_s.append(round(phase.duration_s))
        at_s += phase.duration_s
    if len(states) > 1 and states[0] == states[-1]:
        begin_s -= greens_s[-1]
        greens_s[0] += greens_s.pop()
        states.pop()
    if len(states) < 2 or at_s < SHORTEST_CYCLE_S:
        return None
    cycle_s = round(at_s)
    whole = StageTiming(tuple(states), tuple(greens_s))
    for timing in (whole, _without_remains(whole)):
        for least_s in (min(5, *timing.greens_s), 1):
            fitted = maker.fit(signal, timing, cycle_s, max(1, least_s))
            if len(timing.states) > 1 and fitted is not None and maker.is_sound(signal, fitted):
                return replace(fitted, offset_s=round(programme.offset_s + begin_s) % cycle_s)
    roomy = _with_room(maker, signal, whole, cycle_s) or _with_room(maker, signal, _without_remains(whole), cycle_s)
    return roomy and replace(roomy, offset_s=round(programme.offset_s + begin_s) % maker.cycle_s(signal, roomy))


def _with_room(maker: PlanMaker, signal: int, timing: StageTiming, cycle_s: int) -> StageTiming | None:
    """The same stages with the least greens and the least longer cycle in which they are sound."""
    if len(timing.states) < 2:
        return None
    for longer_s in range(cycle_s, LONGEST_CYCLE_S + 1, 5):
        for least_s in _ROOMY_GREENS_S:
            fitted = maker.fit(signal, timing, longer_s, least_s)
            if fitted is not None and maker.is_sound(signal, fitted):
                return fitted
    return None


def _without_remains(timing: StageTiming) -> StageTiming:
    """Without the stages that only show what is left of the one before while walkers clear: our interstages do that.

    Their green goes to the stage before.
    """
    opened = [{k for k, lamp in enumerate(state) if lamp in GREEN} for state in timing.states]
    kept = [n for n in range(len(opened)) if not opened[n] < opened[n - 1]]
    if not kept:
        return timing
    greens_s = [
        sum(timing.greens_s[m % len(opened)] for m in range(n, after))
        for n, after in zip(kept, [*kept[1:], kept[0] + len(opened)], strict=True)
    ]
    return StageTiming(tuple(timing.states[n] for n in kept), tuple(greens_s))


def open_links(states: Sequence[str], width: int) -> frozenset[int]:
    """Links that some of the stages open."""
    return frozenset(k for state in states for k in range(width) if state[k] in GREEN)


def must_serve(signal: Signal) -> frozenset[int]:
    """Links that some shipped stage opens and somebody may want."""
    opened = open_links([s.state for s in signal.stages], signal.link_count)
    return frozenset(k for k in opened if signal.pedestrian[k] or signal.link_movements[k])
