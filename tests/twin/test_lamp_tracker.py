"""What the tracker foresees is what a controller in the street will show, whatever got lost on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.batches import SignalStateBatch
from networks.graph import Schedule
from signals.executor import Head
from signals.fixed import OwnProgrammes, fixed_plan
from signals.formats import to_order
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.safety import approve
from signals.transitions import settle
from tests.twin import small_city
from twin.lamp_memory import keep_reds, read_reds
from twin.lamp_tracker import LOST_AFTER_S, LampTracker

NETWORK, T0_S = small_city.small_network(), small_city.T0_S
SIGNAL = NETWORK.signals[0]
FIXED = fixed_plan(SIGNAL, epoch_of_zero_s=T0_S)  # Gr 0-30, yr 30-33, rG 33-63, ry 63-66
PROGRAMMES = OwnProgrammes((FIXED,))
OWN = -1


def reports(*rows: tuple[float, str, int]) -> SignalStateBatch:
    at_s = np.array([T0_S + row[0] for row in rows], np.float64)
    return SignalStateBatch(
        signal=np.zeros(len(rows), np.int32),
        state=tuple(row[1] for row in rows),
        plan_version=np.array([row[2] for row in rows], np.int64),
        measured_at_s=at_s,
        available_at_s=at_s + 0.1,
    )


@pytest.fixture
def tracker() -> LampTracker:
    return LampTracker(NETWORK, [PROGRAMMES])


def plan(valid_from_s: float, *steps: tuple[str, float]) -> SignalPlan:
    lamp_steps = tuple(LampStep(state, float(duration_s)) for state, duration_s in steps)
    return SignalPlan(0, "J", lamp_steps, valid_from_s, valid_from_s + 60.0, source="test")


def to_green_south(into_s: float, version: int):
    """A proven plan that ends the first green at once."""
    made = plan(T0_S + into_s, ("yr", 3), ("rr", 1), ("rG", 30))
    return approve(made, SIGNAL, LampRecord.start("Gr", T0_S), now_s=T0_S + into_s - 1, version=version)


def foreseen(tracker: LampTracker, into_s: float) -> str | None:
    (record,) = tracker.foresee(T0_S + into_s)
    return None if record is None else record.state


def test_nothing_is_foreseen_of_a_signal_that_is_not_heard(tracker):
    assert tracker.foresee(T0_S) == [None]
    tracker.note_reports(reports((10.0, "Gr", OWN)))
    assert foreseen(tracker, 10.0 + LOST_AFTER_S) == "Gr"
    assert foreseen(tracker, 10.5 + LOST_AFTER_S) is None
    tracker.note_reports(reports((25.0, "Gr", OWN)))
    assert foreseen(tracker, 26.0) == "Gr"


def test_the_own_programme_is_carried_on_second_by_second(tracker):
    tracker.note_reports(reports((28.0, "Gr", OWN)))
    assert foreseen(tracker, 30.0) == "Gr"
    (record,) = tracker.foresee(T0_S + 34.0)
    assert record is not None
    assert record.state == "rG"
    assert record.green_until_s[0] == T0_S + 30
    assert record.green_from_s[1] == T0_S + 33


def test_a_plan_that_was_sent_takes_over_in_its_second(tracker):
    tracker.note_reports(reports((10.0, "Gr", OWN)))
    tracker.note_sent([to_green_south(12, version=4)])
    assert [foreseen(tracker, s) for s in (12, 13, 16, 17)] == ["Gr", "yr", "rr", "rG"]


def test_a_plan_in_force_is_followed_and_a_newer_one_replaces_it(tracker):
    tracker.note_sent([to_green_south(12, version=4)])
    tracker.note_reports(reports((13.0, "yr", 4)))
    assert foreseen(tracker, 17) == "rG"
    held = plan(T0_S + 15, ("rr", 10), ("rG", 30))
    yellow = LampRecord.start("Gr", T0_S).then("yr", T0_S + 12)
    tracker.note_sent([approve(held, SIGNAL, yellow, now_s=T0_S + 14, version=5)])
    assert foreseen(tracker, 17) == "rr"


def test_a_refused_plan_is_forgotten(tracker):
    tracker.note_reports(reports((10.0, "Gr", OWN)))
    tracker.note_sent([to_green_south(12, version=4)])
    tracker.note_refused(0, 4)
    assert foreseen(tracker, 16) == "Gr"


def test_a_plan_that_should_have_begun_but_is_not_reported_got_lost(tracker):
    tracker.note_sent([to_green_south(12, version=4)])
    tracker.note_reports(reports((12.0, "Gr", OWN)))
    assert foreseen(tracker, 16) == "Gr"


def test_a_report_overtaken_by_a_newer_one_changes_nothing(tracker):
    tracker.note_reports(reports((33.0, "rG", OWN)))
    tracker.note_reports(reports((31.0, "yr", OWN)))
    assert foreseen(tracker, 34) == "rG"


def test_a_controller_on_its_way_back_to_its_programme_is_not_taken_to_follow_it(tracker):
    """It has dropped plan 4. In an intergreen of its own nothing is foreseen; a stage stands until it is in step."""
    tracker.note_reports(reports((28.0, "Gr", 4), (29.0, "Gr", OWN)))
    assert foreseen(tracker, 32) == "yr", "a stage in step: it is back already"
    tracker.note_reports(reports((30.0, "Gr", 4), (31.0, "yr", OWN)))
    assert foreseen(tracker, 33) is None, "in step by chance alone"
    tracker.note_reports(reports((34.0, "Gr", OWN)))
    assert foreseen(tracker, 36) == "Gr"
    tracker.note_reports(reports((62.0, "rG", OWN)))
    assert foreseen(tracker, 64) == "ry"


def test_a_plan_sent_to_a_returning_controller_is_followed(tracker):
    tracker.note_reports(reports((10.0, "Gr", 3), (11.0, "Gr", OWN)))
    tracker.note_sent([to_green_south(12, version=4)])
    assert foreseen(tracker, 13) == "yr"


@pytest.mark.parametrize(
    ("into_s", "state", "red_s"),
    [(1.0, "Gr", 1.0), (40.5, "rG", 7.5), (40.0, "Gr", 66.0), (31.0, "rr", 66.0)],
)
def test_a_red_seen_first_is_as_old_as_the_own_programme_has_it(tracker, into_s, state, red_s):
    """In step with it; or a whole round of it, where somebody else has been at work: the controller counts on."""
    tracker.note_reports(reports((into_s, state, OWN)))
    record = tracker.records[0]
    assert T0_S + into_s - record.since_s[state.index("r")] == red_s


def test_reds_outlive_the_process(tmp_path):
    """Kept in one life, read in the next: a red that may never have ended counts from then, a green ended it."""
    path, tracker = tmp_path / "lamps.json", LampTracker(NETWORK, [PROGRAMMES])
    tracker.note_reports(reports((0.0, "Gr", OWN), (5.0, "yr", OWN), (8.0, "rr", OWN), (9.0, "rG", OWN)))
    keep_reds(path, NETWORK, tracker.records, T0_S + 50.0)
    after = LampTracker(NETWORK, [PROGRAMMES], read_reds(path, NETWORK, T0_S + 100.0))
    after.note_reports(reports((100.0, "rG", OWN)))
    assert after.records[0].since_s.tolist() == [T0_S + 8.0, T0_S + 100.0]
    assert read_reds(path, NETWORK, T0_S + 2000.0) == {}
    path.write_text(path.read_text()[:-20])
    assert read_reds(path, NETWORK, T0_S + 100.0) == {}
    assert read_reds(tmp_path / "none", NETWORK, T0_S) == {}


def test_of_an_unknown_past_the_least_favourable_is_assumed(tracker):
    """First seen or seen again after a long silence: a green may be young, traffic may just have got red."""
    for into_s, state in ((1.0, "Gr"), (40.0, "rG")):
        tracker.note_reports(reports((into_s, state, OWN)))
        (record,) = tracker.foresee(T0_S + into_s + 1)
        assert record is not None
        assert record.since_s[state.index("G")] == T0_S + into_s
        green = state.index("G")
        assert (record.green_from_s[green], record.green_until_s[1 - green]) == (T0_S + into_s, T0_S + into_s)


@settings(max_examples=100)
@given(st.data())
def test_tracker_and_controller_agree_whatever_orders_get_lost_or_refused(data):
    """Every cycle a random legal plan is sent, lost or refused; reports come a second late, some not at all.

    At some time nothing is reported for a quarter of a minute, and the controller goes back to its own programme. A
    plan that got lost is believed until a report denies it; apart from that the tracker is right.
    """
    tracker, head = LampTracker(NETWORK, [PROGRAMMES]), Head(SIGNAL, PROGRAMMES, T0_S)
    cycle_s, version, lost_from_s, heard_s = data.draw(st.sampled_from([1, 2, 5]), "cycle"), 0, -1, -1
    fates = st.sampled_from(["arrives", "arrives", "arrives", "lost", "refused", "none"])
    silent_s = data.draw(st.integers(0, 60), "silence")
    kept: list[tuple[float, str, int]] = []
    for second in range(60):
        now_s = T0_S + second
        if second and second % cycle_s == 0:
            tracker.note_reports(reports(*kept))
            heard_s, kept = int(kept[-1][0]) if kept else heard_s, []
            (record,) = tracker.foresee(now_s + 1)
            sure = record is not None and heard_s == second - 1 and heard_s >= lost_from_s and head.mode != "return"
            fate = data.draw(fates, "fate") if sure else "none"
            if record is not None and fate != "none":
                target = data.draw(st.sampled_from(["Gr", "rG"]), "stage")
                steps = (*settle(SIGNAL, record, target, now_s + 1), LampStep(target, 30.0))
                made = plan(now_s + 1, *((s.state, s.duration_s) for s in steps))
                approved = approve(made, SIGNAL, record, now_s=now_s, version=version)
                version += 1
                tracker.note_sent([approved])
                if fate == "arrives":
                    assert head.receive(to_order(approved), now_s).accepted
                elif fate == "refused":
                    tracker.note_refused(0, approved.version)
                else:
                    lost_from_s = second + 1
            state = head.step(now_s)
            if record is not None and sure and head.mode != "return":
                assert record.state == state
                green = np.array([c == "G" for c in state])
                assert (record.green_from_s >= head.record.green_from_s)[green].all(), "never thought older"
                assert (record.green_until_s >= head.record.green_until_s)[~green].all(), "never thought earlier"
        state = head.step(now_s)
        if data.draw(st.integers(0, 19), "report") > 0 and not silent_s <= second < silent_s + 15:
            kept.append((float(second), state, head.plan_version))


def test_a_red_that_nobody_waited_at_counts_from_then_on(tracker):
    tracker.note_unwanted([(0, np.array([True, True]))], T0_S)  # of a signal that nobody has heard of
    tracker.note_reports(reports((0.0, "Gr", OWN)))
    tracker.note_reports(reports((5.0, "Gr", OWN)))
    tracker.note_unwanted([(0, np.array([True, True]))], T0_S + 5.0)
    tracker.note_reports(reports((8.0, "Gr", OWN)))
    (record,) = tracker.foresee(T0_S + 9.0)
    assert record is not None
    assert record.since_s.tolist() == [T0_S, T0_S + 5.0]


def test_the_programme_of_the_hour_is_foreseen() -> None:
    """From second 30 on another programme is in force, in which the first green lasts for ten seconds more."""
    longer = replace(FIXED, steps=(replace(FIXED.steps[0], duration_s=40.0), *FIXED.steps[1:]))
    tracker = LampTracker(NETWORK, [OwnProgrammes((FIXED, longer), Schedule(((30.0, 1),)), T0_S)])
    tracker.note_reports(reports((25.0, "Gr", OWN)))
    assert foreseen(tracker, 34.0) == "Gr"
