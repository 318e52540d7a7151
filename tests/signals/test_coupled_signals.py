"""Signals a dozen metres apart planned as one: same rules, and whoever stays between them is followed to the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from networks.readers.sumo import read_sumo
from signals.controllers import coupled_signals
from signals.controllers.coupled_signals import find_pairs, join_models, join_signals
from signals.controllers.junction_choice import build_model
from signals.controllers.rolling_horizon import ApproachRows, LaneRoom, RollingHorizon
from signals.lamps import LampRecord
from signals.rules import rules_of
from signals.safety import find_violations
from tests.signals.drawn_junctions import close_pair_net, crossroads

NOW_S = 1_772_000_000.0
PAIR = read_sumo(close_pair_net())
MODELS = [build_model(PAIR, i) for i in range(2)]


def test_only_signals_with_next_to_nothing_between_them_are_planned_as_one(monkeypatch):
    assert find_pairs(PAIR, MODELS) == [(0, 1)]
    assert find_pairs(crossroads(), [build_model(crossroads(), 0)]) == []
    monkeypatch.setattr(coupled_signals, "COUPLED_VEH", 1.0)
    assert find_pairs(PAIR, MODELS) == []


def test_a_pair_keeps_the_rules_of_each_and_knows_none_between_them():
    a, b = (rules_of(s) for s in PAIR.signals)
    both = rules_of(join_signals(*PAIR.signals))
    count = PAIR.signals[0].link_count
    for name in ("clear_s", "conflicts", "meets", "both_major", "major_minor", "pairs"):
        whole = getattr(both, name)
        np.testing.assert_array_equal(whole[:count, :count], getattr(a, name))
        np.testing.assert_array_equal(whole[count:, count:], getattr(b, name))
        assert not whole[:count, count:].any()
        assert not whole[count:, :count].any()


def test_every_combination_of_their_stages_is_a_stage_of_the_pair():
    model = join_models(PAIR, *MODELS)
    a, b = (m.stage_states for m in MODELS)
    assert set(model.stage_states) == {x + y for x in a for y in b}
    between = [PAIR.lanes.ids[lane] for lane, out in zip(model.lanes, model.layout.lane_out, strict=True) if out >= 0]
    assert sorted(between) == ["a_b_0", "a_b_1", "b_a_0", "b_a_1"]


def eastward(count: int) -> ApproachRows:
    """Cars at rest on the left lane before signal a that go on to signal b and turn left there."""
    moves = PAIR.movements
    lanes = PAIR.lanes.ids
    first = next(
        m
        for m in range(len(moves.turn))
        if (lanes[moves.from_lane[m]], lanes[moves.to_lane[m]]) == ("w_a_1", "a_b_1")
    )
    second = next(
        m
        for m in range(len(moves.turn))
        if (lanes[moves.from_lane[m]], lanes[moves.to_lane[m]]) == ("a_b_1", "b_bn_0")
    )
    column = np.ones(count)
    return ApproachRows(
        signal=np.full(count, moves.signal[first]),
        link=np.full(count, moves.link[first]),
        movement=np.full(count, first),
        distance_m=7.5 * np.arange(count) + 1.0,
        arrival_s=np.zeros(count),
        wait_s=5.0 * column,
        weight=column,
        stopped=np.ones(count, np.bool_),
        onward_signal=np.full(count, moves.signal[second]),
        onward_link=np.full(count, moves.link[second]),
        onward_m=26.0 * column,
    )


def empty_room() -> LaneRoom:
    count = len(PAIR.lanes.ids)
    return LaneRoom(np.zeros(count), np.ones(count))


def standing_reds() -> list[LampRecord]:
    """Both signals in a stage that lets the side streets go."""
    states = []
    for model in MODELS:
        along = [k for k in range(model.signal.link_count) if is_along(model.signal.link_movements[k])]
        states.append(next(s for s in model.stage_states if all(s[k] == "r" for k in along)))
    return [
        replace(
            LampRecord.start(s, NOW_S - 60.0), green_from_s=np.where([c in "Gg" for c in s], NOW_S - 20.0, -np.inf)
        )
        for s in states
    ]


def is_along(movements) -> bool:
    return any(PAIR.lanes.ids[PAIR.movements.from_lane[m]][:3] in ("w_a", "a_b", "b_a", "e_b") for m in movements)


def test_who_comes_in_is_let_out_again():
    """Six cars turn left behind a link that holds one: the pair opens both stop lines for them, safely."""
    controller = RollingHorizon(PAIR)
    rows, records = eastward(6), standing_reds()
    proposals = controller.plan(rows, empty_room(), records, valid_from_s=NOW_S)
    assert len(proposals) == 2
    for proposal, signal, record in zip(proposals, PAIR.signals, records, strict=True):
        assert find_violations(proposal.plan, signal, record) == []
        link = int(rows.link[0] if proposal.plan.signal == rows.signal[0] else rows.onward_link[0])
        assert proposal.plan.steps[-1].state[link] in "Gg"
    choice, _ = next(iter(controller._chosen.values()))
    crossed = np.sort(choice.crossing_s[choice.crossing_s < 60.0])
    assert len(crossed) >= 8  # of twelve stop lines


@pytest.mark.parametrize("missing", [0, 1])
def test_one_whose_partner_is_out_of_sight_is_planned_alone(missing):
    controller = RollingHorizon(PAIR)
    records: list[LampRecord | None] = [*standing_reds()]
    records[missing] = None
    proposals = controller.plan(eastward(3), empty_room(), records, valid_from_s=NOW_S)
    assert [p.plan.signal for p in proposals] == [1 - missing]
