"""A signal's own programmes as plans, and which of them is in force when."""

from __future__ import annotations

import math
from dataclasses import dataclass

from networks.graph import OFF, Network, Programme, Schedule, Signal
from signals.plan import LampStep, SignalPlan


@dataclass(frozen=True, slots=True)
class OwnProgrammes:
    """What a signal shows when nobody orders anything, by the time of day."""

    plans: tuple[SignalPlan, ...]  # endless, by index of the schedule; the one of being switched off last, if it is
    schedule: Schedule | None = None  # None: the first plan is always in force
    epoch_of_zero_s: float = 0.0  # of second 0 of the schedule

    def at(self, now_s: float) -> SignalPlan:
        """The plan in force at an epoch second."""
        if self.schedule is None:
            return self.plans[0]
        return self.plans[self.schedule.programme_at(now_s - self.epoch_of_zero_s)]

    def next_change_s(self, after_s: float) -> float:
        """Epoch second at which another may come into force, inf: never."""
        if self.schedule is None:
            return math.inf
        return self.epoch_of_zero_s + self.schedule.next_change_s(after_s - self.epoch_of_zero_s)


def own_programmes(signal: Signal, *, index: int = 0, epoch_of_zero_s: float) -> OwnProgrammes:
    """The shipped programmes as endless cyclic plans in step with the simulation's own clock.

    SUMO shows at simulation second t the phase at second (t - offset) mod cycle; `epoch_of_zero_s` is the epoch of
    simulation second 0. An actuated programme runs on its stated durations. The authority's programmes are taken as
    they are: they need not pass `safety.find_violations`.
    """
    if signal.schedule is None:
        return OwnProgrammes((_endless(signal, index, signal.programme, epoch_of_zero_s),))
    plans = [_endless(signal, index, programme, epoch_of_zero_s) for programme in signal.programmes]
    if any(programme == OFF for _, programme in signal.schedule.changes):
        plans.append(_switched_off(signal, index))
    return OwnProgrammes(tuple(plans), signal.schedule, epoch_of_zero_s)


def programmes_of(network: Network, *, epoch_of_zero_s: float) -> list[OwnProgrammes]:
    """`own_programmes` of every signal."""
    return [own_programmes(s, index=i, epoch_of_zero_s=epoch_of_zero_s) for i, s in enumerate(network.signals)]


def fixed_plan(signal: Signal, *, index: int = 0, epoch_of_zero_s: float) -> SignalPlan:
    """The active one of `own_programmes`, the first of the day."""
    return _endless(signal, index, signal.programme, epoch_of_zero_s)


def _endless(signal: Signal, index: int, programme: Programme, epoch_of_zero_s: float) -> SignalPlan:
    steps: list[LampStep] = []
    for phase in programme.phases:
        state = phase.state[: signal.link_count]
        if steps and steps[-1].state == state:
            steps[-1] = LampStep(state, steps[-1].duration_s + phase.duration_s)
        elif phase.duration_s > 0:
            steps.append(LampStep(state, phase.duration_s))
    return _own(signal, index, steps, epoch_of_zero_s + programme.offset_s, f"shipped programme {programme.id}")


def _switched_off(signal: Signal, index: int) -> SignalPlan:
    flash = LampStep(flash_state(signal), 60.0)
    return _own(signal, index, [flash], 0.0, "switched off by the timetable")


def _own(signal: Signal, index: int, steps: list[LampStep], offset_s: float, reason: str) -> SignalPlan:
    return SignalPlan(
        signal=index,
        signal_id=signal.id,
        steps=tuple(steps),
        valid_from_s=0.0,
        valid_until_s=math.inf,
        repeats=True,
        offset_s=offset_s,
        source="fixed",
        reason=reason,
    )


def flash_state(signal: Signal) -> str:
    """Yellow flash for vehicles, dark for people on foot."""
    return "".join("O" if walkers else "o" for walkers in signal.pedestrian)
