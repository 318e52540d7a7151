"""A controller asked about several worlds: turns that nobody knows are drawn anew in each, and the regrets add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from networks.graph import Floats, Ints, Network
from networks.state import Forecast, NetworkState
from signals.controllers.approaches import GOLDEN
from signals.controllers.base import Controller
from signals.lamps import LampRecord
from signals.plan import LampStep, Proposal, SignalPlan
from signals.transitions import is_stage, length_s, settle

STANDS_S = 15.0  # a stage that has been changed to, if nothing new comes


@dataclass(frozen=True, slots=True)
class _Vote:
    """What one world says of one junction."""

    proposal: Proposal
    changes: bool  # the lamps at once
    regret_veh_s: float  # what doing the opposite would cost


class Hedged:
    """Asks a controller in `worlds` worlds and lets them vote on "change now" against "not yet", by their regrets.

    On lanes that several turns share nobody knows who will take which. A plan made for one draw of the turns trusts
    it: it keeps a green for a first driver who in truth has red. The sum of the regrets over draws is the difference
    of the expected costs, so the vote follows the expectation and not one draw (sample average approximation,
    Kleywegt, Shapiro and Homem-de-Mello 2002). A proposal's regret is `next_best_veh_s - cost_veh_s`.

    Inside an intergreen the controller is not asked: the change that was elected is completed.
    """

    def __init__(self, network: Network, controller: Controller, *, worlds: int = 3) -> None:
        self.name = controller.name
        self._network, self._controller, self._worlds = network, controller, worlds
        self._elected: dict[int, str] = {}  # stage that the plan elected last leads to
        rows = network.lane_movements
        self._ways = np.diff(rows.offsets)
        self._first, self._of_lane = rows.offsets[:-1], rows.values.astype(np.int32)

    def propose(
        self,
        state: NetworkState,
        forecast: Forecast | None,
        lamps: Sequence[LampRecord | None],
        *,
        valid_from_s: float,
    ) -> Sequence[Proposal]:
        steady = [r if r is not None and is_stage(r.state) else None for r in lamps]
        votes: defaultdict[int, list[_Vote]] = defaultdict(list)
        for world in range(self._worlds):
            drawn = self._draw(state, world)
            for proposal in self._controller.propose(drawn, forecast, steady, valid_from_s=valid_from_s):
                record = steady[proposal.plan.signal]
                assert record is not None
                changes = proposal.plan.steps[0].state != record.state
                regret_veh_s = max(0.0, proposal.next_best_veh_s - proposal.cost_veh_s)
                votes[proposal.plan.signal].append(_Vote(proposal, changes, regret_veh_s))
        elected = [_elect(votes[signal]) for signal in sorted(votes)]
        self._elected |= {p.plan.signal: p.plan.steps[-1].state for p in elected}
        moving = [
            self._completed(signal, record, self._elected[signal], valid_from_s)
            for signal, record in enumerate(lamps)
            if record is not None and not is_stage(record.state) and signal in self._elected
        ]
        return [*elected, *moving]

    def _completed(self, index: int, record: LampRecord, target: str, valid_from_s: float) -> Proposal:
        signal = self._network.signals[index]
        steps = (*settle(signal, record, target, valid_from_s), LampStep(target, STANDS_S))
        plan = SignalPlan(
            signal=index,
            signal_id=signal.id,
            steps=steps,
            valid_from_s=valid_from_s,
            valid_until_s=valid_from_s + length_s(steps),
            source=self.name,
            reason="completing the change of stage",
        )
        return Proposal(plan, 0.0, 0.0, 0.0)

    def _draw(self, state: NetworkState, world: int) -> NetworkState:
        """The state with other turns for those vehicles whose turn is a draw; world 0 is the state as it is."""
        table = state.vehicles
        if world == 0 or table.movement_sure is None:
            return state
        rows = np.flatnonzero(~table.movement_sure & (table.movement >= 0) & (self._ways[table.lane] > 1))
        if not len(rows):
            return state
        number = np.abs(table.id[rows] % (1 << 20)).astype(np.float64)  # pseudonyms are too long for a float
        mark = np.mod(number * GOLDEN + world / self._worlds, 1.0)
        movement = table.movement.copy()
        movement[rows] = self._by_share(table.lane[rows], mark, state.movement_share.value)
        return replace(state, vehicles=replace(table, movement=movement))

    def _by_share(self, lane: Ints, mark: Floats, share: Floats) -> Ints:
        """The movement of each lane (N,) at which the running sum of its shares passes the mark (N,) in [0, 1)."""
        running = np.concatenate([[0.0], np.cumsum(np.maximum(share[self._of_lane], 1e-9))])
        begin, ways = self._first[lane].astype(np.int64), self._ways[lane].astype(np.int64)
        level = running[begin] + mark * (running[begin + ways] - running[begin])
        at = np.searchsorted(running, level, side="right") - 1
        chosen: Ints = self._of_lane[np.clip(at, begin, begin + ways - 1)]
        return chosen


def _elect(votes: Sequence[_Vote]) -> Proposal:
    """Of the side with the larger sum of regrets, the proposal whose next state has the most behind it."""
    balance = sum(v.regret_veh_s if v.changes else -v.regret_veh_s for v in votes)
    changes = balance > 0.0 or all(v.changes for v in votes)
    side = [v for v in votes if v.changes == changes] or list(votes)
    behind: defaultdict[str, float] = defaultdict(float)
    for vote in side:
        behind[vote.proposal.plan.steps[-1].state] += vote.regret_veh_s + 1e-6
    target = max(behind, key=lambda state: behind[state])
    return next(v.proposal for v in side if v.proposal.plan.steps[-1].state == target)
