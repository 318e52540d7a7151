"""Who cannot come is not waited for, and who stands inside the junction is let out before others start."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from networks.graph import STRAIGHT, Network
from networks.readers.sumo import read_sumo
from signals.controllers.approach_rows import ApproachRows, LaneRoom
from signals.controllers.approaches import build_stop_lines
from signals.controllers.caught import CAUGHT_S
from signals.controllers.junction_choice import ApproachView, Tuning, build_model, choose
from signals.controllers.rolling_horizon import RollingHorizon
from signals.lamps import GREEN, LampRecord
from signals.safety import find_violations
from tests.signals.drawn_junctions import convert, crossroads, tee

NOW_S = 1_772_000_000.0


@cache
def side_street() -> Network:
    """A signal at "c"; 45 m before it a side street gives way to the street that leads there from the west."""
    folder = Path(tempfile.mkdtemp(prefix="gap-"))
    places = {
        "w": (-300, 0),
        "g": (-45, 0),
        "s": (-45, -150),
        "c": (0, 0),
        "e": (200, 0),
        "n": (0, 200),
        "t": (0, -200),
    }
    nodes = "".join(
        f'<node id="{k}" x="{x}" y="{y}" type="{"traffic_light" if k == "c" else "priority"}"/>'
        for k, (x, y) in places.items()
    )
    edges = "".join(
        f'<edge id="{a}{b}" from="{a}" to="{b}" numLanes="1" speed="13.9" priority="{rank}"/>'
        for x, y, rank in (("w", "g", 7), ("g", "c", 7), ("s", "g", 1), ("c", "e", 7), ("n", "c", 5), ("t", "c", 5))
        for a, b in ((x, y), (y, x))
    )
    return read_sumo(convert(folder, nodes, edges))


def straight_from(network: Network, lane: str) -> int:
    """The link that goes straight on from a lane."""
    moves = network.lane_movements[network.lane_index[lane]]
    return next(int(network.movements.link[m]) for m in moves if network.movements.turn[m] == STRAIGHT)


def queues(network: Network, *, side: int, across: int, gap: bool = True, stopped: bool = True) -> ApproachRows:
    """`side` in the side street, first at its line; `across` stand at the signal's northern stop line."""
    lines = build_stop_lines(network)
    street = network.lane_index["sg_0"]
    distance_m = np.array(
        [*(lines.ahead_m[street] + 1.0 + 7.5 * np.arange(side)), *(1.0 + 7.5 * np.arange(across))], float
    )
    count = side + across
    link = [straight_from(network, "gc_0")] * side + [straight_from(network, "nc_0")] * across
    unknown = np.full(count, -1, np.int32)
    return ApproachRows(
        signal=np.zeros(count, np.int32),
        link=np.array(link, np.int32),
        movement=unknown,
        distance_m=distance_m,
        arrival_s=distance_m / 10.0,
        wait_s=np.zeros(count),
        weight=np.ones(count),
        stopped=np.array([stopped] * side + [True] * across),
        onward_signal=unknown,
        onward_link=unknown,
        onward_m=np.zeros(count),
        gap_lane=np.array([lines.gap_lane[street]] * side + [-1] * across, np.int32) if gap else None,
    )


def planned(network: Network, rows: ApproachRows, *, beyond: float = 0.0):
    """Steps and expected cost at a green for the street from the west; `beyond`: vehicles between line and signal."""
    vehicles = np.zeros(len(network.lanes.ids))
    vehicles[network.lane_index["gc_0"]] = beyond
    link = straight_from(network, "gc_0")
    stage = next(s.state for s in network.signals[0].stages if s.state[link] == "G")
    lamps = [LampRecord.start(stage, NOW_S - 40.0)]
    room = LaneRoom(vehicles, np.ones(len(vehicles)))
    (proposal,) = RollingHorizon(network).plan(rows, room, lamps, valid_from_s=NOW_S)
    return proposal.plan.steps, proposal.cost_veh_s


def test_a_side_street_gives_way_and_its_signal_does_not():
    network = side_street()
    lines, lane = build_stop_lines(network), network.lane_index
    assert lines.gap_lane[lane["sg_0"]] == lane["sg_0"]
    assert lines.gap_beyond[lane["sg_0"]] == lane["gc_0"]
    assert (lines.gap_lane[[lane[x] for x in ("wg_0", "gc_0", "nc_0", "ec_0", "tc_0")]] == -1).all()


def test_no_green_is_kept_for_a_queue_that_waits_for_its_gap():
    network = side_street()
    waiting = planned(network, queues(network, side=4, across=3))
    assert waiting == planned(network, queues(network, side=0, across=3))
    assert waiting != planned(network, queues(network, side=4, across=3, stopped=False))


def test_a_queue_that_reaches_back_over_the_line_waits_for_the_signal():
    network = side_street()
    full = planned(network, queues(network, side=4, across=3), beyond=7.0)
    assert full == planned(network, queues(network, side=4, across=3, gap=False), beyond=7.0)


@pytest.mark.parametrize("full", [False, True])
def test_nobody_starts_across_one_who_is_caught_inside_the_junction(full):
    """Where there is room beyond, others wait, 15 s at most. Before a full street nobody knows for how long."""
    network = crossroads()
    signal = network.signals[0]
    caught = next(
        m
        for k, moves in enumerate(signal.link_movements)
        for m in moves
        if network.movements.turn[m] == STRAIGHT and signal.stages[0].state[k] == "G"
    )
    link = int(network.movements.link[caught])
    lanes = len(network.lanes.ids)
    vehicles = np.zeros(lanes)
    vehicles[network.movements.to_lane[caught]] = 50.0 if full else 0.0
    inside = np.zeros(len(network.movements.turn))
    meets = np.flatnonzero(signal.conflicts[link])
    across = [
        k
        for k, moves in enumerate(signal.link_movements)
        if moves and network.movements.turn[moves[0]] == STRAIGHT and signal.conflicts[link, k]
    ]
    count = 4 * len(across)
    unknown = np.full(count, -1, np.int32)
    distance_m = np.tile(1.0 + 7.5 * np.arange(4), len(across))
    rows = ApproachRows(
        signal=np.zeros(count, np.int32),
        link=np.repeat(np.array(across, np.int32), 4),
        movement=unknown,
        distance_m=distance_m,
        arrival_s=distance_m / 10.0,
        wait_s=np.full(count, 30.0),
        weight=np.ones(count),
        stopped=np.ones(count, np.bool_),
        onward_signal=unknown,
        onward_link=unknown,
        onward_m=np.zeros(count),
    )

    def opens_after(caught_veh: float) -> int:
        controller = RollingHorizon(network)
        record = LampRecord.start(signal.stages[0].state, NOW_S - 40.0)
        now = inside.copy()
        now[caught] = caught_veh
        for second in range(60):
            room = LaneRoom(vehicles, np.ones(lanes), caught=now)
            proposals = controller.plan(rows, room, [record], valid_from_s=NOW_S + second)
            for proposal in proposals:
                assert not find_violations(proposal.plan, signal, record)
                record = record.then(proposal.plan.steps[0].state, NOW_S + second)
            if any(record.state[k] in GREEN and signal.stages[0].state[k] not in GREEN for k in meets):
                return second
        raise AssertionError("never opened")

    usual_s = opens_after(0.0)
    assert opens_after(1.0) == (usual_s if full else usual_s + CAUGHT_S)


def test_a_change_that_takes_nothing_from_anybody_is_not_put_off():
    """One who stands needs a second to the line, now and a second later: every second anew it would cost the same."""
    network = tee()
    model = build_model(network, 0)
    stages = model.layout.stages
    pairs = [
        (a, b, k)
        for a in range(len(stages))
        for b in range(len(stages))
        for k in np.flatnonzero((stages[a] == 0) & (stages[b] != 0) & (model.movement >= 0)).tolist()
        if model.layout.change_s[a, b] <= 0.0
    ]
    assert pairs
    for a, _, k in pairs:
        lane = model.layout.link_lane[k]
        lanes, outs, streams = len(model.lanes), len(model.outs), len(model.link_of)
        view = ApproachView(
            lane_first=np.where(np.arange(lanes + 1) > lane, 1, 0).astype(np.int64),
            arrival_s=np.array([1.0]),
            link=np.array([k]),
            weight=np.ones(1),
            stopped=np.ones(1, np.bool_),
            lane_fill=np.zeros(lanes),
            press=np.zeros(lanes),
            stalled_s=np.zeros(lanes),
            space_veh=np.full(outs, 20.0),
            refill_vps=np.full((outs, Tuning().horizon_s), 0.5),
            jam_frac=np.zeros(outs),
            inside=np.zeros(streams),
            walkers=np.zeros(streams),
            walker_rate=np.zeros(streams),
        )
        record = LampRecord.start(model.stage_states[a], NOW_S - 40.0)
        choice = choose(model, record, view, Tuning(), now_s=NOW_S)
        assert choice is not None
        assert choice.hold_s == 0.0
        assert stages[choice.target, k] != 0
