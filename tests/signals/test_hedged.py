"""Several draws of unknown turns vote by their regrets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from networks.state import Estimate, NetworkState, VehicleTable
from signals.controllers.hedged import Hedged
from signals.lamps import LampRecord
from signals.plan import LampStep, Proposal, SignalPlan
from tests.twin.one_street import T0_S, street

GREEN, RED = "G", "r"


class Scripted:
    """Answers the k-th question with the k-th (next state, regret)."""

    name = "scripted"

    def __init__(self, answers: Sequence[tuple[str, float]]) -> None:
        self._answers = list(answers)
        self.asked: list[NetworkState] = []

    def propose(self, state, forecast, lamps, *, valid_from_s):
        target, regret_veh_s = self._answers[len(self.asked)]
        self.asked.append(state)
        if lamps[0] is None:
            return []
        plan = SignalPlan(0, "J", (LampStep(target, 10.0),), valid_from_s, valid_from_s + 10.0)
        return [Proposal(plan, 5.0, 5.0 + regret_veh_s, 1.0)]


def state_with(table: VehicleTable) -> NetworkState:
    unknown = Estimate.unknown
    share = Estimate(np.ones(1), np.zeros(1), np.zeros(1), np.ones(1, np.bool_))
    two = unknown(2)
    return NetworkState(T0_S, two, two, two, two, two, share, table, (None,), 1.0, ())


def elected(answers: Sequence[tuple[str, float]], shown: str = GREEN) -> list[Proposal]:
    controller = Scripted(answers)
    hedged = Hedged(street(), controller, worlds=len(answers))
    return list(
        hedged.propose(state_with(VehicleTable.empty()), None, [LampRecord.start(shown, T0_S)], valid_from_s=T0_S + 1)
    )


def test_one_strong_regret_outweighs_two_weak_ones():
    assert elected([(GREEN, 1.0), (GREEN, 2.0), (RED, 10.0)])[0].plan.steps[0].state == RED
    assert elected([(GREEN, 6.0), (GREEN, 7.0), (RED, 10.0)])[0].plan.steps[0].state == GREEN


def test_unanimous_worlds_are_followed():
    assert elected([(RED, 0.0)] * 3)[0].plan.steps[0].state == RED
    assert elected([(GREEN, 0.0)] * 3)[0].plan.steps[0].state == GREEN


def test_inside_an_intergreen_the_elected_change_is_completed_and_nobody_asked():
    controller = Scripted([(RED, 1.0), (RED, 1.0), (GREEN, 9.0), (GREEN, 9.0)])
    hedged = Hedged(street(), controller, worlds=2)
    state = state_with(VehicleTable.empty())
    lamps = LampRecord.start(GREEN, T0_S)
    hedged.propose(state, None, [lamps], valid_from_s=T0_S + 1)
    (proposal,) = hedged.propose(state, None, [lamps.then("y", T0_S + 1)], valid_from_s=T0_S + 2)
    assert [step.state for step in proposal.plan.steps] == ["y", RED]


def test_known_turns_stay_and_drawn_ones_follow_the_shares():
    network = street()
    hedged = Hedged(network, Scripted([]), worlds=4)
    count = 400
    hedged._ways = np.array([3, 0])  # as if lane 0 had three turns, movements 0..2
    hedged._first, hedged._of_lane = np.array([0, 3]), np.array([0, 1, 2], np.int32)
    zeros, floats = np.zeros(count, np.int32), np.zeros(count)
    sure = np.arange(count) % 2 == 0
    table = VehicleTable(
        -np.arange(1, count + 1), zeros, floats, floats, zeros, zeros, np.zeros(count, np.bool_), zeros - 1,
        floats + 1.0, floats, sure,
    )  # fmt: skip
    share = np.array([0.5, 0.3, 0.2])
    none = np.zeros(3)
    state = state_with(table)
    state = NetworkState(
        T0_S, *(state.edge_flow_vps,) * 5, Estimate(share, none, none, none == 0), table, (None,), 1.0, ()
    )
    drawn = [hedged._draw(state, world).vehicles.movement for world in range(4)]
    assert all((d[sure] == 0).all() for d in drawn)
    mixed = np.concatenate([d[~sure] for d in drawn[1:]])
    assert np.bincount(mixed, minlength=3) / len(mixed) == pytest.approx(share, abs=0.05)
    assert (drawn[1][~sure] != drawn[2][~sure]).any()
