"""What every signal will show when the next plans take over: reported lamps, carried on by the plans under way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from networks.batches import Batches, SignalStateBatch
from networks.graph import Bools, Network
from signals.fixed import OwnProgrammes
from signals.lamps import GREEN, RED, LampRecord
from signals.loop_calls import LoopCalls
from signals.plan import ApprovedPlan, SignalPlan
from signals.transitions import is_stage

LOST_AFTER_S = 10.0  # without a report for so long nothing is foreseen and no plan is made
KEPT_PLANS = 8  # newest plans of a signal; older ones cannot be in force any more


class LampTracker:
    """Follows the lamps of all signals through their reports and foresees them second by second.

    A report carries the version of the plan in force (-1: the controller's own programme), so a plan that was refused
    or lost on its way is not taken for granted beyond the second it should have begun. A controller that has dropped
    its plan is on its way back to its programme until it shows a stage in step with it; until then a stage is taken
    to stay as reported, and inside an intergreen nothing is foreseen.
    """

    def __init__(
        self, network: Network, own: Sequence[OwnProgrammes], red_since_s: Mapping[int, Sequence[float]] | None = None
    ) -> None:
        """`red_since_s`: what is remembered of an earlier life, see `lamp_memory`; None: nothing."""
        self._remembered = dict(red_since_s or {})
        count = len(network.signals)
        self._own = tuple(own)
        self._records: list[LampRecord | None] = [None] * count
        self._reported_s = [-math.inf] * count
        self._version = [-1] * count
        self._returning = [False] * count
        self._sent: list[list[ApprovedPlan]] = [[] for _ in range(count)]

    def note_reports(self, batch: SignalStateBatch) -> None:
        """Take in reported lamps, in order of their measurement; an older one than the newest known is ignored."""
        for row, state in enumerate(batch.state):
            index, at_s = int(batch.signal[row]), float(batch.measured_at_s[row])
            if at_s < self._reported_s[index]:
                continue
            record = self._records[index]
            gap = at_s - self._reported_s[index] > LOST_AFTER_S
            if record is None or gap or len(record.state) != len(state):
                self._records[index] = first_sight(
                    state, at_s, self._own[index].at(at_s), self._remembered.pop(index, ())
                )
            else:
                self._records[index] = record.then(state, at_s)
            version, in_step = int(batch.plan_version[row]), state == self._own_state(index, math.floor(at_s))
            dropped = self._version[index] >= 0 or self._returning[index]
            self._returning[index] = version < 0 and dropped and not (in_step and is_stage(state))
            self._reported_s[index], self._version[index] = at_s, version

    def note_sent(self, plans: Iterable[ApprovedPlan]) -> None:
        """Remember plans that left for the street."""
        for approved in plans:
            sent = self._sent[approved.plan.signal]
            sent.append(approved)
            del sent[:-KEPT_PLANS]

    def note_unwanted(self, vouched: Iterable[tuple[int, Bools]], at_s: float) -> None:
        """Detectors vouch that nobody wanted some links (K,) of some signals at `at_s`."""
        for signal, unwanted in vouched:
            record = self._records[signal]
            if record is not None and len(record.state) == len(unwanted):
                self._records[signal] = record.vouched(unwanted, at_s)

    def note_calls(self, calls: LoopCalls, batches: Batches, distrusted: Bools, at_s: float) -> None:
        """The same of loops, all but those distrusted (D,), which are told of the batches first."""
        calls.note(batches.counts, batches.signals)
        self.note_unwanted(calls.unwanted(at_s, distrusted), at_s)

    def note_refused(self, signal: int, version: int) -> None:
        """Forget a plan that the street's controller refused."""
        self._sent[signal] = [p for p in self._sent[signal] if p.version != version]

    @property
    def records(self) -> tuple[LampRecord | None, ...]:
        """Per signal its lamps as last reported; None: never heard."""
        return tuple(self._records)

    def foresee(self, valid_from_s: float) -> list[LampRecord | None]:
        """Per signal the lamps just before `valid_from_s`; None where nobody knows."""
        return [self._foresee(i, valid_from_s) for i in range(len(self._records))]

    def _foresee(self, index: int, until_s: float) -> LampRecord | None:
        record, reported_s = self._records[index], self._reported_s[index]
        if record is None or until_s - reported_s > LOST_AFTER_S:
            return None
        in_step = record.state == self._own_state(index, math.floor(reported_s)) and not self._returning[index]
        second = math.floor(reported_s) + 1
        while second < until_s:
            plan = self._plan_at(index, second, reported_s, in_step)
            state = record.state if plan is None else plan.state_at(second)
            if plan is None and not is_stage(state):
                return None
            if state != record.state:
                record = record.then(state, second)
            second += 1
        return record

    def _plan_at(self, index: int, second: int, reported_s: float, in_step: bool) -> SignalPlan | None:
        """The plan that shows its lamps at a second: the newest begun that the controller knows or must have got."""
        in_force = self._version[index]
        for approved in reversed(self._sent[index]):
            begun = approved.plan.valid_from_s <= second < approved.plan.valid_until_s
            believed = approved.version == in_force or approved.plan.valid_from_s > reported_s
            if begun and believed:
                return approved.plan
        return self._own[index].at(second) if in_force < 0 and in_step else None

    def _own_state(self, index: int, second: int) -> str:
        return self._own[index].at(second).state_at(second)


def first_sight(state: str, at_s: float, fixed: SignalPlan, red_since_s: Sequence[float] = ()) -> LampRecord:
    """The record of a signal of whose past nothing is known: everything it shows may have begun only now.

    So minimum greens and clearances are waited for once more. A red alone is taken to be as old as it is where the
    signal is in step with its own programme, as a round of that where it is not: its controller knows, and counts.
    One that is remembered (`red_since_s`, per link, NaN: was not red) may never have ended since.
    """
    green, red = (np.array([c in lamps for c in state], np.bool_) for lamps in (GREEN, RED))
    since_s, begun_s = np.full(len(state), at_s), math.floor(at_s)
    if fixed.repeats:
        in_step = state == fixed.state_at(begun_s)
        for link in np.flatnonzero(red).tolist():
            before = (s for s in range(math.ceil(fixed.cycle_s)) if fixed.state_at(begun_s - s)[link] != RED)
            since_s[link] = begun_s - (next(before, fixed.cycle_s + 1) - 1 if in_step else fixed.cycle_s)
    if len(red_since_s) == len(state):
        since_s = np.where(red, np.fmin(since_s, red_since_s), since_s)
    return LampRecord(at_s, state, since_s, np.where(green, at_s, -np.inf), np.where(green, np.inf, at_s))
