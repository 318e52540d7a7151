"""Rolling-horizon control of all junctions, told only arrays: vehicles on the way to stop lines, and lamps.

Every cycle each junction is thought over anew (`junction_choice`). What it plans to let over its stop lines becomes
arrivals at the next junctions one cycle later, so coordination emerges without a common cycle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from networks.graph import VEHICLE_SPACE_M, Bools, Floats, Ints, Network, Signal
from networks.state import Forecast, NetworkState, VehicleTable
from signals.controllers import junction_choice_kernels as kernels
from signals.controllers.approaches import StopLineMap, build_stop_lines
from signals.controllers.coupled_signals import (
    ROOM_GUESSED_VEH,
    ROOM_KNOWN_VEH,
    Knots,
    find_knots,
    find_pairs,
    join_models,
    join_records,
)
from signals.controllers.junction_choice import (
    ApproachView,
    Choice,
    JunctionModel,
    Tuning,
    build_model,
    choose,
    driven_speed_mps,
    travel_time_s,
)
from signals.controllers.longest_reds import next_stages
from signals.controllers.unsure_turns import LEAST_OPEN_FRAC, with_twins
from signals.lamps import GREEN, LampRecord
from signals.plan import LampStep, Proposal, SignalPlan
from signals.priority import Pavement
from signals.rules import encode, rules_of
from signals.safety_kernels import RED
from signals.transitions import is_stage, settle

VALIDITY_S = 60.0
WAVE_MPS = 5.0  # a gap travels up a standing queue at about 18 km/h
RED_OUTFLOW_VPS = 0.02
PRESS_M = 60.0
PRESS_MAX = 20.0
STALL_AFTER_S = 8.0  # first at the line at a protected green for so long: something beyond the line is in the way
STALL_LASTS_S = 15  # as far as anybody can tell
STALL_WITHIN_M = 8.0
CAUGHT_S = 15.0  # a link opens later by at most so much for the sake of those caught inside the junction
GAP_WITHIN_M = 10.0  # of a line without a signal: who stands so near to it waits for a gap
SPARE_S = 10.0  # beside what one more change may take: with less, a link near its longest red is served next


@dataclass(frozen=True, slots=True)
class ApproachRows:
    """Vehicles on the way to stop lines, all junctions together, in any order."""

    signal: Ints  # (R,)
    link: Ints  # (R,) link it will use
    movement: Ints  # (R,) dense movement it will use, -1 unknown: some lane of the link
    distance_m: Floats  # (R,) to the stop line
    arrival_s: Floats  # (R,) earliest arrival after the plan's begin
    wait_s: Floats  # (R,) how long it has stood
    weight: Floats  # (R,) persons, or the certainty that it exists
    stopped: Bools  # (R,)
    onward_signal: Ints  # (R,) signal after this one on its way, -1 unknown: by the shares of the lane it comes to
    onward_link: Ints  # (R,) link it will use there
    onward_m: Floats  # (R,) from this stop line to that one
    sure: Bools | None = None  # (R,) False: link and movement are guesses; None: known of all
    gap_lane: Ints | None = None  # (R,) lane at whose end it gives way before, see `StopLineMap`; None: nobody does


_Rows = TypeVar("_Rows", ApproachRows, VehicleTable)


@dataclass(frozen=True, slots=True)
class _RelayedRows:
    """Vehicles that plans let over one stop line, on their way to the next; epoch seconds."""

    signal: Ints  # (R,) of the next stop line
    link: Ints  # (R,) link it will probably use there
    movement: Ints  # (R,)
    distance_m: Floats  # (R,) to the next stop line, the longer the later it crosses the first
    crosses_at_s: Floats  # (R,) the first stop line; from then on detectors see it on its way to the next
    arrives_at_s: Floats  # (R,) at the next stop line
    weight: Floats  # (R,)
    sure: Bools  # (R,)


@dataclass(frozen=True, slots=True)
class LaneRoom:
    """Receiving side, per dense lane of the network."""

    vehicles: Floats  # (L,) on the lane now
    moving_frac: Floats  # (L,) share of them that is not queued
    inside: Floats | None = None  # (M,) vehicles of each movement that wait inside the junction, None: not seen
    caught: Floats | None = None  # (M,) that stand anywhere on their way through the junction, None: not seen


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is planned at a time: one signal, or several a few vehicles apart."""

    signals: tuple[int, ...]
    model: JunctionModel
    twin_of: NDArray[np.int64]  # (K,) see `unsure_turns`
    stream_of: NDArray[np.int64]  # (M,) of each movement of these signals
    knots: Knots | None


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
        self.models: list[JunctionModel] = [build_model(network, i) for i in range(len(network.signals))]
        self.stop_lines: StopLineMap = build_stop_lines(network, shares)
        self._walkers, self._guesses = walkers, guesses

        def unit(signals: tuple[int, ...], model: JunctionModel, knots: Knots | None = None) -> _Unit:
            driven = np.flatnonzero(model.movement >= 0)
            stream_of = np.full(len(network.movements.turn), -1, np.int64)
            stream_of[model.movement[driven]] = driven
            return _Unit(signals, *with_twins(model, network, shares, least_open_frac), stream_of, knots)

        self._alone = [unit((i,), model) for i, model in enumerate(self.models)]
        pairs = find_pairs(network, self.models)
        paired = {i for pair in pairs for i in pair}
        self._units = [u for u in self._alone if u.signals[0] not in paired]
        for i, j in pairs:
            joint = join_models(network, self.models[i], self.models[j])
            room_veh = ROOM_GUESSED_VEH if guesses else ROOM_KNOWN_VEH
            knots = find_knots(network, joint, network.signals[i].link_count, room_veh)
            self._units.append(unit((i, j), joint, knots))
        self._relayed: _RelayedRows | None = None
        self._targets: dict[tuple[int, ...], str] = {}  # stage that the plan in force leads to
        self._chosen: dict[tuple[int, ...], tuple[Choice, float]] = {}  # and when
        self._waited: dict[int, float] = {}  # since when a signal waits for those caught inside
        self._outflow = np.full((len(network.lanes.ids), self.tuning.horizon_s), np.nan)  # see `_keep_outflow`

    def propose(
        self,
        state: NetworkState,
        forecast: Forecast | None,
        lamps: Sequence[LampRecord | None],
        *,
        valid_from_s: float,
    ) -> Sequence[Proposal]:
        rows = self._rows_from_state(state, lamps, valid_from_s)
        vehicles = state.lane_vehicles.value
        queue = np.where(state.lane_queue_veh.valid, state.lane_queue_veh.value, 0.0)
        moving = np.clip(1.0 - queue / np.maximum(vehicles, 1.0), 0.0, 1.0)
        room = LaneRoom(np.where(state.lane_vehicles.valid, vehicles, 0.0), moving)
        return self.plan(rows, room, lamps, valid_from_s=valid_from_s)

    def plan(
        self, rows: ApproachRows, room: LaneRoom, lamps: Sequence[LampRecord | None], *, valid_from_s: float
    ) -> list[Proposal]:
        """Proposals from rows whose arrival times count from `valid_from_s`."""
        rows = self._with_relayed(self._without_held_back(rows, room), valid_from_s)
        guess = self.stop_lines.pick_by_link(rows.signal, rows.link)
        movement = np.where(rows.movement >= 0, rows.movement, guess)
        order, first = self._by_lane(rows, movement)
        urgency = rows.weight * self._patience(rows.wait_s)
        press = self._press(rows, movement, urgency, room)
        stalled = self._stalled(rows, movement, room, lamps, valid_from_s)
        proposals: list[Proposal] = []
        expected: list[tuple[NDArray[np.int64], Floats]] = []  # rows, crossing
        chained = np.zeros(len(rows.link), np.bool_)  # rows followed beyond their stop line by the plan itself
        for unit, records in self._planned(lamps):
            model = unit.model
            record = records[0] if len(records) == 1 else join_records(records)
            span = np.concatenate([order[first[i] : first[i + 1]] for i in unit.signals])
            stream = unit.stream_of[movement[span]]
            if rows.sure is not None:
                stream = np.where(rows.sure[span], stream, unit.twin_of[stream])
            if len(records) > 1:
                by_lane = np.argsort(model.layout.link_lane[stream], kind="stable")
                span, stream = span[by_lane], stream[by_lane]
            walkers = np.zeros(len(record.state)), np.zeros(len(record.state))
            if self._walkers is not None:
                each = [self._walkers.expect(i, r, valid_from_s) for i, r in zip(unit.signals, records, strict=True)]
                walkers = np.concatenate([w for w, _ in each]), np.concatenate([r for _, r in each])
            view = self._view(model, rows, urgency[span], stream, span, room, press, stalled, walkers)
            if (model.layout.lane_out >= 0).any():
                onward = self._onward(unit, rows, movement, span)
                chained[span] = onward >= 0
                between_m = self.network.lanes.length_m[self.network.movements.to_lane[movement[span]]]
                onward_m = np.where(rows.onward_m[span] > 0.0, rows.onward_m[span], between_m)
                view, places = _with_places(view, model, onward, onward_m, self.network)
            else:
                places = np.zeros(len(view.link), np.bool_)
            sound = None if unit.knots is None else unit.knots.open_stages(room.vehicles, guesses=self._guesses)
            caught = [self._caught(i, room) for i in unit.signals]
            made, choice = self._propose_one(
                unit, records, record, view, rows.stopped[span], sound, valid_from_s, caught
            )
            proposals += made
            if choice is not None:
                self._keep_outflow(model, choice)
                crossing = choice.crossing_s[~places]
                over = crossing < self.tuning.horizon_s
                expected.append((span[over], crossing[over]))
        self._relay(rows, movement, expected, chained, valid_from_s)
        return proposals

    @property
    def may_lock(self) -> bool:
        """Two close signals can get into each other's way."""
        return any(unit.knots is not None for unit in self._units)

    def _planned(self, lamps: Sequence[LampRecord | None]) -> Iterator[tuple[_Unit, list[LampRecord]]]:
        """What is planned now, with its lamps: signals together as far as the lamps of all of them are known."""
        for unit in self._units:
            whole = all(lamps[i] is not None for i in unit.signals)
            for part in (unit,) if whole else (self._alone[i] for i in unit.signals):
                records = [record for i in part.signals if (record := lamps[i]) is not None]
                if records and len(part.model.lanes):
                    yield part, records

    def _onward(self, unit: _Unit, rows: ApproachRows, movement: Ints, span: NDArray[np.int64]) -> NDArray[np.int64]:
        """The stream of the unit that each vehicle takes at its next stop line, -1 where it leaves the unit."""
        model, lines = unit.model, self.stop_lines
        lane = self.network.movements.to_lane[movement[span]]
        inner = np.isin(lane, model.lanes)
        signal = lines.signal[lane]
        known = inner & (rows.onward_signal[span] == signal)
        answer = np.full(len(span), -1, np.int64)
        guess = lines.pick_by_share(np.where(inner, lane, model.lanes[0]), np.arange(len(span)))
        answer[inner] = unit.stream_of[guess[inner]]
        for row in np.flatnonzero(known).tolist():
            links = self.network.signals[int(signal[row])].link_movements[int(rows.onward_link[span[row]])]
            own = [m for m in links if self.network.movements.from_lane[m] == lane[row]] or list(links)
            answer[row] = unit.stream_of[own[0]]
        return answer

    def _propose_one(
        self,
        unit: _Unit,
        records: Sequence[LampRecord],
        record: LampRecord,
        view: ApproachView,
        stopped: Bools,
        sound: Bools | None,
        valid_from_s: float,
        caught: Sequence[Bools],
    ) -> tuple[list[Proposal], Choice | None]:
        """A proposal for each signal of the unit; `record` is all of them in one, `stopped` (V,) who is in sight.

        `sound` (S,): stages that may come next as far as the traffic goes, None: any.
        """
        model = unit.model
        if not is_stage(record.state) or record.state not in model.stage_of:
            target = self._targets.get(unit.signals)
            if target is None:
                return [], None
            plans = []
            for index, own, there, stuck in zip(unit.signals, records, _parted(target, records), caught, strict=True):
                rest = (*self._lead(index, own, there, valid_from_s, stuck), LampStep(there, VALIDITY_S))
                plans.append(self._plan(index, own, rest, valid_from_s, "completing the change of stage"))
            return [Proposal(plan, 0.0, 0.0, 0.0) for plan in plans], None
        allowed = self._allowed(model, record, sound, valid_from_s)
        before = self._before(unit, model.stage_of[record.state], valid_from_s)
        choice = choose(model, record, view, self.tuning, now_s=valid_from_s, allowed=allowed, before=before)
        if choice is None:
            return [], None
        self._chosen[unit.signals] = (choice, valid_from_s)
        self._targets[unit.signals] = model.stage_states[choice.target]
        now_each, next_each = (_parted(model.stage_states[s], records) for s in (choice.stage, choice.target))
        waiting = int(stopped.sum())
        second_s = choice.next_best_veh_s
        seen = (
            f": {waiting} waiting, {len(stopped) - waiting} coming, {choice.served_veh:.0f} served in "
            f"{self.tuning.horizon_s} s, expected cost {choice.cost_veh_s:.0f} veh s, "
            + (f"next best {second_s:.0f}" if second_s < kernels.NEVER else "nothing else allowed")
        )
        proposals = []
        for index, own, here, there, stuck in zip(unit.signals, records, now_each, next_each, caught, strict=True):
            if here == there:
                steps: tuple[LampStep, ...] = (LampStep(here, VALIDITY_S),)
                reason = f"keep stage {choice.stage}"
            else:
                if choice.hold_s:
                    change = settle(self.network.signals[index], own, there, valid_from_s + choice.hold_s)
                else:
                    change = self._lead(index, own, there, valid_from_s, stuck)
                held = (LampStep(here, choice.hold_s),) if choice.hold_s else ()
                steps = (*held, *change, LampStep(there, VALIDITY_S))
                reason = f"stage {choice.stage} for {choice.hold_s:.0f} s more, then stage {choice.target}"
            plan = self._plan(index, own, steps, valid_from_s, reason + seen)
            proposals.append(Proposal(plan, choice.cost_veh_s, choice.next_best_veh_s, choice.served_veh))
        return proposals, choice

    def _caught(self, signal: int, room: LaneRoom) -> Bools:
        """(K,) links of which somebody stands inside the junction, though there is room where he wants to go."""
        answer = np.zeros(len(self.network.signals[signal].link_movements), np.bool_)
        if room.caught is None:
            return answer
        caught = np.flatnonzero((room.caught > 0.0) & (self.network.movements.signal == signal))
        out = self.network.movements.to_lane[caught]
        answer[self.network.movements.link[caught[self._has_room(room)[out]]]] = True
        return answer

    def _has_room(self, room: LaneRoom) -> Bools:
        """(L,) one more vehicle fits on the lane."""
        return self.network.lanes.length_m / VEHICLE_SPACE_M - room.vehicles >= 1.0

    def _lead(self, index: int, record: LampRecord, there: str, at_s: float, caught: Bools) -> tuple[LampStep, ...]:
        """Steps to a stage, the stage not included; whoever is caught inside the junction is let out first.

        `caught` (K,): of which links somebody is. What crosses his way opens later, by a second each time this is
        asked and by CAUGHT_S in all.
        """
        signal = self.network.signals[index]
        steps = settle(signal, record, there, at_s)
        if not caught.any():
            self._waited.pop(index, None)
            return steps
        next_state = steps[0].state if steps else there
        lit, goes_on, was_lit = (np.array([c in GREEN for c in x]) for x in (next_state, there, record.state))
        stuck = np.flatnonzero(caught & ~goes_on[: len(caught)])
        meets = signal.foes | signal.foes.T | signal.conflicts | signal.conflicts.T
        late = lit & ~was_lit
        late[: len(caught)] &= meets[stuck].any(axis=0)
        if not late.any():
            self._waited.pop(index, None)
            return steps
        if at_s - self._waited.setdefault(index, at_s) >= CAUGHT_S:
            return steps
        first = "".join("r" if waits else c for waits, c in zip(late.tolist(), there, strict=True))
        steps = (*settle(signal, record, first, at_s), LampStep(first, 1.0))
        then_s = at_s
        for step in steps:
            record = record.then(step.state, then_s)
            then_s += step.duration_s
        record = record.then(record.state, then_s)
        return (*steps, *settle(signal, record, there, then_s))

    def _before(self, unit: _Unit, stage: int, now_s: float) -> tuple[NDArray[np.int64], Floats] | None:
        """What is left of the sequence chosen last: its present stage for the time that remains, then the rest."""
        if unit.signals not in self._chosen:
            return None
        choice, at_s = self._chosen[unit.signals]
        here = np.flatnonzero(choice.sequence[:2] == stage)
        if not len(here):
            return None
        first = int(here[0])
        holds = choice.hold_each_s[first:].copy()
        holds[0] = max(0.0, holds[0] - (now_s - at_s)) if first == 0 else 5.0
        return choice.sequence[first:].copy(), holds

    def _plan(
        self,
        index: int,
        record: LampRecord,
        steps: tuple[LampStep, ...],
        valid_from_s: float,
        reason: str,
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

    def _allowed(self, model: JunctionModel, record: LampRecord, sound: Bools | None, now_s: float) -> Bools | None:
        """Sound stages; those that open links near their longest red, if it matters by now; None: any stage."""
        rules = rules_of(model.signal)
        red = np.array([c == "r" for c in record.state]) & rules.served
        left_s = np.where(red, rules.max_red_s - (now_s - record.since_s), np.inf)
        stage = model.stage_of[record.state]
        margin_s = rules.shortest_wait_s + SPARE_S
        due, serving = next_stages(model.opens, model.layout.change_s, model.stay_s, stage, left_s, margin_s)
        if not due:
            return sound
        both: Bools = serving if sound is None else serving & sound
        return both if both.any() else serving

    def _by_lane(self, rows: ApproachRows, movement: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows in order of signal, approach lane and distance; and where each signal begins in that order."""
        lane = self.network.movements.from_lane[movement]
        order = np.lexsort((rows.distance_m, lane, rows.signal))
        first = np.searchsorted(rows.signal[order], np.arange(len(self.models) + 1))
        return order.astype(np.int64), first.astype(np.int64)

    def _view(
        self,
        model: JunctionModel,
        rows: ApproachRows,
        urgency: Floats,
        stream: NDArray[np.int64],
        span: NDArray[np.int64],
        room: LaneRoom,
        press: Floats,
        stalled: Bools,
        walkers: tuple[Floats, Floats],
    ) -> ApproachView:
        lane = model.layout.link_lane[stream]
        lane_first = np.searchsorted(lane, np.arange(len(model.lanes) + 1)).astype(np.int64)
        step = lane * 1e7  # ascending arrivals within each lane: a running maximum that restarts per lane
        arrival = np.maximum.accumulate(np.maximum(rows.arrival_s[span], 0.0) + step) - step
        vehicles, moving = room.vehicles[model.outs], room.moving_frac[model.outs]
        return ApproachView(
            lane_first=lane_first,
            arrival_s=arrival,
            link=stream,
            weight=urgency,
            stopped=rows.stopped[span],
            lane_fill=np.minimum(
                1.5,
                room.vehicles[model.lanes]
                * (1.0 - room.moving_frac[model.lanes])
                * VEHICLE_SPACE_M
                / np.maximum(model.lane_length_m, VEHICLE_SPACE_M),
            ),
            press=press[model.lanes],
            stalled_s=np.where(stalled[model.lanes], float(STALL_LASTS_S), 0.0),
            space_veh=np.maximum(0.0, model.layout.out_storage_veh - vehicles),
            refill_vps=self._refill(model, moving, stalled),
            jam_frac=np.minimum(1.0, vehicles * (1.0 - moving) / model.layout.out_storage_veh),
            inside=np.zeros(len(model.link_of))
            if room.inside is None
            else np.where(model.movement >= 0, room.inside[model.movement], 0.0),
            walkers=walkers[0][model.link_of],
            walker_rate=walkers[1][model.link_of],
        )

    def _press(self, rows: ApproachRows, movement: Ints, urgency: Floats, room: LaneRoom) -> Floats:
        """Per lane: the weight of those who stand at the stop line before it and want to come in, per vehicle in it.

        A junction does not see the queue that its own full approach holds up further upstream; this tells it.
        """
        stands = rows.stopped & (rows.distance_m < PRESS_M)
        lane = self.network.movements.to_lane[movement[stands]]
        press = np.bincount(lane, weights=urgency[stands], minlength=len(room.vehicles))
        return np.minimum(press / np.maximum(room.vehicles, 1.0), PRESS_MAX)

    def _stalled(
        self,
        rows: ApproachRows,
        movement: Ints,
        room: LaneRoom,
        lamps: Sequence[LampRecord | None],
        now_s: float,
    ) -> Bools:
        """Per lane: the first driver stands at a protected green, and has for longer than setting off takes.

        Nobody sees what holds him: a blocked box, another who gives way to him, a lane he has to leave. But as long
        as he stands his lane does not empty, whatever the lamps say, and two junctions can wait for each other.
        """
        lane = self.network.movements.from_lane[movement]
        nearest_m = np.full(len(self.network.lanes.ids), np.inf)
        np.minimum.at(nearest_m, lane, rows.distance_m)
        first = rows.stopped & (rows.wait_s >= STALL_AFTER_S) & (rows.distance_m < STALL_WITHIN_M)
        answer = np.zeros(len(nearest_m), np.bool_)
        for row in np.flatnonzero(first & (rows.distance_m == nearest_m[lane])).tolist():
            record = lamps[rows.signal[row]]
            link = int(rows.link[row])
            if record is None or record.state[link] != "G" or now_s - record.green_from_s[link] < STALL_AFTER_S:
                continue
            answer[lane[row]] = not self._waits_for_gap(int(movement[row]), room, lamps)
        return answer

    def _waits_for_gap(self, movement: int, room: LaneRoom, lamps: Sequence[LampRecord | None]) -> bool:
        """Has whoever stands at a green room beyond, and somebody to give way to whose lamp is green as well?"""
        moves = self.network.movements
        out = moves.to_lane[movement]
        if not self._has_room(room)[out]:
            return False
        foes = moves.gives_way_to[movement] if len(moves.gives_way_to) else ()
        for foe in foes:
            record = lamps[moves.signal[foe]] if moves.signal[foe] >= 0 else None
            if record is None or record.state[moves.link[foe]] in GREEN:
                return True
        return False

    def _without_held_back(self, rows: ApproachRows, room: LaneRoom) -> ApproachRows:
        """The rows without those who wait for a gap at a line without a signal, and whoever is behind them there.

        Nobody knows when the traffic they give way to lets them go, and a green kept for them is lost. Where there is
        no room beyond that line, it is the signal that they wait for.
        """
        if rows.gap_lane is None:
            return rows
        gap_lane, count = rows.gap_lane, len(self.network.lanes.ids)
        first_m = np.full(count, np.inf)
        before = np.flatnonzero(gap_lane >= 0)
        np.minimum.at(first_m, gap_lane[before], rows.distance_m[before])
        first = before[rows.distance_m[before] == first_m[gap_lane[before]]]
        beyond = self.stop_lines.gap_beyond[gap_lane[first]]
        has_room = self._has_room(room)[beyond]
        at_line = rows.distance_m[first] - self.stop_lines.ahead_m[gap_lane[first]] < GAP_WITHIN_M
        held = np.zeros(count + 1, np.bool_)  # the last: of no lane
        held[gap_lane[first[rows.stopped[first] & at_line & has_room]]] = True
        return replace(_pick(rows, ~held[gap_lane]), gap_lane=None)

    def _refill(self, model: JunctionModel, moving: Floats, stalled: Bools) -> Floats:
        """(O, horizon) how fast receiving lanes empty: as the signal at their end plans, a backward wave later."""
        horizon = self.tuning.horizon_s
        answer = np.repeat((0.1 + 0.4 * moving)[:, None], horizon, axis=1)
        for o in np.flatnonzero(~np.isnan(self._outflow[model.outs, 0])).tolist():
            lane = model.outs[o]
            late_s = int(self.network.lanes.length_m[lane] / WAVE_MPS)
            if late_s < horizon:
                answer[o, late_s:] = self._outflow[lane, : horizon - late_s]
            if stalled[lane]:
                answer[o, : STALL_LASTS_S + late_s] = 0.0
        return answer

    def _keep_outflow(self, model: JunctionModel, choice: Choice) -> None:
        """What each approach lane can let go, second by second from the next cycle on; NaN: not planned yet."""
        open_at = np.zeros((len(model.lanes), self.tuning.horizon_s + 1), np.bool_)
        begin_s = 0.0
        for i, (stage, hold_s) in enumerate(zip(choice.sequence, choice.hold_each_s, strict=True)):
            end_s = begin_s + hold_s if i + 1 < len(choice.sequence) else open_at.shape[1]
            open_at[model.lane_open[stage], int(begin_s) : int(end_s)] = True
            if i + 1 < len(choice.sequence):
                begin_s = end_s + model.layout.change_s[stage, choice.sequence[i + 1]]
        flow = np.where(open_at[:, 1:], 1.0 / self.tuning.headway_s, RED_OUTFLOW_VPS)
        self._outflow[model.lanes] = flow

    def _patience(self, wait_s: Floats) -> Floats:
        """Weight of a vehicle that has stood so long: nobody is forgotten for the sake of the many."""
        grown: Floats = 1.0 + (wait_s / self.tuning.wait_scale_s) ** 2
        return np.minimum(self.tuning.wait_weight_max, grown)

    def _rows_from_state(
        self, state: NetworkState, lamps: Sequence[LampRecord | None], valid_from_s: float
    ) -> ApproachRows:
        table, lines = state.vehicles, self.stop_lines
        use = (lines.signal[table.lane] >= 0) & (table.certainty > 0.05)
        table = _pick(table, use)
        lane, onward_m = lines.lead(table, self.network)
        table, onward_m, lane = _pick(table, lane >= 0), onward_m[lane >= 0], lane[lane >= 0]
        weight = table.certainty if table.weight is None else table.certainty * table.weight
        here_m = self.network.lanes.length_m[table.lane] - table.position_m
        distance = here_m + onward_m
        limits = self.network.lanes.speed_limit_mps
        speed_mps = driven_speed_mps(distance, here_m, (limits[table.lane], limits[lane]), table.speed_mps)
        signal = lines.signal[lane]
        movement = lines.pick_movements(table, lane)
        link = lines.movement_link[movement]
        stopped = table.speed_mps < 1.0
        red_s = self._red_for_s(lamps, valid_from_s)
        ahead_s = max(0.0, valid_from_s - state.now_s)
        own_wait_s = red_s[lines.link_offset[signal] + link] if table.wait_s is None else table.wait_s
        wait = np.where(stopped, own_wait_s, 0.0)
        arrival = travel_time_s(np.maximum(distance, 0.0), table.speed_mps, speed_mps) - ahead_s
        unknown = np.full(len(signal), -1, np.int32)
        sure = lines.known_movements(table) >= 0
        if table.movement_sure is not None:
            sure &= table.movement_sure
        return ApproachRows(
            signal,
            link,
            movement,
            distance,
            arrival,
            wait,
            weight,
            stopped,
            unknown,
            unknown,
            np.zeros(len(signal)),
            sure,
            lines.gap_lane[table.lane],
        )

    def _red_for_s(self, lamps: Sequence[LampRecord | None], now_s: float) -> Floats:
        """Per link of all signals: how long it has been red."""
        red = np.zeros(self.stop_lines.link_offset[-1])
        for index, record in enumerate(lamps):
            if record is not None:
                since = np.where(np.isfinite(record.green_until_s), now_s - record.green_until_s, 0.0)
                first = self.stop_lines.link_offset[index]
                red[first : first + len(since)] = np.clip(since, 0.0, 300.0)
        return red

    def _relay(
        self,
        rows: ApproachRows,
        movement: Ints,
        expected: Sequence[tuple[NDArray[np.int64], Floats]],
        chained: Bools,
        valid_from_s: float,
    ) -> None:
        """Keep what each junction will let go as arrivals at the next stop line, in absolute time."""
        if not expected:
            self._relayed = None
            return
        lines = self.stop_lines
        row = np.concatenate([span for span, _ in expected])
        crossing = np.concatenate([seconds for _, seconds in expected])
        here, moves = movement[row], self.network.movements
        out = moves.to_lane[here]
        known = rows.onward_signal[row] >= 0
        signal = np.where(known, rows.onward_signal[row], lines.signal[out])
        kept = (signal >= 0) & ~chained[row]
        row, crossing, here, out, known, signal = (x[kept] for x in (row, crossing, here, out, known, signal))
        distance = np.where(known, rows.onward_m[row], self.network.lanes.length_m[out] + lines.ahead_m[out])
        limit = np.maximum(self.network.lanes.speed_limit_mps[out], 3.0)
        inside_s = np.where(known, 0.0, moves.length_m[here] / np.maximum(moves.speed_mps[here], 3.0))
        guess = lines.pick_by_share(lines.lane[out], np.arange(len(out)))
        onward = np.where(known, -1, guess)
        self._relayed = _RelayedRows(
            signal=signal.astype(np.int32),
            link=np.where(known, rows.onward_link[row], lines.movement_link[guess]).astype(np.int32),
            movement=onward.astype(np.int32),
            distance_m=distance + crossing * 10.0,
            crosses_at_s=crossing + valid_from_s,
            arrives_at_s=valid_from_s + crossing + inside_s + distance / limit,
            weight=rows.weight[row],
            sure=known,
        )

    def _with_relayed(self, rows: ApproachRows, valid_from_s: float) -> ApproachRows:
        """The rows, and relayed vehicles that have yet to cross their first stop line: nobody sees them here."""
        kept = self._relayed
        if kept is None:
            return rows
        use = (kept.crosses_at_s >= valid_from_s) & (kept.arrives_at_s < valid_from_s + self.tuning.horizon_s)
        expected = ApproachRows(
            signal=kept.signal[use],
            link=kept.link[use],
            movement=kept.movement[use],
            distance_m=kept.distance_m[use],
            arrival_s=kept.arrives_at_s[use] - valid_from_s,
            wait_s=np.zeros(int(use.sum())),
            weight=kept.weight[use],
            stopped=np.zeros(int(use.sum()), np.bool_),
            onward_signal=np.full(int(use.sum()), -1, np.int32),
            onward_link=np.full(int(use.sum()), -1, np.int32),
            onward_m=np.zeros(int(use.sum())),
            sure=kept.sure[use],
        )
        return _join(rows, expected)


def _parted(joint: str, records: Sequence[LampRecord]) -> list[str]:
    """The lamps of each signal, of those of all in one."""
    ends = np.cumsum([0, *(len(record.state) for record in records)]).tolist()
    return [joint[begin:end] for begin, end in pairwise(ends)]


def _with_places(
    view: ApproachView, model: JunctionModel, onward: NDArray[np.int64], onward_m: Floats, network: Network
) -> tuple[ApproachView, Bools]:
    """The view with an empty place on its next lane for each vehicle that stays in the unit; which rows are those."""
    stays = np.flatnonzero(onward >= 0)
    link_lane = model.layout.link_lane
    lane = np.concatenate([link_lane[view.link], link_lane[onward[stays]]])
    place = np.arange(len(lane)) >= len(view.link)
    order = np.lexsort((place, lane))  # stable: vehicles as they are, places behind them

    def extended(column: NDArray[Any], places: NDArray[Any] | float) -> NDArray[Any]:
        return np.concatenate([column, np.broadcast_to(np.asarray(places, column.dtype), len(stays))])[order]

    limit_mps = np.maximum(network.lanes.speed_limit_mps[model.lanes[link_lane[onward]]], 3.0)
    counted = np.arange(len(model.lanes) + 1)
    between = np.isin(model.outs, model.lanes)
    grown = replace(
        view,
        lane_first=np.searchsorted(lane[order], counted).astype(np.int64),
        arrival_s=extended(view.arrival_s, kernels.NEVER),
        link=extended(view.link, onward[stays]),
        weight=extended(view.weight, 0.0),
        stopped=extended(view.stopped, 0.0),
        places_from=np.searchsorted((2 * lane + place)[order], 2 * counted[:-1] + 1).astype(np.int64),
        onward=extended(onward, -1),
        onward_s=extended(np.where(onward >= 0, onward_m / limit_mps, 0.0), 0.0),
        refill_vps=np.where(between[:, None], 0.0, view.refill_vps),  # roll-outs see themselves how these empty
        jam_frac=np.where(between, 0.0, view.jam_frac),
    )
    return grown, place[order]


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


def _join(a: ApproachRows, b: ApproachRows) -> ApproachRows:
    if a.sure is None:
        a = replace(a, sure=np.ones(len(a.link), np.bool_))
    columns = [f.name for f in fields(ApproachRows) if getattr(a, f.name) is not None]
    return ApproachRows(**{name: np.concatenate([getattr(a, name), getattr(b, name)]) for name in columns})


def _pick(table: _Rows, use: Bools) -> _Rows:
    picked: dict[str, Any] = {}
    for f in fields(table):
        column = getattr(table, f.name)
        picked[f.name] = None if column is None else column[use]
    return type(table)(**picked)
