"""Plans by time of day: every change is proven, and the file says what runs when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from signals.formats.proofs import lamps_of, prove_book
from signals.formats.sumo import book_from_sumo, book_to_sumo
from signals.retime_day import LATEST_CHANGE_S, day_book, day_of, safe_change
from signals.retime_plans import PlanMaker, StageTiming
from signals.safety import find_violations
from tests.signals.strategies_signals import make_signal, signals
from tests.signals.test_retime import TWO, network_of

STATES = ("Gr", "rG")


@settings(max_examples=60)
@given(st.data())
def test_every_change_is_proven_from_the_lamps_of_the_old_plan(data: st.DataObject) -> None:
    signal = data.draw(signals())
    maker = PlanMaker(network_of(signal))
    pool = [s.state for s in signal.stages]

    def draw() -> StageTiming:
        states = tuple(data.draw(st.permutations(pool)))
        greens_s = tuple(data.draw(st.integers(5, 40)) for _ in states)
        timing = StageTiming(states, greens_s, data.draw(st.integers(0, 200)))
        assume(len(states) > 1 and maker.is_sound(0, timing))
        return timing

    old, new, from_s = draw(), draw(), data.draw(st.integers(0, 90_000))
    change = safe_change(maker, 0, old, new, from_s)
    if change is None:
        return
    assert from_s <= change.at_s < from_s + LATEST_CHANGE_S
    assert (change.timing.states, change.timing.greens_s) == (new.states, new.greens_s)
    after = replace(maker.plan(0, change.timing), valid_from_s=float(change.at_s))
    assert not find_violations(after, signal, lamps_of(maker.plan(0, old), float(change.at_s)))


def test_opposite_plans_change_within_a_cycle() -> None:
    maker = PlanMaker(network_of(make_signal(*TWO)))
    old = StageTiming(STATES, (20, 20), 0)
    cycle_s = maker.cycle_s(0, old)
    change = safe_change(maker, 0, old, replace(old, offset_s=cycle_s // 2), 1000)
    assert change is not None
    assert change.at_s < 1000 + cycle_s


def test_equal_neighbours_need_no_change() -> None:
    maker = PlanMaker(network_of(make_signal(*TWO)))
    one, other = StageTiming(STATES, (20, 20)), StageTiming(STATES, (30, 20))
    day = day_of(maker, 0, [one, one, other], [0.0, 1800.0, 3600.0])
    assert [change.at_s >= at for change, at in zip(day, (0, 3600), strict=True)] == [True, True]


def test_the_book_is_proven_and_survives_the_file(tmp_path: Path) -> None:
    network = network_of(make_signal(*TWO))
    maker = PlanMaker(network)
    periods = [{0: StageTiming(STATES, greens)} for greens in ((20, 20), (35, 15), (20, 20))]
    book = day_book(maker, periods, [0.0, 1800.0, 3600.0], "ours")
    assert [p.programme.id for p in book.programmes] == ["ours_3", "ours_2", "ours_1"]
    assert [s.programme for s in book.timetables[0].switches] == ["ours_2", "ours_3"]
    proofs = prove_book(book, network)
    assert len(proofs) == 5
    assert not any(p.violations or p.note for p in proofs)
    path = tmp_path / "day.add.xml"
    path.write_text(book_to_sumo(book).text)
    assert book_from_sumo(path) == book
