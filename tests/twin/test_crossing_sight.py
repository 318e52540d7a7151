"""Who roadside units see at crossings, and for what they vouch."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from networks.batches import VEHICLE_KINDS, TrackBatch
from networks.graph import Crossing, Network
from signals.lamps import LampRecord
from signals.priority import Walkers
from tests.signals.strategies_signals import make_signal
from twin.crossing_sight import FRESH_S, QUIET_S, CrossingSight

T0_S = 1_772_000_000.0
FOES = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], bool)
SIGNAL = replace(
    make_signal(["Grr", "rGG"], FOES, pedestrian={1, 2}),
    crossings=(
        Crossing("north", (1,), 10.0, 4.0, (), (0.0, 20.0, 10.0, 20.0)),
        Crossing("south", (2,), 10.0, 4.0, (), (0.0, 0.0, 10.0, 0.0)),
    ),
)
NETWORK: Network = SimpleNamespace(signals=(SIGNAL, SIGNAL))  # type: ignore[assignment]
LAMPS = LampRecord.start("Grr", T0_S)
RATE = np.array([0.0, 0.1, 0.1])


def seen(*objects: tuple[str, float, float], at_s: float, unit: int = 0) -> TrackBatch:
    count = len(objects)
    when, zero = np.full(count, at_s), np.zeros(count)
    return TrackBatch(
        np.full(count, unit, np.int32),
        np.arange(count),
        np.array([o[1] for o in objects], float),
        np.array([o[2] for o in objects], float),
        zero,
        zero,
        np.array([VEHICLE_KINDS.index(o[0]) for o in objects], np.int32),
        when,
        when,
    )


@pytest.fixture
def sight() -> CrossingSight:
    return CrossingSight(NETWORK, [0], Walkers((RATE, RATE), 1.0))


def test_a_unit_that_never_showed_anybody_on_foot_vouches_for_nobody(sight: CrossingSight) -> None:
    sight.hear(seen(("car", 5.0, 20.0), at_s=T0_S), T0_S)
    assert not list(sight.unwanted())
    assert sight.expect(0, LAMPS, T0_S)[1].tolist() == RATE.tolist()


def test_whoever_stands_at_the_kerb_calls_and_an_empty_kerb_is_vouched_for(sight: CrossingSight) -> None:
    sight.hear(seen(("pedestrian", -2.0, 21.0), ("pedestrian", -2.0, 19.0), ("car", 0.0, 0.0), at_s=T0_S), T0_S)
    assert [(signal, mask.tolist()) for signal, mask in sight.unwanted()] == [(0, [False, False, True])]
    people, rate = sight.expect(0, LAMPS, T0_S)
    assert people.tolist() == [0.0, 2.0, 0.0]
    assert not rate.any()
    later_s = T0_S + QUIET_S + 1.0
    sight.hear(seen(("car", 0.0, 0.0), at_s=later_s), later_s)
    assert [mask.tolist() for _, mask in sight.unwanted()] == [[False, True, True]]
    assert not sight.expect(0, LAMPS, later_s)[0].any()


def test_people_missed_for_a_moment_are_still_there_and_grow_impatient(sight: CrossingSight) -> None:
    weights = []
    for second in range(0, 31, 3):
        now_s = T0_S + second
        sight.hear(seen(("pedestrian", 11.0, 0.0), at_s=now_s), now_s)
        now_s += 2.0  # missed
        sight.hear(seen(("car", 5.0, 5.0), at_s=now_s), now_s)
        assert [mask.tolist() for _, mask in sight.unwanted()] == [[False, True, False]]
        weights.append(sight.expect(0, LAMPS, now_s)[0][2])
    assert weights == sorted(weights)
    assert weights[-1] > 4.0 * weights[0]


def test_a_silent_unit_and_a_junction_without_one_expect_people(sight: CrossingSight) -> None:
    sight.hear(seen(("pedestrian", 50.0, 50.0), at_s=T0_S), T0_S)
    assert [signal for signal, _ in sight.unwanted()] == [0]
    assert sight.expect(1, LAMPS, T0_S)[1].tolist() == RATE.tolist()
    sight.hear(seen(at_s=T0_S), T0_S + FRESH_S + 1.0)
    assert not list(sight.unwanted())
    assert sight.expect(0, LAMPS, T0_S)[1].tolist() == RATE.tolist()


def test_objects_of_a_unit_that_nobody_knows_are_left_aside(sight: CrossingSight) -> None:
    sight.hear(seen(("pedestrian", 0.0, 0.0), at_s=T0_S, unit=1), T0_S)
    assert not list(sight.unwanted())
