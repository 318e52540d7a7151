"""Priority around any controller: weights by policy, green for emergency vehicles, amends to those who waited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from networks.graph import Bools, Floats, Network, Signal
from networks.state import Forecast, NetworkState, VehicleTable
from signals.controllers.approaches import build_stop_lines
from signals.controllers.base import Controller
from signals.controllers.stage_sets import further_stages
from signals.emergency_ways import Call, EmergencyWays
from signals.lamps import GREEN, LampRecord
from signals.plan import LampStep, Proposal, SignalPlan
from signals.priority import EMERGENCY, Policy, weigh_vehicles
from signals.rules import rules_of
from signals.transitions import length_s, settle

PRIORITY = 2  # see `Proposal.priority`
STANDS_S = 10.0  # the stage held, if nothing new comes
HEADWAY_S = 2.0  # of the queue before it
UNSEEN_S = 4.0  # so long a junction is held for a vehicle that nobody sees: it is crossing, or a sensor blinked
RED_MARGIN_S = 5.0  # before a waiting link would miss its longest red, the junction is given back
PERMISSIVE_WORTH = 0.6  # of a green that has to give way, beside one that has not
CLEARING_WORTH_S = 4.0  # seconds of waiting that it is worth to open the whole street an emergency vehicle comes by


@dataclass(slots=True)
class _Claim:
    """A junction to be held for one vehicle."""

    call: Call
    target: str
    seen_s: float
    began_s: float = np.inf  # it was first held


@dataclass(frozen=True, slots=True)
class _Recovery:
    from_s: float
    waited: Bools  # (K,) links that were kept red


class Preemption:
    """Wraps a controller; what it adds are proposals as any other, for the arbiter to prove.

    The weights alone turn most lamps in time. Where the controller's own plan does not, the junction goes over to the
    stage that opens an emergency vehicle's way so early that it is green, and those before the vehicle are gone,
    `margin_s` before it can be there, minimum greens and clearances kept. It is held until the vehicle has passed or
    `limit_s` are over, and given back for a while where somebody would wait beyond the longest red. Of several
    vehicles at a junction the first to claim it goes first. Then those who were kept waiting weigh more for
    `recovery_s`. The controller's own proposal stands in where one of these is refused.

    Bind it outside of everything else (`Preemption(Chain(RollingHorizon))`): weights pass through, and an
    emergency vehicle gets through on sensors that are too thin for the rest.
    """

    def __init__(self, network: Network, controller: Controller, policy: Policy) -> None:
        self.name = controller.name
        self.policy = policy
        self._network, self._controller = network, controller
        self._lines = build_stop_lines(network)
        self._ways = EmergencyWays(network, self._lines)
        self._states: dict[int, tuple[str, ...]] = {}
        self._claims: dict[tuple[int, int], _Claim] = {}  # by vehicle and signal
        self._recovering: dict[int, _Recovery] = {}

    def propose(
        self,
        state: NetworkState,
        forecast: Forecast | None,
        lamps: Sequence[LampRecord | None],
        *,
        valid_from_s: float,
    ) -> Sequence[Proposal]:
        weighted = replace(state, vehicles=self._weighed(state.vehicles, lamps, valid_from_s))
        usual = self._controller.propose(weighted, forecast, lamps, valid_from_s=valid_from_s)
        plans = {proposal.plan.signal: proposal.plan for proposal in usual}
        return [*usual, *self._clear_ways(state.vehicles, lamps, plans, valid_from_s)]

    @property
    def held(self) -> dict[int, int]:
        """Signal -> vehicle, of the claims of the last cycle."""
        return {signal: vehicle for vehicle, signal in self._claims}

    def _clear_ways(
        self,
        table: VehicleTable,
        lamps: Sequence[LampRecord | None],
        plans: Mapping[int, SignalPlan],
        now_s: float,
    ) -> list[Proposal]:
        calls = self._ways.find(table, self.policy.emergency.junctions + 1)
        calls.sort(key=lambda call: (self._began_s(call), call.arrival_s))
        answered: dict[int, Proposal] = {}
        margin_s = self.policy.emergency.margin_s
        for call in calls:
            record = lamps[call.signal]
            if record is not None and call.signal not in answered:
                claim = self._claim(call, record, now_s)
                if claim is not None and not _is_served(call, plans.get(call.signal), now_s, margin_s):
                    self._answer(claim, record, now_s, answered)
        on_way = {(call.vehicle, call.signal) for call in calls}
        seen = {call.vehicle for call in calls}
        for key, claim in list(self._claims.items()):
            if key in on_way:
                continue
            record = lamps[claim.call.signal]
            if key[0] in seen or now_s - claim.seen_s > UNSEEN_S:
                self._release(key, now_s)
            elif record is not None and np.isfinite(claim.began_s) and claim.call.signal not in answered:
                self._answer(claim, record, now_s, answered)
        return [answered[signal] for signal in sorted(answered)]

    def _began_s(self, call: Call) -> float:
        claim = self._claims.get((call.vehicle, call.signal))
        return np.inf if claim is None else claim.began_s

    def _claim(self, call: Call, record: LampRecord, now_s: float) -> _Claim | None:
        """The claim of this call, made when it is time; None: not yet."""
        terms, key = self.policy.emergency, (call.vehicle, call.signal)
        claim = self._claims.get(key)
        if claim is not None:
            claim.seen_s = now_s
            if claim.call.links != call.links:
                claim.target = self._target(call, record, now_s) or claim.target
            if claim.call.beside != call.beside:  # past one stop line of a signal that has another on the way
                claim.began_s = np.inf
            claim.call = call
            return claim
        if call.arrival_s > terms.ahead_s:
            return None
        target = self._target(call, record, now_s)
        if target is None:
            return None
        change_s = length_s(settle(self._network.signals[call.signal], record, target, now_s))
        if call.arrival_s > change_s + HEADWAY_S * call.ahead_veh + terms.margin_s:
            return None
        claim = self._claims[key] = _Claim(call, target, now_s)
        return claim

    def _answer(self, claim: _Claim, record: LampRecord, now_s: float, answered: dict[int, Proposal]) -> None:
        """Put the plan for a claim among those answered, unless its time is over or somebody else's red is."""
        index = claim.call.signal
        signal = self._network.signals[index]
        deadline_s = latest_end_s(signal, record, claim.target, now_s)
        change = settle(signal, record, claim.target, now_s)
        room_s = rules_of(signal).shortest_wait_s + RED_MARGIN_S
        if now_s - claim.began_s > self.policy.emergency.limit_s:
            self._recovering.setdefault(index, _Recovery(now_s, _red_links(claim.target)))
            return
        if deadline_s < now_s + room_s:
            return
        claim.began_s = min(claim.began_s, now_s)
        steps = (*change, LampStep(claim.target, STANDS_S))
        plan = SignalPlan(
            signal=index,
            signal_id=signal.id,
            steps=steps,
            valid_from_s=now_s,
            valid_until_s=min(now_s + length_s(steps), deadline_s),
            source=f"{self.name}, preempted",
            reason=(
                f"emergency vehicle in {claim.call.arrival_s:.0f} s to links {','.join(map(str, claim.call.links))}, "
                f"{claim.call.ahead_veh:.0f} before it, held for {now_s - claim.began_s:.0f} s"
            ),
        )
        answered[index] = Proposal(plan, 0.0, 0.0, 1.0 + claim.call.ahead_veh, PRIORITY)

    def _release(self, key: tuple[int, int], now_s: float) -> None:
        claim = self._claims.pop(key)
        if np.isfinite(claim.began_s):
            self._recovering[key[1]] = _Recovery(now_s, _red_links(claim.target))

    def _target(self, call: Call, record: LampRecord, now_s: float) -> str | None:
        """The stage that opens the way best; among equals soon, and for the whole street. None: no stage opens it."""
        signal = self._network.signals[call.signal]
        states = self._states.get(call.signal)
        if states is None:
            states = tuple(dict.fromkeys([*(s.state for s in signal.stages), *further_stages(self._network, signal)]))
            self._states[call.signal] = states
        worth = [float(np.mean([_worth(state[k]) for k in call.links])) for state in states]
        best = max(worth, default=0.0)
        if best <= 0.0:
            return None

        def gain_s(state: str) -> float:
            street = float(np.mean([_worth(state[k]) for k in call.beside]))
            return CLEARING_WORTH_S * street - length_s(settle(signal, record, state, now_s))

        return max((s for s, w in zip(states, worth, strict=True) if w > best - 1e-9), key=gain_s)

    def _weighed(self, table: VehicleTable, lamps: Sequence[LampRecord | None], now_s: float) -> VehicleTable:
        """The table with the weight of each vehicle: by policy, capped where others wait long, amends added."""
        weight = weigh_vehicles(self.policy, table)
        rows = np.flatnonzero(self._lines.signal[table.lane] >= 0)
        if not len(rows):
            return replace(table, weight=weight)
        heading = VehicleTable(*(getattr(table, name)[rows] for name in _PLACED))
        signal = self._lines.signal[heading.lane]
        link = self._lines.link_offset[signal] + self._lines.movement_link[self._lines.pick_movements(heading)]
        red_frac, amends = self._past_of_links(lamps, now_s)
        waits = (heading.speed_mps < 1.0) & (red_frac[link] >= self.policy.limits.held_back_frac)
        pressed = np.bincount(signal[waits], minlength=len(self._network.signals))[signal] > 0
        capped = pressed & (heading.kind != EMERGENCY)
        weight[rows] = np.where(capped, np.minimum(weight[rows], self.policy.weights.car), weight[rows])
        weight[rows] *= amends[link]
        return replace(table, weight=weight)

    def _past_of_links(self, lamps: Sequence[LampRecord | None], now_s: float) -> tuple[Floats, Floats]:
        """Per link of all signals: red so far as a share of the longest allowed, and what its vehicles weigh more."""
        offset = self._lines.link_offset
        red_frac, amends = np.zeros(int(offset[-1])), np.ones(int(offset[-1]))
        for index, (signal, record) in enumerate(zip(self._network.signals, lamps, strict=True)):
            if record is not None:
                red = _red_links(record.state) & np.isfinite(record.since_s)
                since_s = np.where(red, record.since_s, now_s)
                red_frac[offset[index] : offset[index + 1]] = (now_s - since_s) / signal.max_red_s
        terms = self.policy.emergency
        for index, recovery in list(self._recovering.items()):
            left_frac = 1.0 - (now_s - recovery.from_s) / terms.recovery_s
            if left_frac <= 0.0:
                del self._recovering[index]
                continue
            span = slice(offset[index], offset[index + 1])
            amends[span] = np.where(recovery.waited, 1.0 + terms.recovery_gain * left_frac, 1.0)
        return red_frac, amends


_PLACED = (
    "id", "lane", "position_m", "speed_mps", "kind", "movement", "equipped", "destination_edge", "certainty", "age_s",
)  # fmt: skip


def _is_served(call: Call, plan: SignalPlan | None, now_s: float, margin_s: float) -> bool:
    """Would the plan show green by itself, from `margin_s` before the vehicle comes until it is over the line?"""
    if plan is None:
        return False
    from_s = int(max(call.arrival_s - margin_s, 0.0))
    to_s = int(call.arrival_s + HEADWAY_S * (call.ahead_veh + 1.0))
    if now_s + to_s >= plan.valid_until_s:
        return False
    states = [plan.state_at(now_s + second) for second in range(from_s, to_s + 1)]
    return all(state[link] in GREEN for state in states for link in call.links)


def latest_end_s(signal: Signal, record: LampRecord, target: str, now_s: float) -> float:
    """Until when the target may stand: no link that it keeps red waits for longer than allowed by then."""
    rules = rules_of(signal)
    red = rules.served & _red_links(target)
    if not red.any():
        return np.inf
    closed = _red_links(record.state) & np.isfinite(record.since_s)
    since_s = np.where(closed, record.since_s, now_s)
    return float(np.floor((since_s[red] + rules.max_red_s).min()))


def _red_links(state: str) -> Bools:
    return np.array([lamp == "r" for lamp in state])


def _worth(lamp: str) -> float:
    return 1.0 if lamp == "G" else PERMISSIVE_WORTH if lamp == "g" else 0.0
