"""The border lets in what is good, once, and keeps account of everything else."""

from __future__ import annotations

import json
import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.batches import Batches
from networks.messages import FEEDS, Frame
from tests.twin import small_city as town
from twin.inbox import Inbox
from twin.privacy import Pseudonyms

NETWORK = town.small_network()
T0_S = town.T0_S

MESSAGES = {
    "loops": town.loops(),
    "roadside": town.objects(T0_S, town.seen()),
    "v2x": town.vehicle(),
    "signals": town.lamps(),
    "control": town.notice(),
    "weather": town.weather(),
    "receipts": town.receipt(),
}


def fresh() -> Inbox:
    return Inbox(NETWORK, town.DETECTORS, pseudonyms=Pseudonyms(b"test"))


def reasons(inbox: Inbox) -> dict[tuple[str, str], int]:
    return inbox.quarantine.count_reasons()


def assert_accounts_balance(inbox: Inbox, offered: int) -> None:
    tallies = inbox.tallies.values()
    assert sum(t.frames_offered for t in tallies) == offered
    for tally in tallies:
        assert tally.frames_offered == tally.frames_accepted + tally.frames_refused
        assert tally.rows_offered == tally.rows_accepted + tally.rows_refused
    assert sum(t.rows_refused for t in tallies) == inbox.quarantine.total == sum(inbox.quarantine.counts.values())


def rows_of(batches: Batches) -> int:
    return (
        len(batches.counts.detector)
        + len(batches.tracks.unit)
        + len(batches.probes.vehicle)
        + len(batches.signals.signal)
        + len(batches.notices)
        + len(batches.weather.rain_mm_h)
    )


def test_one_honest_message_of_every_feed_arrives_with_its_values() -> None:
    inbox = fresh()
    assert all(inbox.offer(town.frame(feed, message), T0_S + 1) for feed, message in MESSAGES.items())
    taken = inbox.take(T0_S + 1)
    assert taken.counts.detector.tolist() == [0]
    assert taken.counts.interval_s.tolist() == [5.0]
    assert taken.tracks.object_id.tolist() == [1]
    assert taken.probes.x_m.tolist() == [400.0]
    assert taken.probes.destination_edge.tolist() == [2]
    assert taken.signals.state == ("Gr",)
    assert taken.signals.plan_version.tolist() == [7]
    assert taken.notices[0].lanes == (2,)
    assert math.isnan(taken.notices[0].speed_limit_mps)
    assert taken.weather.rain_mm_h.tolist() == [2.0]
    assert taken.counts.available_at_s.tolist() == [T0_S + 0.5]
    assert [r.plan_version for r in inbox.take_receipts(T0_S + 1)] == [7]
    assert {h.feed for h in taken.health} == set(FEEDS)
    assert rows_of(inbox.take(T0_S + 2)) == 0


@pytest.mark.parametrize(
    ("feed", "message", "received_at_s", "reason", "field"),
    [
        ("loops", town.loops(T0_S, town.reading("loop99")), T0_S, "unknown_id", "detector"),
        ("loops", town.loops(T0_S, town.reading(count=40)), T0_S, "impossible", "count"),
        ("loops", town.loops(T0_S, town.reading(count=5, occupancy=0.0)), T0_S, "impossible", "occupancy"),
        ("loops", town.loops(T0_S, town.reading(count=5, occupancy=1.0)), T0_S, "impossible", "occupancy"),
        ("loops", town.loops(T0_S), T0_S + 31, "late", "measured_at"),
        ("loops", town.loops(T0_S), T0_S - 3, "future", "measured_at"),
        ("roadside", town.objects(T0_S, town.seen(x_m=1300.0)), T0_S, "impossible", "x_m"),
        ("roadside", town.objects().model_copy(update={"junction": "K"}), T0_S, "unknown_id", "junction"),
        ("v2x", town.vehicle(x_m=-4e5), T0_S, "impossible", "x_m"),
        ("signals", town.lamps(state="Grr"), T0_S, "impossible", "state"),
        ("signals", town.lamps(version=2**70), T0_S, "impossible", "plan_version"),
        ("control", town.notice().model_copy(update={"lanes": (1,)}), T0_S, "unknown_id", "lanes"),
        ("control", town.notice().model_copy(update={"end": T0_S}), T0_S, "impossible", "end"),
        ("receipts", town.receipt().model_copy(update={"junction": "K"}), T0_S, "unknown_id", "junction"),
        ("weather", b'{"measured_at": 1}', T0_S, "malformed", "rain_mm_h"),
        ("weather", b"\xff\x00{", T0_S, "malformed", "document"),
        ("telepathy", b"{}", T0_S, "unknown_feed", "feed"),
    ],
)
def test_bad_messages_are_refused_with_the_reason_and_the_field(
    feed: str, message: object, received_at_s: float, reason: str, field: str
) -> None:
    inbox = fresh()
    assert not inbox.offer(town.frame(feed, message, received_at_s=received_at_s), received_at_s)  # type: ignore[arg-type]
    (refused,) = inbox.quarantine.newest()
    assert refused.reason == reason
    assert field in refused.detail
    assert rows_of(inbox.take(T0_S + 100)) == 0
    assert_accounts_balance(inbox, 1)


@pytest.mark.parametrize("feed", FEEDS)
def test_the_same_message_counts_once(feed: str) -> None:
    inbox = fresh()
    first = town.frame(feed, MESSAGES[feed])
    again = first._replace(received_at_s=first.received_at_s + 1)
    assert inbox.offer(first, T0_S + 1)
    assert not inbox.offer(again, T0_S + 2)
    assert reasons(inbox) == {(feed, "duplicate"): 1}
    assert rows_of(inbox.take(T0_S + 9)) + len(inbox.take_receipts(T0_S + 9)) == 1


def test_a_rebooted_device_that_counts_from_zero_again_is_heard() -> None:
    inbox = fresh()
    assert inbox.offer(town.frame("signals", town.lamps(T0_S), counter=0), T0_S + 1)
    later = town.frame("signals", town.lamps(T0_S + 3), counter=0, received_at_s=T0_S + 3)
    assert inbox.offer(later, T0_S + 4)


def test_an_interval_reported_again_under_a_new_counter_counts_once() -> None:
    inbox = fresh()
    assert inbox.offer(town.frame("loops", town.loops(), counter=1), T0_S + 1)
    both = town.loops(T0_S, town.reading("loop0"), town.reading("loop1"))
    assert inbox.offer(town.frame("loops", both, counter=2), T0_S + 1)
    assert inbox.take(T0_S + 1).counts.detector.tolist() == [0, 1]
    assert reasons(inbox) == {("loops", "duplicate"): 1}


def test_good_rows_of_a_partly_bad_list_are_kept() -> None:
    inbox = fresh()
    payload = (
        b'{"measured_at": %f, "interval_s": 5, "readings": ['
        b'{"detector": "loop0", "count": 2, "occupancy": 0.5, "speed_mps": 3},'
        b'{"detector": "loop1", "count": -2, "occupancy": 0.5, "speed_mps": 3},'
        b'{"detector": "nowhere", "count": 2, "occupancy": 0.5, "speed_mps": 3},'
        b"17,"
        b'{"detector": "loop3", "count": 0, "occupancy": 1.0, "speed_mps": null}]}' % T0_S
    )
    assert inbox.offer(town.frame("loops", payload), T0_S + 1)
    counts = inbox.take(T0_S + 1).counts
    assert counts.detector.tolist() == [0, 3]
    assert np.isnan(counts.speed_mps[1])
    assert reasons(inbox) == {("loops", "malformed"): 2, ("loops", "unknown_id"): 1}
    assert any("readings.1.count" in r.detail for r in inbox.quarantine.newest())
    assert_accounts_balance(inbox, 1)


def test_a_wild_fix_is_refused_and_the_vehicle_stays_believed() -> None:
    inbox = fresh()
    positions = [400.0, 410.0, 1100.0, 430.0, 440.0]
    verdicts = [
        inbox.offer(
            town.frame("v2x", town.vehicle(T0_S + k, x_m=x), counter=k, received_at_s=T0_S + k + 0.2), T0_S + k + 1
        )
        for k, x in enumerate(positions)
    ]
    assert verdicts == [True, True, False, True, True]


def test_a_track_number_given_to_another_object_costs_one_row() -> None:
    inbox = fresh()
    for k, x_m in enumerate([100.0, 110.0, 900.0, 910.0, 920.0]):
        message = town.objects(T0_S + k, town.seen(5, x_m=x_m))
        inbox.offer(town.frame("roadside", message, counter=k, received_at_s=T0_S + k + 0.2), T0_S + k + 1)
    assert inbox.take(T0_S + 9).tracks.x_m.tolist() == [100.0, 110.0, 910.0, 920.0]


def test_an_unknown_destination_costs_the_wish_not_the_position() -> None:
    inbox = fresh()
    assert inbox.offer(town.frame("v2x", town.vehicle(destination="atlantis")), T0_S + 1)
    probes = inbox.take(T0_S + 1).probes
    assert probes.destination_edge.tolist() == [-1]
    assert reasons(inbox) == {("v2x", "unknown_id"): 1}


def test_a_message_counts_only_from_when_it_came_in() -> None:
    inbox = fresh()
    inbox.offer(town.frame("loops", town.loops(), received_at_s=T0_S + 4), T0_S + 1)
    assert rows_of(inbox.take(T0_S + 3.9)) == 0
    assert inbox.waiting == 1
    assert rows_of(inbox.take(T0_S + 4)) == 1


def test_silence_is_named_by_feed_and_by_device() -> None:
    inbox = fresh()
    inbox.offer(town.frame("loops", town.loops(), source="cabinet"), T0_S + 1)
    assert inbox.silent_sources(T0_S + 10) == ()
    assert "loops" not in inbox.silent_feeds(T0_S + 10)
    assert "loops" in inbox.silent_feeds(T0_S + 120)
    assert "roadside" in inbox.silent_feeds(T0_S + 120), "never heard is silent too"
    assert "control" not in inbox.silent_feeds(T0_S + 120), "speaks only when there is news"
    assert inbox.silent_sources(T0_S + 120) == (("loops", "cabinet"),)
    silent_s = {h.feed: h.silent_s for h in inbox.health(T0_S + 120)}
    assert silent_s["loops"] == 119.5
    assert silent_s["v2x"] == 119.0


def test_quarantine_stays_bounded_in_a_flood() -> None:
    inbox = fresh()
    for k in range(12_000):
        inbox.offer(Frame("loops", f"liar{k}", k, 0.0, T0_S, b"x" * 9000), T0_S)
    assert len(inbox.quarantine.counts) <= 10_001
    assert inbox.quarantine.total == sum(inbox.quarantine.counts.values()) == 12_000
    assert len(inbox.quarantine.drain()) == 5000
    assert max(len(r.payload) for r in inbox.quarantine.newest()) <= 2048


def street(choice: list[int]) -> list[Frame]:
    """Honest frames of several feeds and devices over forty seconds, some sent twice, some a little late."""
    frames = []
    for k, pick in enumerate(choice):
        at_s = T0_S + k
        feed = FEEDS[pick % len(FEEDS)]
        message = MESSAGES[feed].model_copy(update={"measured_at": at_s})
        made = town.frame(
            feed, message, source=f"dev{pick % 3}", counter=k, received_at_s=at_s + (pick % 5) * 0.7 + 0.1
        )
        frames += [made, made] if pick % 4 == 0 else [made]
    return frames


@settings(max_examples=60)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_change_what_is_taken(choice: list[int], random: object) -> None:
    frames = street(choice)
    shuffled = frames.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    taken = []
    for order in (frames, shuffled):
        inbox = fresh()
        for one in order:
            inbox.offer(one, T0_S + 50)
        assert_accounts_balance(inbox, len(frames))
        cut = T0_S + len(choice) / 2
        first, rest = inbox.take(cut), inbox.take(T0_S + 100)
        receipts = inbox.take_receipts(cut) + inbox.take_receipts(T0_S + 100)
        assert rows_of(first) + rows_of(rest) + len(receipts) == len(choice), "once each, none lost"
        taken.append((first, rest, receipts))
    for left, right in zip(taken[0][:2], taken[1][:2], strict=True):
        np.testing.assert_equal(astuple(left), astuple(right))
    assert taken[0][2] == taken[1][2]


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from((*FEEDS, "", "noise")), st.binary(max_size=200)), max_size=8))
def test_garbage_is_refused_and_never_raises(messages: list[tuple[str, bytes]]) -> None:
    inbox = fresh()
    for k, (feed, payload) in enumerate(messages):
        inbox.offer(town.frame(feed, payload, counter=k), T0_S + 1)
    assert_accounts_balance(inbox, len(messages))
    assert sum(t.frames_accepted for t in inbox.tallies.values()) == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=250)
@given(st.data())
def test_honest_messages_with_one_field_spoilt_never_raise(data: st.DataObject) -> None:
    """Right shape, wrong value, at any depth: the frame or the row is refused, or it was a legal value after all."""
    feed = data.draw(st.sampled_from(FEEDS))
    document = json.loads(MESSAGES[feed].model_dump_json())
    target = document
    while True:
        field = data.draw(st.sampled_from(sorted(target)))
        inner = target[field]
        if isinstance(inner, list) and inner and isinstance(inner[0], dict) and data.draw(st.booleans()):
            target = inner[0]
            continue
        break
    action = data.draw(st.sampled_from(("replace", "remove", "add")))
    if action == "replace":
        target[field] = data.draw(JSON)
    elif action == "remove":
        del target[field]
    else:
        target[data.draw(st.text(min_size=1, max_size=5))] = data.draw(JSON)
    inbox = fresh()
    payload = json.dumps(document).encode()
    inbox.offer(town.frame(feed, payload), T0_S + 1)
    assert_accounts_balance(inbox, 1)
    inbox.take(T0_S + 2)
    inbox.take_receipts(T0_S + 2)


@pytest.mark.parametrize(
    "broken",
    [
        Frame("loops", "s", 0, 0.0, math.nan, b"{}"),
        Frame("loops", "s", 0, 0.0, T0_S, "text"),  # type: ignore[arg-type]
        Frame("v2x", None, 0, 0.0, T0_S, b"{}"),  # type: ignore[arg-type]
        Frame(None, None, None, None, None, None),  # type: ignore[arg-type]
        Frame("v2x", "s", 0, 0.0, T0_S, b"[" * 100_000),
        Frame("loops", "s", 0, 0.0, T0_S, b" " * (1 << 21)),
    ],
)
def test_broken_envelopes_are_refused(broken: Frame) -> None:
    inbox = fresh()
    assert not inbox.offer(broken, T0_S)
    assert_accounts_balance(inbox, 1)
