"""Chooses one plan a junction among the proposals, and lets only proven ones out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from networks.errors import UnsafePlanError
from networks.graph import Signal
from signals.lamps import LampRecord
from signals.plan import ApprovedPlan, Proposal
from signals.safety import Violation, approve


@dataclass(frozen=True, slots=True)
class Decision:
    """Approved plans, at most one a signal, in order of the signals; what was refused on the way, and why."""

    approved: tuple[ApprovedPlan, ...]
    refused: tuple[tuple[Proposal, tuple[Violation, ...]], ...]
    chosen: tuple[Proposal, ...]  # the proposal behind each approved plan


def decide(
    proposals: Iterable[Proposal],
    signals: Sequence[Signal],
    lamps: Sequence[LampRecord | None],
    *,
    now_s: float,
    first_version: int,
) -> Decision:
    """At each signal the proposal of the highest priority, then of the lowest expected cost, that is safe.

    Versions count up from `first_version`. Nothing that a proposal holds makes this raise: a defect refuses it. A
    signal without an approved proposal keeps what it has, in the end its own programme.
    """
    by_signal: defaultdict[int, list[Proposal]] = defaultdict(list)
    refused: list[tuple[Proposal, tuple[Violation, ...]]] = []
    for proposal in proposals:
        index = proposal.plan.signal
        if 0 <= index < len(signals):
            by_signal[index].append(proposal)
        else:
            unknown = Violation("signal", proposal.plan.signal_id, (), now_s, detail=f"no signal has index {index}")
            refused.append((proposal, (unknown,)))
    approved: list[ApprovedPlan] = []
    chosen: list[Proposal] = []
    for index in sorted(by_signal):
        for proposal in sorted(by_signal[index], key=lambda p: (-p.priority, p.cost_veh_s)):
            record = lamps[index]
            if record is None:
                unseen = Violation("lamps", signals[index].id, (), now_s, detail="lamps unknown")
                refused.append((proposal, (unseen,)))
                continue
            version = first_version + len(approved)
            try:
                plan = approve(proposal.plan, signals[index], record, now_s=now_s, version=version)
            except UnsafePlanError as unsafe:
                violations = tuple(v for v in unsafe.violations if isinstance(v, Violation))
                refused.append((proposal, violations))
                continue
            approved.append(plan)
            chosen.append(proposal)
            break
    return Decision(tuple(approved), tuple(refused), tuple(chosen))
