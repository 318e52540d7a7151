"""A signal's own programme as a plan."""

from __future__ import annotations

import math

from networks.graph import Signal
from signals.plan import LampStep, SignalPlan


def fixed_plan(signal: Signal, *, index: int = 0, epoch_of_zero_s: float) -> SignalPlan:
    """The shipped active programme as an endless cyclic plan in step with the simulation's own clock.

    SUMO shows at simulation second t the phase at second (t - offset) mod cycle; `epoch_of_zero_s` is the epoch of
    simulation second 0. An actuated programme runs on its stated durations. The authority's programme is taken as it
    is: it need not pass `safety.find_violations`.
    """
    programme = signal.programme
    steps: list[LampStep] = []
    for phase in programme.phases:
        state = phase.state[: signal.link_count]
        if steps and steps[-1].state == state:
            steps[-1] = LampStep(state, steps[-1].duration_s + phase.duration_s)
        elif phase.duration_s > 0:
            steps.append(LampStep(state, phase.duration_s))
    return SignalPlan(
        signal=index,
        signal_id=signal.id,
        steps=tuple(steps),
        valid_from_s=0.0,
        valid_until_s=math.inf,
        repeats=True,
        offset_s=epoch_of_zero_s + programme.offset_s,
        source="fixed",
        reason=f"shipped programme {programme.id}",
    )
