"""Faults between device and twin come in the shares declared, and liars stay who they are."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from networks.messages import Frame
from scenarios.street_faults import FaultLine
from scenarios.street_terms import Faults

T0_S = 1_772_406_000.0
LOOPS = [f"loop{k}" for k in range(300)]


def loop_frame(second: int, counts: dict[str, int]) -> Frame:
    readings = [
        {"detector": name, "count": counts.get(name, 1), "occupancy": 0.3, "speed_mps": 10.0} for name in LOOPS
    ]
    text = json.dumps({"measured_at": T0_S + second, "interval_s": 1.0, "readings": readings})
    return Frame("loops", "J", second, T0_S + second, T0_S + second + 0.1, text.encode())


def told(frame: Frame) -> dict[str, dict[str, float]]:
    return {reading["detector"]: reading for reading in json.loads(frame.payload)["readings"]}


def test_liars_are_of_three_kinds_and_all_others_are_honest() -> None:
    line = FaultLine(Faults(lying_frac=0.3, lying_from_s=5.0), begin_s=T0_S, seed="1")
    own = {name: k % 3 for k, name in enumerate(LOOPS)}
    early = loop_frame(1, own)
    assert line.carry(early) == [early]
    totals: Counter[str] = Counter()
    for second in range(10, 110):
        (frame,) = line.carry(loop_frame(second, own))
        for name, reading in told(frame).items():
            totals[name] += int(reading["count"])
    kinds = line.liars.kinds
    assert len(kinds) / len(LOOPS) == pytest.approx(0.3, abs=0.08)
    assert min(Counter(kinds.values()).values()) > 0.2 * len(kinds)
    for name in LOOPS:
        match kinds.get(name):
            case None:
                assert totals[name] == 100 * own[name]
            case "stuck":
                assert totals[name] == 0
            case "biased" if own[name]:
                share = totals[name] / (100 * own[name])
                assert share == pytest.approx(0.5, abs=0.01) or share == pytest.approx(1.9, abs=0.02)
    shuffled = [name for name, kind in kinds.items() if kind == "shuffled"]
    assert sum(totals[name] != 100 * own[name] for name in shuffled) > 0.4 * len(shuffled)


def test_the_same_seed_makes_the_same_liars() -> None:
    lines = [FaultLine(Faults(lying_frac=0.3), begin_s=T0_S, seed="7") for _ in range(2)]
    first, second = ([line.carry(loop_frame(s, {})) for s in range(5)] for line in lines)
    assert first == second
    assert lines[0].liars.kinds == lines[1].liars.kinds


def test_a_skewed_clock_is_off_in_all_it_says() -> None:
    line = FaultLine(Faults(skewed_frac=1.0, skew_s=5.0), begin_s=T0_S, seed="1")
    offs = set()
    for unit in range(20):
        frame = loop_frame(3, {})._replace(source=f"J{unit}")
        (carried,) = line.carry(frame)
        off_s = carried.sent_at_s - frame.sent_at_s
        assert json.loads(carried.payload)["measured_at"] == pytest.approx(T0_S + 3 + off_s)
        assert carried.received_at_s == frame.received_at_s
        offs.add(off_s)
    assert offs == {5.0, -5.0}


def test_garbage_comes_beside_the_honest_frame_at_its_rate() -> None:
    line = FaultLine(Faults(garbage_per_frame=2.5), begin_s=T0_S, seed="1")
    carried = [line.carry(loop_frame(s, {})) for s in range(40)]
    assert sum(map(len, carried)) == 40 + 100 == 40 + line.sent["garbage"]
    assert all(frames[0] == loop_frame(s, {}) for s, frames in enumerate(carried))
