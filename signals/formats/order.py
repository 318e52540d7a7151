"""An approved plan as the message that carries it to its controller."""

from __future__ import annotations

from networks.messages import LampStepOrder, PlanOrder
from signals.plan import ApprovedPlan, LampStep, SignalPlan

LAST_EPOCH_S = 9e10  # stands for "until withdrawn" where a message wants a number


def to_order(approved: ApprovedPlan, *, signature: str = "") -> PlanOrder:
    """The message that carries an approved plan to its controller. A cycle is turned to begin at `valid_from`."""
    plan = approved.plan
    return PlanOrder(
        junction=plan.signal_id,
        plan_version=approved.version,
        valid_from=plan.valid_from_s,
        valid_until=min(plan.valid_until_s, LAST_EPOCH_S),
        repeats=plan.repeats,
        steps=tuple(LampStepOrder(state=s.state, duration_s=s.duration_s) for s in _from_start(plan)),
        signature=signature,
    )


def _from_start(plan: SignalPlan) -> tuple[LampStep, ...]:
    if not plan.repeats:
        return plan.steps
    into_s = (plan.valid_from_s - plan.offset_s) % plan.cycle_s
    for n, step in enumerate(plan.steps):
        if into_s < step.duration_s:
            head = LampStep(step.state, step.duration_s - into_s)
            tail = (LampStep(step.state, into_s),) if into_s else ()
            return (head, *plan.steps[n + 1 :], *plan.steps[:n], *tail)
        into_s -= step.duration_s
    return plan.steps
