"""Drivers of unknown turn are counted on to go only where most of their lane's turns are open."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from networks.graph import Network
from networks.readers.sumo import read_sumo
from signals.controllers import junction_choice_kernels as kernels
from signals.controllers.approach_rows import ApproachRows, LaneRoom
from signals.controllers.junction_choice import JunctionModel, build_model
from signals.controllers.rolling_horizon import RollingHorizon
from signals.controllers.unsure_turns import with_twins
from signals.lamps import LampRecord
from tests.signals.drawn_junctions import crossroads as drawn_crossroads
from tests.signals.drawn_junctions import drawn_net

NOW_S = 1_772_000_000.0


@pytest.fixture(scope="module")
def crossroads() -> Network:
    return drawn_crossroads()


def shares_of(network: Network, first_frac: float) -> np.ndarray:
    """The first movement of each lane takes so much, the others share the rest."""
    shares = np.zeros(len(network.movements.turn))
    for lane in range(len(network.lanes.ids)):
        moves = np.asarray(network.lane_movements[lane], np.int64)
        if len(moves):
            shares[moves] = (1.0 - first_frac) / max(len(moves) - 1, 1)
            shares[moves[0]] = first_frac if len(moves) > 1 else 1.0
    return shares


@pytest.mark.parametrize("first_frac", [0.1, 0.5, 0.9])
def test_twins_are_open_where_enough_of_the_lane_is(crossroads, first_frac):
    plain = build_model(crossroads, 0)
    shares = shares_of(crossroads, first_frac)
    model, twin_of = with_twins(plain, crossroads, shares, 0.75)
    stages, lane = plain.layout.stages, plain.layout.link_lane
    shared = [k for k in range(len(lane)) if lane[k] >= 0 and (lane == lane[k]).sum() > 1]
    assert shared
    for k in range(len(lane)):
        if k not in shared:
            assert twin_of[k] == k
            continue
        assert model.link_of[twin_of[k]] == plain.link_of[k]
        for s in range(len(stages)):
            opened = sum(
                shares[plain.movement[j]]
                for j in range(len(lane))
                if lane[j] == lane[k] and stages[s, j] != kernels.CLOSED
            )
            expected = stages[s, k] if opened >= 0.75 - 1e-6 else kernels.CLOSED
            assert model.layout.stages[s, twin_of[k]] == expected
    assert_sound(model)


def assert_sound(model: JunctionModel) -> None:
    layout, count = model.layout, len(model.link_of)
    assert layout.stages.shape[1] == layout.tail_s.shape[2] == len(layout.link_lane) == len(layout.link_out) == count
    assert layout.clear_s.shape == (count, count)
    assert len(layout.yields_first) == count + 1
    assert layout.yields_first[-1] == len(layout.yields_to)


def test_twins_give_way_and_are_given_way_to(crossroads):
    plain = build_model(crossroads, 0)
    model, twin_of = with_twins(plain, crossroads, None, 0.75)

    def foes(layout: kernels.Layout, k: int) -> set[int]:
        return set(layout.yields_to[layout.yields_first[k] : layout.yields_first[k + 1]].tolist())

    for k in range(len(plain.link_of)):
        both = {t for foe in foes(plain.layout, k) for t in (foe, int(twin_of[foe]))}
        assert foes(model.layout, k) == foes(model.layout, int(twin_of[k])) == both


def test_without_a_threshold_guesses_are_trusted(crossroads):
    plain = build_model(crossroads, 0)
    model, twin_of = with_twins(plain, crossroads, None, 0.0)
    assert model is plain
    assert twin_of.tolist() == list(range(len(plain.link_of)))


def test_a_queue_of_unknown_turns_gets_its_lane_opened_whole(crossroads):
    """From all red long ago: whichever lane the queue stands in, the stage chosen opens at least 3/4 of its turns."""
    shares = shares_of(crossroads, 0.5)
    plain = build_model(crossroads, 0)
    lane = plain.layout.link_lane
    for a in range(len(plain.lanes)):
        streams = np.flatnonzero(lane == a)
        if len(streams) < 2:
            continue
        horizon = RollingHorizon(crossroads, shares=shares)
        rows = _queue(plain, int(streams[0]), 6)
        room = LaneRoom(np.zeros(len(crossroads.lanes.ids)), np.ones(len(crossroads.lanes.ids)))
        closed = [s for s in range(len(plain.layout.stages)) if not plain.layout.stages[s, streams].any()]
        state = plain.stage_states[closed[0]]
        record = LampRecord.start(state, NOW_S - 50.0)
        answer = horizon.plan(rows, room, [record], valid_from_s=NOW_S)
        target = plain.stage_of[answer[0].plan.steps[-1].state]
        is_open = plain.layout.stages[target, streams] != kernels.CLOSED
        assert shares[plain.movement[streams]][is_open].sum() >= 0.75
        assert answer[0].served_veh > 1.0


def _queue(model: JunctionModel, stream: int, count: int) -> ApproachRows:
    none = np.full(count, -1, np.int32)
    rows = ApproachRows(
        signal=np.zeros(count, np.int32),
        link=np.full(count, model.link_of[stream], np.int32),
        movement=np.full(count, model.movement[stream], np.int32),
        distance_m=1.0 + 7.5 * np.arange(count),
        arrival_s=np.zeros(count),
        wait_s=np.full(count, 20.0),
        weight=np.ones(count),
        stopped=np.ones(count, np.bool_),
        onward_signal=none,
        onward_link=none,
        onward_m=np.zeros(count),
    )
    return replace(rows, sure=np.zeros(count, np.bool_))


def test_a_signal_that_only_people_on_foot_obey_is_left_to_its_own_programme(tmp_path):
    net = tmp_path / "crossings.net.xml"
    drawn = drawn_net("nesw", "--sidewalks.guess", "true", "--crossings.guess", "true").read_text()
    net.write_text(re.sub(r'(<connection from="[^:][^>]*) tl="c" linkIndex="\d+"', r"\1", drawn))
    network = read_sumo(net)
    (signal,) = network.signals
    assert signal.pedestrian.any()
    assert not any(signal.link_movements)
    nobody = np.zeros(0, np.int32)
    rows = ApproachRows(nobody, nobody, nobody, *np.zeros((4, 0)), nobody > 0, nobody, nobody, np.zeros(0))
    room = LaneRoom(*np.zeros((2, len(network.lanes.ids))))
    lamps = [LampRecord.start(signal.stages[0].state, NOW_S - 30.0)]
    assert RollingHorizon(network).plan(rows, room, lamps, valid_from_s=NOW_S) == []
