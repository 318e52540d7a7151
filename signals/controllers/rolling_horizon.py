"""Rolling-horizon control of all junctions, told only arrays: vehicles on the way to stop lines, and lamps.

Every cycle each junction is thought over anew (`junction_choice`). What it plans to let over its stop lines becomes
arrivals at the next junctions one cycle later (`relays`), so coordination emerges without a common cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from networks.graph import Bools, Floats, Int64s, Network, Signal
from networks.state import Forecast, NetworkState
from signals.controllers import junction_choice_kernels as kernels
from signals.controllers.approach_rows import (
    ApproachRows,
    LaneRoom,
    room_from_state,
    rows_from_state,
    with_movements,
)
from signals.controllers.approach_views import Arrivals, UnitView, order_arrivals, view_of, with_places
from signals.controllers.approaches import StopLineMap, build_stop_lines
from signals.controllers.caught import LettingOut, find_caught
from signals.controllers.coupled_signals import join_records
from signals.controllers.held_back import find_stalled, without_held_back
from signals.controllers.junction_choice import ApproachView, Choice, JunctionModel, Tuning, build_model, choose
from signals.controllers.longest_reds import next_stages
from signals.controllers.outflow import find_refill, planned_outflow
from signals.controllers.planned_units import PlannedUnits, Unit
from signals.controllers.relays import RelayedRows, relay, with_relayed
from signals.controllers.unsure_turns import LEAST_OPEN_FRAC
from signals.lamps import LampRecord
from signals.plan import LampStep, Proposal, SignalPlan
from signals.priority import Pavement
from signals.rules import encode, rules_of
from signals.safety_kernels import RED
from signals.transitions import is_stage, settle

VALIDITY_S = 60.0
SPARE_S = 10.0  # beside what one more change may take: with less, a link near its longest red is served next


@dataclass(frozen=True, slots=True)
class _Standing:
    """A unit as its plan finds it."""

    unit: Unit
    records: Sequence[LampRecord]  # the lamps of each of its signals
    record: LampRecord  # of all of them in one
    caught: Sequence[Bools]  # of each signal (K,) links of which somebody is caught inside the junction
    at_s: float  # the plan's begin

    @property
    def in_stage(self) -> bool:
        """Otherwise it is changing from one stage to another."""
        return is_stage(self.record.state) and self.record.state in self.unit.model.stage_of

    def each(self, joint: str) -> list[str]:
        """The lamps of each signal, of those of all in one."""
        ends = np.cumsum([0, *(len(record.state) for record in self.records)]).tolist()
        return [joint[begin:end] for begin, end in pairwise(ends)]


class RollingHorizon:
    """The adaptive controller of the live loop. See `signals.controllers.base.Controller`."""

    name = "rolling horizon"

    def __init__(
        self,
        network: Network,
        tuning: Tuning | None = None,
        *,
        shares: Floats | None = None,
        walkers: Pavement | None = None,
        least_open_frac: float = LEAST_OPEN_FRAC,
        guesses: bool = False,
    ) -> None:
        """`shares` (M,): expected share of each movement in its lane; even where None. `walkers` None: nobody.

        `least_open_frac`: see `unsure_turns`; 0: guesses of turns are trusted. `guesses`: most turns are; stages
        of two signals planned as one that may tie a knot are then shunned sooner, see `coupled_signals.Knots`.
        """
        self.network = network
        self.tuning = tuning or Tuning()
        if guesses:
            self.tuning = replace(self.tuning, exact_ends=False)
        self.models: list[JunctionModel] = [build_model(network, i) for i in range(len(network.signals))]
        self.stop_lines: StopLineMap = build_stop_lines(network, shares)
        self._walkers, self._guesses = walkers, guesses
        self._units = PlannedUnits(network, self.models, shares, least_open_frac, guesses=guesses)
        self._letting_out = LettingOut(network)
        self._relayed: RelayedRows | None = None
        self._targets: dict[tuple[int, ...], str] = {}  # stage that the plan in force leads to
        self._chosen: dict[tuple[int, ...], tuple[Choice, float]] = {}  # what was chosen last, and when
        self._outflow = np.full((len(network.lanes.ids), self.tuning.horizon_s), np.nan)  # see `find_refill`

    @property
    def may_lock(self) -> bool:
        """Two close signals can get into each other's way."""
        return self._units.may_lock

    def propose(
        self,
        state: NetworkState,
        forecast: Forecast | None,
        lamps: Sequence[LampRecord | None],
        *,
        valid_from_s: float,
    ) -> Sequence[Proposal]:
        rows = rows_from_state(state, lamps, self.network, self.stop_lines, valid_from_s)
        return self.plan(rows, room_from_state(state), lamps, valid_from_s=valid_from_s)

    def plan(
        self, rows: ApproachRows, room: LaneRoom, lamps: Sequence[LampRecord | None], *, valid_from_s: float
    ) -> list[Proposal]:
        """Proposals from rows whose arrival times count from `valid_from_s`."""
        coming = without_held_back(rows, room, self.network, self.stop_lines)
        expected = with_relayed(coming, self._relayed, valid_from_s, self.tuning.horizon_s)
        rows = with_movements(expected, self.stop_lines)
        stalled = find_stalled(rows, room, lamps, self.network, valid_from_s)
        arrivals = order_arrivals(rows, room, stalled, self.network, self.tuning)
        proposals: list[Proposal] = []
        crossings: list[tuple[Int64s, Floats]] = []  # of each unit its rows that leave it, and when
        for unit, records in self._units.seen(lamps):
            caught = [find_caught(self.network, i, room) for i in unit.signals]
            record = records[0] if len(records) == 1 else join_records(records)
            standing = _Standing(unit, records, record, caught, valid_from_s)
            if not standing.in_stage:
                proposals += self._complete(standing)
                continue
            seen = self._see(standing, arrivals)
            choice = self._choose(standing, seen.view, room)
            if choice is not None:
                proposals += self._carry_out(standing, choice, rows.stopped[seen.span])
                self._outflow[unit.model.lanes] = planned_outflow(unit.model, choice, self.tuning)
                crossings.append(seen.leaving(choice, self.tuning.horizon_s))
        self._relayed = relay(rows, crossings, self.network, self.stop_lines, valid_from_s)
        return proposals

    def _see(self, standing: _Standing, arrivals: Arrivals) -> UnitView:
        unit, length_m = standing.unit, self.network.lanes.length_m
        refill_vps = find_refill(unit.model, arrivals.room, self._outflow, arrivals.stalled, length_m)
        seen = view_of(unit, arrivals, refill_vps, self._expect_walkers(standing))
        return with_places(seen, unit, arrivals.rows, self.network, self.stop_lines)

    def _expect_walkers(self, standing: _Standing) -> tuple[Floats, Floats]:
        """As `Pavement.expect`, of all signals of the unit."""
        if self._walkers is None:
            return np.zeros(len(standing.record.state)), np.zeros(len(standing.record.state))
        signals = zip(standing.unit.signals, standing.records, strict=True)
        each = [self._walkers.expect(i, record, standing.at_s) for i, record in signals]
        return np.concatenate([waiting for waiting, _ in each]), np.concatenate([rate for _, rate in each])

    def _choose(self, standing: _Standing, view: ApproachView, room: LaneRoom) -> Choice | None:
        unit, record, at_s = standing.unit, standing.record, standing.at_s
        allowed, before = self._allowed(standing, room), self._before(standing)
        choice = choose(unit.model, record, view, self.tuning, now_s=at_s, allowed=allowed, before=before)
        if choice is not None:
            self._chosen[unit.signals] = (choice, at_s)
            self._targets[unit.signals] = unit.model.stage_states[choice.target]
        return choice

    def _allowed(self, standing: _Standing, room: LaneRoom) -> Bools | None:
        """Stages that tie no knot; those that open links near their longest red, if it matters by now; None: any."""
        model, record, knots = standing.unit.model, standing.record, standing.unit.knots
        sound = None if knots is None else knots.open_stages(room.vehicles, guesses=self._guesses)
        rules = rules_of(model.signal)
        red = np.array([c == "r" for c in record.state]) & rules.served
        left_s = np.where(red, rules.max_red_s - (standing.at_s - record.since_s), np.inf)
        stage = model.stage_of[record.state]
        margin_s = rules.shortest_wait_s + SPARE_S
        due, serving = next_stages(model.opens, model.layout.change_s, model.stay_s, stage, left_s, margin_s)
        if not due:
            return sound
        both: Bools = serving if sound is None else serving & sound
        return both if both.any() else serving

    def _before(self, standing: _Standing) -> tuple[Int64s, Floats] | None:
        """What is left of the sequence chosen last: its present stage for the time that remains, then the rest."""
        unit = standing.unit
        if unit.signals not in self._chosen:
            return None
        choice, at_s = self._chosen[unit.signals]
        here = np.flatnonzero(choice.sequence[:2] == unit.model.stage_of[standing.record.state])
        if not len(here):
            return None
        first = int(here[0])
        holds = choice.hold_each_s[first:].copy()
        holds[0] = max(0.0, holds[0] - (standing.at_s - at_s)) if first == 0 else 5.0
        return choice.sequence[first:].copy(), holds

    def _complete(self, standing: _Standing) -> list[Proposal]:
        """For each signal of a unit between two stages: on to the stage that it was to change to."""
        unit, at_s = standing.unit, standing.at_s
        target = self._targets.get(unit.signals)
        if target is None:
            return []
        proposals = []
        signals = zip(unit.signals, standing.records, standing.each(target), standing.caught, strict=True)
        for index, record, there, caught in signals:
            steps = (*self._letting_out.steps(index, record, there, at_s, caught), LampStep(there, VALIDITY_S))
            plan = self._plan(index, record, steps, at_s, "completing the change of stage")
            proposals.append(Proposal(plan, 0.0, 0.0, 0.0))
        return proposals

    def _carry_out(self, standing: _Standing, choice: Choice, stopped: Bools) -> list[Proposal]:
        """The choice as a proposal for each signal of the unit; `stopped` (N,): who is in sight."""
        unit, at_s = standing.unit, standing.at_s
        now_each, next_each = (standing.each(unit.model.stage_states[s]) for s in (choice.stage, choice.target))
        seen = self._told(choice, stopped)
        proposals = []
        signals = zip(unit.signals, standing.records, now_each, next_each, standing.caught, strict=True)
        for index, record, here, there, caught in signals:
            if here == there:
                steps: tuple[LampStep, ...] = (LampStep(here, VALIDITY_S),)
                reason = f"keep stage {choice.stage}"
            else:
                if choice.hold_s:
                    change = settle(self.network.signals[index], record, there, at_s + choice.hold_s)
                else:
                    change = self._letting_out.steps(index, record, there, at_s, caught)
                held = (LampStep(here, choice.hold_s),) if choice.hold_s else ()
                steps = (*held, *change, LampStep(there, VALIDITY_S))
                reason = f"stage {choice.stage} for {choice.hold_s:.0f} s more, then stage {choice.target}"
            plan = self._plan(index, record, steps, at_s, reason + seen)
            proposals.append(Proposal(plan, choice.cost_veh_s, choice.next_best_veh_s, choice.served_veh))
        return proposals

    def _told(self, choice: Choice, stopped: Bools) -> str:
        """What the choice was made on."""
        waiting, second_s = int(stopped.sum()), choice.next_best_veh_s
        return (
            f": {waiting} waiting, {len(stopped) - waiting} coming, {choice.served_veh:.0f} served in "
            f"{self.tuning.horizon_s} s, expected cost {choice.cost_veh_s:.0f} veh s, "
            + (f"next best {second_s:.0f}" if second_s < kernels.NEVER else "nothing else allowed")
        )

    def _plan(
        self, index: int, record: LampRecord, steps: tuple[LampStep, ...], valid_from_s: float, reason: str
    ) -> SignalPlan:
        signal = self.network.signals[index]
        return SignalPlan(
            signal=index,
            signal_id=signal.id,
            steps=steps,
            valid_from_s=valid_from_s,
            valid_until_s=_latest_end_s(signal, record, steps, valid_from_s),
            source=self.name,
            reason=reason,
        )


def _latest_end_s(signal: Signal, record: LampRecord, steps: tuple[LampStep, ...], valid_from_s: float) -> float:
    """As long as the plan may stand: up to the longest red of any link that it opens later, or not at all."""
    rules = rules_of(signal)
    floor_s = valid_from_s + rules.shortest_wait_s
    red_since = np.where(np.isfinite(record.since_s), record.since_s, valid_from_s)  # not red before: since then
    deadline_s = np.maximum(red_since + rules.max_red_s, floor_s)
    lit = encode([step.state for step in steps]) != RED  # (steps, K)
    begin_s = valid_from_s + np.cumsum([0.0, *(step.duration_s for step in steps[:-1])])
    lit_s = np.where(lit.any(axis=0), begin_s[lit.argmax(axis=0)], np.inf)
    end_s = valid_from_s + VALIDITY_S
    late = rules.served & (lit_s > deadline_s)
    if late.any():
        end_s = min(end_s, float(np.floor(deadline_s[late].min())))
    return max(end_s, valid_from_s + 1.0)
