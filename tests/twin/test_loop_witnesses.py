"""Vehicles that report their places tell which loops do not notice them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.batches import CountBatch
from networks.city import Detector
from tests.twin import one_street
from twin.loop_witnesses import LoopWitnesses

CONVICTED = 5.0
LOOPS = (Detector("in_up", 0, 100.0, "upstream"), Detector("in_stop", 0, 297.0, "stop"))


def reports(second: int, told: list[tuple[int, int, float]]) -> CountBatch:
    """Loop rows (loop, count, occupancy) of one second."""
    table = np.array(told, np.float64).reshape(-1, 3)
    many = len(table)
    loop, count = table[:, 0].astype(np.int32), table[:, 1].astype(np.int32)
    return CountBatch(
        loop, count, table[:, 2], np.full(many, np.nan), np.ones(many), np.full(many, second), np.full(many, second)
    )


def watch(seed: int, *, lies: str = "", vehicles: int = 25, spread_m: float = 1.0) -> LoopWitnesses:
    """Vehicles at 10 m/s, half a minute apart, who report each second with some error; `lies`: what "in_up" does."""
    witnesses = LoopWitnesses(one_street.street(1), LOOPS)
    rng = np.random.default_rng(seed)
    begins = [10.0 + 12.0 * k + rng.uniform(0.0, 6.0) for k in range(vehicles)]
    for second in range(int(begins[-1]) + 60):
        told: list[tuple[int, int, float]] = []
        for number, loop in enumerate(LOOPS):
            over = [b + loop.position_m / 10.0 for b in begins]
            covered = any(at < second and at + 0.5 > second - 1 for at in over)
            if lies and number == 0:
                covered = {"free": False, "covered": True, "elsewhere": rng.random() < 0.1}[lies]
            told.append((number, int(covered), 0.4 * covered))
        on = [(k, (second - b) * 10.0) for k, b in enumerate(begins) if 0.0 <= (second - b) * 10.0 < 299.0]
        if on:
            place = np.array([m for _, m in on]) + rng.normal(0.0, spread_m, len(on))
            witnesses.see(
                False,
                np.array([k + 1 for k, _ in on], np.int64),
                np.zeros(len(on), np.int32),
                place,
                np.abs(rng.normal(0.0, 0.4, len(on))),
                np.full(len(on), 10.0),
                np.full(len(on), float(second)),
            )
        batch = reports(second, told)
        witnesses.step(second, batch, np.arange(len(told), dtype=np.int32))
    return witnesses


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 1.5))
def test_who_notices_what_passes_is_never_in_doubt(seed: int, spread_m: float) -> None:
    assert (watch(seed, spread_m=spread_m).passages.odds < CONVICTED).all()


def test_one_that_is_always_free_or_tells_of_another_place_is_soon_in_doubt() -> None:
    for lies in ("free", "elsewhere"):
        witnesses = watch(3, lies=lies)
        assert witnesses.passages.odds[0] > CONVICTED
        assert witnesses.passages.seen_odd[0] > 0.5 * witnesses.passages.seen[0]
        assert witnesses.passages.trust[1] > 0.0


def test_passages_say_nothing_against_one_that_is_always_covered() -> None:
    assert watch(3, lies="covered").passages.odds[0] < CONVICTED


def test_nobody_is_judged_by_passages_of_which_no_loop_report_tells() -> None:
    witnesses = LoopWitnesses(one_street.street(1), LOOPS)
    nothing = reports(0, [])
    for second in range(60):
        here = np.array([second * 10.0 % 299.0])
        witnesses.see(
            True, np.ones(1, np.int64), np.zeros(1, np.int32), here, np.zeros(1), np.full(1, 10.0), np.full(1, second)
        )
        witnesses.step(second, nothing, np.zeros(0, np.int32))
    assert (witnesses.passages.odds == 0).all()
