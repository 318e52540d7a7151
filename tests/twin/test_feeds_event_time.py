"""Event time: any order and repetition gives the same rows, minutes roll over, wrong clocks are set right."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.messages import Frame
from tests.twin import placed_town as town
from twin.clock_skew import TRUSTED_S, ClockSkews
from twin.feeds.bsm import BsmAdapter
from twin.feeds.rsm import RsmAdapter
from twin.inbox import Inbox
from twin.privacy import Pseudonyms

NETWORK = town.placed_crossroads()
T0_S = town.T0_S  # a full minute
X_M, Y_M = town.middle()


def fresh() -> Inbox:
    names = Pseudonyms(b"test")
    return Inbox(NETWORK, (), pseudonyms=names, formats=(RsmAdapter(NETWORK), BsmAdapter(NETWORK, names)))


def street(count: int) -> list[Frame]:
    """Ten seconds around a full minute: a unit that sees two cars, and a vehicle that tells of itself."""
    frames: list[Frame] = []
    for k in range(count):
        at_s = T0_S + 10.0 * (k / count - 0.5)
        seen = [town.participant(n, X_M - 50.0 + 10.0 * k / count, Y_M - 3.0 * n, at_s) for n in range(2)]
        frames += town.sent("RSM", town.rsm(*seen, count=k % 128), at_s=at_s, delay_s=0.05 + 0.1 * (k % 7))
        frames += town.sent("BSM", town.bsm(X_M, Y_M + k, at_s, count=k % 128), at_s=at_s, delay_s=0.1)
    return frames


@settings(max_examples=25)
@given(st.integers(1, 20), st.integers(0, 2**32), st.floats(0.0, 1.0))
def test_order_and_repetition_change_nothing(count: int, seed: int, repeated: float) -> None:
    rng = random.Random(seed)
    frames = street(count)
    noisy = frames + [frame for frame in frames if rng.random() < repeated]
    rng.shuffle(noisy)
    taken = []
    for order in (frames, noisy):
        inbox = fresh()
        accepted = sum(inbox.offer(frame, T0_S + 10) for frame in order)
        assert accepted == len(frames)
        batches = inbox.take(T0_S + 10)
        tracks, probes = batches.tracks, batches.probes
        taken.append((tracks.measured_at_s.tolist(), tracks.x_m.tolist(), probes.y_m.tolist()))
        moments = sorted({round(at_s, 3) for at_s in batches.tracks.measured_at_s})
        assert moments == pytest.approx([T0_S + 10.0 * (k / count - 0.5) for k in range(count)], abs=1e-3)
    assert taken[0] == taken[1]


def test_a_message_of_another_minute_is_late_and_not_of_this_one() -> None:
    """Fifty-five seconds under way: by the second of the minute alone it would be five seconds from now."""
    inbox = fresh()
    (frame,) = town.sent("RSM", town.rsm(town.participant(1, X_M, Y_M)), delay_s=55.0)
    assert not inbox.offer(frame, frame.received_at_s)
    assert inbox.quarantine.count_reasons() == {("rsm", "late"): 1}


def told_by(clock_s: float, seconds: range, unit: str) -> Iterator[Frame]:
    """Frames of a unit whose clock is ahead by so much."""
    for k in seconds:
        at_s = T0_S + k + 0.25
        seen = town.rsm(town.participant(k % 60, X_M, Y_M, at_s + clock_s), count=k % 128)
        (frame,) = town.sent("RSM", seen, at_s=at_s + clock_s, unit=unit)
        yield frame._replace(received_at_s=at_s + 0.1 + 0.2 * (k % 3 == 0))


@pytest.mark.parametrize("clock_s", [-5.0, -2.0, 0.0, 0.4, 2.0, 5.0])
def test_a_unit_whose_clock_is_off_is_heard_at_the_right_time(clock_s: float) -> None:
    inbox = fresh()
    for frame in told_by(clock_s, range(150), "unit0001"):
        inbox.offer(frame, frame.received_at_s)
    tracks = inbox.take(T0_S + 200).tracks
    settled = tracks.measured_at_s[tracks.available_at_s > T0_S + 130]
    true_s = [T0_S + k + 0.25 for k in range(130, 150)]
    assert settled.tolist() == pytest.approx(true_s, abs=0.45), "to the way that a message takes"
    if abs(clock_s) > TRUSTED_S:
        ((device, skew_s),) = inbox.clock_skews.items()
        assert device == ("rsm", "unit0001")
        assert skew_s == pytest.approx(-clock_s, abs=0.35)
    else:
        assert inbox.clock_skews == {}


@settings(max_examples=100)
@given(st.lists(st.floats(0.0, 0.95), min_size=1, max_size=120))
def test_a_right_clock_on_a_slow_line_is_left_alone(ways_s: list[float]) -> None:
    clocks = ClockSkews()
    assert all(clocks.note("rsm", "u", T0_S + k, T0_S + k + way_s) == 0.0 for k, way_s in enumerate(ways_s))


def test_a_backlog_after_a_broken_line_moves_no_clock() -> None:
    """Nothing comes for twenty seconds, then all of it at once, then the line is as before."""
    clocks = ClockSkews()
    for tick in range(1800):
        sent_s = T0_S + tick / 10
        received_s = max(sent_s + 0.05, T0_S + 120.0) if sent_s > T0_S + 100.0 else sent_s + 0.05
        assert clocks.note("rsm", "u", sent_s, received_s) == 0.0


def test_one_absurd_time_moves_no_clock() -> None:
    clocks = ClockSkews()
    for k in range(50):
        wrong_s = {20: 25.0, 30: -25.0, 40: float("nan")}.get(k, 0.0)
        assert clocks.note("rsm", "u", T0_S + k + wrong_s, T0_S + k + 0.1) == 0.0
