"""How far down to go at each junction when its sensors say too little. See `Chain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from networks.graph import MOTOR, Bools, Network
from networks.sensors import approach_edges
from networks.state import Forecast, NetworkState
from signals.controllers.base import Controller
from signals.lamps import LampRecord
from signals.plan import Proposal
from signals.thin_approaches import ThinApproaches

FRESH_S = 15.0  # evidence of an approach that sensors follow is never older
SEEN_VARIANCE = (2.0, 1.0)  # of a lane's vehicles: at most a + b * vehicles where sensors follow them
LEAST_SEEN_FRAC = 0.5  # of a junction's flow; below, live control does not pay beside a fixed plan
MARGIN_FRAC = 0.1  # so much more is asked for before a junction goes up again
DOWN_AFTER_S, UP_AFTER_S = 20.0, 60.0  # a junction goes down, or up again, after so long


class Level(IntEnum):
    """What is known of a junction, or of one approach to it."""

    VEHICLES = 0  # sensors follow the vehicles
    QUEUES = 1  # sensors are thin: queues estimated from mean flows and the lamps
    FIXED = 2  # not even flows: the fixed plan


@dataclass(frozen=True, slots=True)
class Standing:
    """One junction: its level, the share of its flow that sensors follow, and the approaches that they do not."""

    level: Level
    seen_frac: float
    thin: tuple[int, ...]  # dense edges
    blind: tuple[int, ...]


class Chain:
    """Lets a controller plan where sensors tell enough, and steps back junction by junction where they do not.

    1. Every approach is followed by sensors (loops, a roadside unit, or all that drives in is counted before): the
       controller plans on the vehicles.
    2. Some approaches are not, but their mean flow is known (a prior, neighbours, the demand): expected queues and
       arrivals take the place of their vehicles, if at least `LEAST_SEEN_FRAC` of the flow is followed.
    3. Else nothing is proposed: the signal goes back to its own programme, which may be a retimed one.

    The reason of a plan on level 2 names the approaches. `standings` tells every junction's level.
    """

    def __init__(self, network: Network, controller: Controller, *, least_seen_frac: float = LEAST_SEEN_FRAC) -> None:
        self.name = controller.name
        self._network, self._controller, self._least = network, controller, least_seen_frac
        motor = (network.lanes.allowed & MOTOR) != 0
        first = network.edges.first_lane
        self._approaches: list[list[int]] = [[] for _ in network.signals]
        for edge, signal in approach_edges(network).items():
            if motor[first[edge] : first[edge + 1]].any():
                self._approaches[signal].append(edge)
        self._motor = motor
        self._thin = ThinApproaches(network)
        self._levels = [Level.FIXED] * len(network.signals)
        self._since_s: list[float | None] = [None] * len(network.signals)  # another level was found from then on
        self._begun = [False] * len(network.signals)  # sensors have followed everything there before
        self.standings: tuple[Standing, ...] = ()

    def propose(
        self,
        state: NetworkState,
        forecast: Forecast | None,
        lamps: Sequence[LampRecord | None],
        *,
        valid_from_s: float,
    ) -> Sequence[Proposal]:
        self.standings = tuple(self._settle(i, s, state.now_s) for i, s in enumerate(self.rate(state)))
        thin = np.zeros(len(self._network.edges.ids), np.bool_)
        for standing in self.standings:
            if standing.level == Level.QUEUES:
                thin[list(standing.thin)] = True
        filled = self._thin.fill(state, thin, lamps)
        live = [r if s.level < Level.FIXED else None for r, s in zip(lamps, self.standings, strict=True)]
        proposals = self._controller.propose(filled, forecast, live, valid_from_s=valid_from_s)
        return [self._explained(p) for p in proposals]

    def explain(self) -> tuple[str, ...]:
        """A line for every junction that is not on level 1."""
        edges = self._network.edges.ids
        lines = []
        for signal, s in zip(self._network.signals, self.standings, strict=True):
            if s.level != Level.VEHICLES:
                what = "own programme" if s.level == Level.FIXED else "queue estimates"
                where = ", ".join(edges[e] for e in (*s.thin, *s.blind))
                lines.append(
                    f"{signal.id}: {what}; sensors follow {100 * s.seen_frac:.0f} % of its flow, not {where}"
                )
        return tuple(lines)

    def rate(self, state: NetworkState) -> list[Standing]:
        """What is known of each junction now, by the variance, age and validity of the state."""
        followed = self._followed(state)
        flow_known = state.edge_flow_vps.valid & np.isfinite(state.edge_flow_vps.variance)
        weight = np.where(flow_known, state.edge_flow_vps.value, 0.0) + 1e-3
        answer = []
        for approaches in self._approaches:
            edges = np.array(approaches, np.intp)
            seen, known = followed[edges], flow_known[edges]
            thin = tuple(edges[~seen & known].tolist())
            blind = tuple(edges[~seen & ~known].tolist())
            seen_frac = float(weight[edges][seen].sum() / weight[edges].sum()) if len(edges) else 1.0
            if not thin and not blind:
                level = Level.VEHICLES
            elif blind or seen_frac < self._least:
                level = Level.FIXED
            else:
                level = Level.QUEUES
            answer.append(Standing(level, seen_frac, thin, blind))
        return answer

    def _followed(self, state: NetworkState) -> Bools:
        """(E,) sensors follow what is on every motor lane of the edge."""
        lanes = state.lane_vehicles
        limit = SEEN_VARIANCE[0] + SEEN_VARIANCE[1] * lanes.value
        good = lanes.valid & (lanes.age_s <= FRESH_S) & (lanes.variance <= limit)
        lost = np.bincount(self._network.lanes.edge, self._motor & ~good, len(self._network.edges.ids))
        answer: Bools = lost == 0
        return answer

    def _settle(self, signal: int, found: Standing, now_s: float) -> Standing:
        """The standing with the level that holds after the delays against flapping.

        A junction begins live only where sensors follow everything: the first flows are guesses.
        """
        if not self._begun[signal] and found.level == Level.VEHICLES:
            self._begun[signal] = True
            self._levels[signal] = found.level
        held = self._levels[signal]
        if held == Level.FIXED and found.level == Level.QUEUES and found.seen_frac < self._least + MARGIN_FRAC:
            found = replace(found, level=Level.FIXED)
        if found.level == held:
            self._since_s[signal] = None
            return found
        since_s = self._since_s[signal]
        if since_s is None:
            since_s = self._since_s[signal] = now_s
        if now_s - since_s >= (DOWN_AFTER_S if found.level > held else UP_AFTER_S):
            self._levels[signal], self._since_s[signal] = found.level, None
            return found
        # vehicles are never believed where nobody follows them, however short the loss
        level = Level.QUEUES if held == Level.VEHICLES and found.level > held else held
        return replace(found, level=level)

    def _explained(self, proposal: Proposal) -> Proposal:
        standing = self.standings[proposal.plan.signal]
        if standing.level == Level.VEHICLES:
            return proposal
        where = ", ".join(self._network.edges.ids[e] for e in standing.thin)
        plan = replace(proposal.plan, reason=f"{proposal.plan.reason}; sensors thin, queues estimated on {where}")
        return replace(proposal, plan=plan)
