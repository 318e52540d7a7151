"""A roll-out that is taken up in its midst says what one from the start says: nothing is lost in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from networks.graph import Network
from networks.readers.sumo import read_sumo
from signals.controllers import junction_choice
from signals.controllers import junction_choice_kernels as kernels
from signals.controllers.approach_rows import ApproachRows, LaneRoom
from signals.controllers.rolling_horizon import RollingHorizon
from signals.lamps import LampRecord
from tests.signals.drawn_junctions import close_pair_net, crossroads

NOW_S = 1_772_000_000.0
START, SECOND, PARTING = 0, 1, 2  # rows of what is kept


def random_rows(network: Network, rng: np.random.Generator, count: int) -> ApproachRows:
    """Cars on the way to every stop line, half of them at rest, whose next turns nobody knows."""
    moves = network.movements
    movement = rng.choice(np.flatnonzero(moves.signal >= 0), count)
    distance_m = rng.uniform(0.0, 250.0, count)
    stopped = rng.random(count) < 0.5
    unknown = np.full(count, -1, np.int32)
    return ApproachRows(
        signal=moves.signal[movement],
        link=moves.link[movement],
        movement=movement.astype(np.int32),
        distance_m=distance_m,
        arrival_s=distance_m / 12.0,
        wait_s=np.where(stopped, 20.0, 0.0),
        weight=np.ones(count),
        stopped=stopped,
        onward_signal=unknown,
        onward_link=unknown,
        onward_m=np.zeros(count),
    )


def asked(network: Network, monkeypatch: pytest.MonkeyPatch, seed: int) -> list[tuple[Any, ...]]:
    """What the search is asked while signals are controlled for some seconds."""
    calls: list[tuple[Any, ...]] = []
    search = kernels.search

    def note(*question: Any) -> Any:
        calls.append(question)
        return search(*question)

    monkeypatch.setattr(junction_choice.kernels, "search", note)
    controller, rng = RollingHorizon(network), np.random.default_rng(seed)
    room = LaneRoom(rng.uniform(0.0, 3.0, len(network.lanes.ids)), np.ones(len(network.lanes.ids)))
    lamps = [LampRecord.start(s.stages[0].state, NOW_S - 30.0) for s in network.signals]
    for second in range(3):
        controller.plan(random_rows(network, rng, 60), room, lamps, valid_from_s=NOW_S + second)
    return calls


@pytest.mark.parametrize("network", [crossroads(), read_sumo(close_pair_net())], ids=["alone", "a pair"])
def test_a_roll_out_taken_up_again_is_the_one_from_the_start(network, monkeypatch):
    parted = 0
    for question in asked(network, monkeypatch, 7):
        layout, moment, drivers, allowed, _, _, _, targets_max = question
        desk = kernels.make_desk(layout, moment, drivers, 3)
        useful = kernels._find_useful(layout, moment, allowed, desk, drivers, targets_max)
        kernels._begin(layout, moment, desk)
        whole_s = drivers.horizon_s

        def roll(stages, holds, start, until_s, keep_as, *, exhaustive, what=(layout, moment, drivers, desk, useful)):
            sequence = np.array(stages, np.int64), np.array(holds, np.float64)
            answer = kernels._roll(*what, *sequence, len(stages), exhaustive, np.inf, start, until_s, keep_as)
            return answer[:3], what[3].crossing_s.copy(), what[3].stage_now[: answer[1]].tolist(), answer[3]

        for hold_s in (0, 3, 8):
            roll([moment.stage], [1e9], START, hold_s, SECOND, exhaustive=False)
            for stage in desk.useful[:useful].tolist():
                sequence = [moment.stage, stage], [float(hold_s), 5.0]
                fresh = roll(*sequence, START, whole_s, PARTING, exhaustive=False)
                again = roll(*sequence, SECOND, whole_s, PARTING, exhaustive=False)
                assert again[0] == fresh[0]
                assert again[2] == fresh[2]
                left = again[1] > hold_s  # who crossed before was noted before
                np.testing.assert_array_equal(again[1][left], fresh[1][left])
                if not fresh[3]:
                    continue
                parted += 1
                patient = roll(*sequence, PARTING, whole_s, PARTING, exhaustive=True)
                from_start = roll(*sequence, START, whole_s, PARTING, exhaustive=True)
                assert patient[0] == from_start[0]
                assert patient[2] == from_start[2]
    assert parted > 3
