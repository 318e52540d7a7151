"""Loops that lie are named with the reason and left out; honest ones are left in peace."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.batches import CountBatch
from networks.city import Detector
from networks.graph import Network
from tests.twin import one_street
from twin.loop_record import LoopRecord
from twin.sensor_health import LoopHealth

LANES = 2
Reading = tuple[int, float]  # count, occupancy
Lie = Callable[[int, Reading], Reading]


def loops(network: Network) -> tuple[Detector, ...]:
    """A pair on each lane of both edges; those of the second edge say what the first ones passed on."""
    rows = []
    for lane in range(len(network.lanes.ids)):
        rows += [
            Detector(f"{network.lanes.ids[lane]}_{role}", lane, at_m, role)
            for role, at_m in (("upstream", 230.0), ("stop", 297.0))
        ]
    return tuple(rows)


def watch(
    rate_vph: float,
    lies: dict[str, Lie],
    *,
    seconds: int = 600,
    seed: int = 1,
    interval_s: int = 1,
    from_next_lane: bool = False,
) -> tuple[LoopHealth, dict[str, int]]:
    """Vehicles in random headways past all loops of their lane; a minute's cycle of green and red at the stop line.

    The second at which each loop was first left out comes with it. `from_next_lane`: whoever comes past the stop line
    of the first lane was on the second one at its upstream loop.
    """
    network = one_street.street(LANES)
    detectors = loops(network)
    names = {d.id: k for k, d in enumerate(detectors)}
    health = LoopHealth(network, detectors, np.ones(len(network.movements.turn)), np.full(2, np.nan), np.zeros(2))
    rng = np.random.default_rng(seed)
    said: dict[str, dict[int, Reading]] = {d.id: {} for d in detectors}
    for lane in range(LANES):
        free_s = dict.fromkeys(("in_up", "in_stop", "out_up", "out_stop"), 0)
        arrival = 0.0
        while arrival < seconds:
            arrival += rng.exponential(3600.0 / rate_vph)
            up = max(math.ceil(arrival), free_s["in_up"] + 2)
            stop = max(up + 6, free_s["in_stop"] + 2)
            while stop % 60 >= 30:
                stop += 1
            out_up, out_stop = max(stop + 18, free_s["out_up"] + 2), max(stop + 24, free_s["out_stop"] + 2)
            for place, at in (("in_up", up), ("in_stop", stop), ("out_up", out_up), ("out_stop", out_stop)):
                free_s[place] = at
                edge, role = place.split("_")
                seen_on = 1 if from_next_lane and place == "in_up" else lane
                said[f"{edge}_{seen_on}_{'upstream' if role == 'up' else 'stop'}"][at] = (1, 0.4)
    found: dict[str, int] = {}
    red_s = np.zeros(len(network.lanes.ids))
    for second in range(1, seconds):
        red_s[:LANES] = np.where(second % 60 >= 30, red_s[:LANES] + 1, 0.0)
        rows: list[tuple[int, int, float]] = []
        for name, events in said.items():
            honest = events.get(second, (0, 0.0))
            count, occupancy = lies[name](second, honest) if name in lies else honest
            rows.append((names[name], count, occupancy))
        table = np.array(rows, np.float64)
        total = len(rows)
        batch = CountBatch(
            table[:, 0].astype(np.int32),
            table[:, 1].astype(np.int32),
            table[:, 2],
            np.full(total, np.nan),
            np.full(total, float(interval_s)),
            np.full(total, float(second)),
            np.full(total, float(second)),
        )
        health.note(second, batch, np.arange(total, dtype=np.int32), red_s, np.zeros(total, np.bool_))
        for d in np.flatnonzero(health.excluded):
            found.setdefault(detectors[d].id, second)
    return health, found


@settings(max_examples=8)
@given(st.integers(0, 1000), st.floats(120.0, 700.0))
def test_honest_loops_are_left_in_peace(seed: int, rate_vph: float) -> None:
    health, found = watch(rate_vph, {}, seed=seed)
    assert found == {}
    assert health.reasons() == []


def half(second: int, reading: Reading) -> Reading:
    return (reading[0] if second % 2 else 0, reading[1])


@pytest.mark.parametrize("seed", range(4))
def test_a_loop_that_all_pass_on_the_next_lane_is_not_stuck(seed: int) -> None:
    assert watch(150.0, {}, seed=seed, from_next_lane=True)[1] == {}


@pytest.mark.parametrize("seed", [7, 9, 11])
def test_a_few_vehicles_uncounted_by_chance_convict_nobody(seed: int) -> None:
    """Two of the first six vehicles, and none later."""
    missed = iter((False, True, False, True))
    lie: Lie = lambda _, reading: (0, reading[1]) if reading[0] and next(missed, False) else reading  # noqa: E731
    assert watch(130.0, {"in_1_upstream": lie}, seconds=400, seed=seed)[1] == {}


@pytest.mark.parametrize(
    ("loop", "lie", "reason"),
    [
        ("in_0_upstream", half, "times it was covered"),
        ("in_1_stop", lambda _, reading: (2 * reading[0], reading[1]), "counted two at once"),
        ("in_0_upstream", lambda _, reading: (0, 0.0), "always free while"),
        ("out_1_upstream", lambda _, reading: (0, 1.0), "always covered before an empty stop line"),
        ("in_1_stop", lambda second, _: (int(second % 7 == 0), 0.4 * (second % 7 == 0)), "counts"),
    ],
)
def test_a_liar_is_named_within_six_minutes_and_nobody_else(loop: str, lie: Lie, reason: str) -> None:
    health, found = watch(500.0, {loop: lie}, seconds=361)
    assert found.keys() == {loop}
    (line,) = health.reasons()
    assert line.startswith(f"loop {loop}: ")
    assert reason in line


def test_counts_at_red_are_named() -> None:
    """A stop loop that carries the reports of one at another signal."""
    _, found = watch(500.0, {"in_0_stop": lambda second, _: (int(second % 8 == 0), 0.4 * (second % 8 == 0))})
    assert found.keys() == {"in_0_stop"}


def test_a_loop_that_only_others_can_convict_is_told_by_how_far_off_it_is() -> None:
    """It invents most of its vehicles when they would be believed: neither at red, nor twice in a second."""

    def invents(second: int, reading: Reading) -> Reading:
        return (1, 0.4) if reading[0] or second % 3 == 0 else reading

    health, found = watch(400.0, {"out_0_upstream": invents})
    assert found.keys() == {"out_0_upstream"}
    assert "an hour where the loops around it tell" in health.reasons()[0]


def test_a_loop_that_was_mended_is_heard_again() -> None:
    """After some minutes of counts that fit."""
    lie: Lie = lambda second, reading: (0, 0.0) if second < 400 else reading  # noqa: E731
    health, found = watch(500.0, {"in_0_upstream": lie}, seconds=1300)
    assert found.keys() == {"in_0_upstream"}
    assert not health.excluded.any()


def test_a_pause_starts_the_window_anew() -> None:
    health, _ = watch(500.0, {}, seconds=300)
    health.forget()
    network = one_street.street(LANES)
    count = len(loops(network))
    none = CountBatch(*(np.zeros(0, np.int32),) * 2, *(np.zeros(0),) * 5)
    for second in range(3000, 3100):
        health.note(second, none, np.zeros(0, np.int32), np.zeros(len(network.lanes.ids)), np.zeros(count, np.bool_))
    assert not health.excluded.any()


def test_reports_that_come_late_leave_rates_as_they_are() -> None:
    """One vehicle every four seconds; every third report comes three seconds late, with the others of that second."""
    record = LoopRecord([Detector("d", 0, 10.0, "stop")], 0.0)
    for second in range(1000, 1200):
        told = [s for s in (second - 3, second) if (s % 3 == 0) == (s < second)]
        rows = np.arange(len(told), dtype=np.int32)
        at_s = np.array(told, np.float64)
        batch = CountBatch(
            np.zeros(len(told), np.int32),
            (at_s % 4 == 0).astype(np.int32),
            np.full(len(told), 0.1),
            np.full(len(told), np.nan),
            np.ones(len(told)),
            at_s,
            np.full(len(told), float(second)),
        )
        record.step(second, batch, rows, np.zeros(1))
    rate_vps, heard_s = record.rates()
    assert rate_vps[0] == pytest.approx(0.25, rel=0.03)
    assert heard_s[0] == pytest.approx(200.0, abs=4.0)


def at_red(share: float, *, stands: bool = False, ends_frac: float = 0.0) -> LoopHealth:
    """One stop loop; every 10 s somebody comes, for `share` of them the lamp has long been red.

    stands: those wait on the loop before they leave it to the side.
    """
    network = one_street.street(1)
    health = LoopHealth(
        network,
        [Detector("d", 0, 297.0, "stop")],
        np.ones(len(network.movements.turn)),
        np.full(2, np.nan),
        np.full(2, ends_frac),
    )
    rng = np.random.default_rng(1)
    for second in range(1, 900):
        if second % 10 == 1:
            red = rng.random() < share
        waits = stands and red
        came, gone = 2, 7 if waits else 2
        on, count = came <= second % 10 <= gone, second % 10 == gone
        batch = CountBatch(
            np.zeros(1, np.int32),
            np.array([count], np.int32),
            np.array([0.9 * on]),
            np.full(1, np.nan),
            np.ones(1),
            np.full(1, float(second)),
            np.full(1, float(second)),
        )
        red_s = np.full(len(network.lanes.ids), 30.0 * red)
        health.note(second, batch, np.zeros(1, np.int32), red_s, np.zeros(1, np.bool_))
    return health


def test_counts_at_red_convict_but_not_of_those_who_waited_there_or_go_no_further() -> None:
    assert "came at red" in at_red(0.5).reasons()[0]
    assert at_red(0.5, stands=True).reasons() == []
    assert at_red(0.5, ends_frac=0.6).reasons() == []
