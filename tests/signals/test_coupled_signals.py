"""Signals a dozen metres apart planned as one: same rules, and whoever stays between them is followed to the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from networks.readers.sumo import read_sumo
from signals.controllers import coupled_signals
from signals.controllers.approach_rows import ApproachRows, LaneRoom
from signals.controllers.coupled_signals import (
    ROOM_KNOWN_VEH,
    find_knots,
    find_pairs,
    join_models,
    join_signals,
)
from signals.controllers.junction_choice import build_model
from signals.controllers.rolling_horizon import RollingHorizon
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


def lets_in_without_way_on(state: str, way: str) -> bool:
    """Does this stage of both let vehicles onto a left lane between the signals whose turn has no protected green?"""
    model = join_models(PAIR, *MODELS)
    moves, lanes = PAIR.movements, PAIR.lanes.ids
    lamp = [(lanes[moves.from_lane[m]], lanes[moves.to_lane[m]], state[k])
            for m, k in zip(model.movement, model.link_of, strict=True) if m >= 0]  # fmt: skip
    left = f"{way}_1"
    comes = any(c in "Gg" for _, to, c in lamp if to == left)
    return comes and any(c != "G" for of, _, c in lamp if of == left)


def test_two_queues_between_them_never_get_into_each_others_way():
    """Behind sensors: onto the left lanes of both directions at once only with a protected way on for one of them."""
    model = join_models(PAIR, *MODELS)
    knots = find_knots(PAIR, model, PAIR.signals[0].link_count, ROOM_KNOWN_VEH)
    assert knots is not None
    names = [{PAIR.lanes.ids[lane] for lane in lanes} for lanes in knots.lanes]
    assert "b_a_1" in names[0]
    assert "a_b_1" in names[1]
    vehicles = np.zeros(len(PAIR.lanes.ids))
    shunned = knots.open_stages(vehicles, guesses=True)
    stages = [s for s, is_open in zip(model.stage_states, shunned, strict=True) if is_open]
    assert any(lets_in_without_way_on(s, "a_b") for s in stages)
    assert not any(lets_in_without_way_on(s, "a_b") and lets_in_without_way_on(s, "b_a") for s in stages)
    vehicles[PAIR.lane_index["b_a_1"]] = 1.0
    shunned = knots.open_stages(vehicles, guesses=True)
    stages = [s for s, is_open in zip(model.stage_states, shunned, strict=True) if is_open]
    assert stages
    assert not any(lets_in_without_way_on(s, "a_b") for s in stages)


def test_where_turns_are_known_a_full_lane_keeps_the_other_direction_out_and_one_vehicle_does_not():
    model = join_models(PAIR, *MODELS)
    knots = find_knots(PAIR, model, PAIR.signals[0].link_count, ROOM_KNOWN_VEH)
    assert knots is not None
    vehicles = np.zeros(len(PAIR.lanes.ids))
    vehicles[PAIR.lane_index["b_a_1"]] = 1.0
    assert knots.open_stages(vehicles, guesses=False).all()
    vehicles[PAIR.lane_index["b_a_1"]] = 2.0
    kept = knots.open_stages(vehicles, guesses=False)
    stages = [s for s, is_open in zip(model.stage_states, kept, strict=True) if is_open]
    assert stages
    assert not any(lets_in_without_way_on(s, "a_b") for s in stages)
    assert any(lets_in_without_way_on(s, "b_a") for s in stages)


def test_a_driver_who_stands_between_them_keeps_the_other_direction_out_until_its_way_on_is_free():
    controller, rows, records = RollingHorizon(PAIR, guesses=True), eastward(6), standing_reds()
    room = empty_room()
    room.vehicles[PAIR.lane_index["b_a_1"]] = 1.0
    proposals = controller.plan(rows, room, records, valid_from_s=NOW_S)
    both = "".join(p.plan.steps[-1].state for p in sorted(proposals, key=lambda p: p.plan.signal))
    assert not lets_in_without_way_on(both, "a_b")
    for proposal, signal, record in zip(proposals, PAIR.signals, records, strict=True):
        assert find_violations(proposal.plan, signal, record) == []


def test_signals_with_room_enough_between_them_tie_no_knot():
    assert find_knots(PAIR, join_models(PAIR, *MODELS), PAIR.signals[0].link_count, 1.0) is None


def test_signals_whose_ways_never_cross_tie_no_knot():
    model = join_models(PAIR, *MODELS)
    apart = replace(model, signal=replace(model.signal, foes=np.zeros_like(model.signal.foes)))
    assert find_knots(PAIR, apart, PAIR.signals[0].link_count, ROOM_KNOWN_VEH) is None
