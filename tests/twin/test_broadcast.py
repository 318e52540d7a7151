"""What leaves for roadside units can be read by whoever hears it, and tells only what was proven."""

from __future__ import annotations

import math

import pytest

from networks import day_one
from networks.batches import ControlNotice
from networks.errors import InputError
from signals.formats.spat_csae53 import lamps_of_spat
from signals.lamps import LampRecord
from signals.plan import ApprovedPlan, LampStep, SignalPlan
from signals.safety import approve
from tests.twin import placed_town as town
from twin.broadcast import Broadcast, Sending
from twin.numbering import Numbering, SignalNumbers, own_numbering
from twin.road_messages import MOST_EVENTS

NETWORK = town.placed_crossroads()
NUMBERING = own_numbering(NETWORK, region=7)
NOW_S = town.T0_S
UNIT = "unit0001"
CODE = 501


def broadcast() -> Broadcast:
    return Broadcast(NETWORK, NUMBERING, {0: UNIT})


def proven(begins_s: float = NOW_S) -> ApprovedPlan:
    """The first shipped stage, held for a while."""
    signal = NETWORK.signals[0]
    state = signal.programme.phases[0].state
    plan = SignalPlan(0, signal.id, (LampStep(state, 10.0),), begins_s, begins_s + 20.0)
    return approve(plan, signal, LampRecord.start(state, NOW_S - 15.0), now_s=NOW_S - 1.0, version=3)


def read(sending: Sending) -> tuple[str, dict[str, object]]:
    kind = sending.topic.split(".")[2]
    assert sending.topic == day_one.down_topic(kind, UNIT)
    envelope = day_one.unpack_envelope(kind, sending.payload)
    assert envelope.unit == UNIT
    assert envelope.sent_at_s == pytest.approx(NOW_S, abs=1e-3)
    got, value = day_one.decode(envelope.messages[0])
    assert got == kind
    return kind, value


def test_lamps_are_told_while_their_plan_holds() -> None:
    sender = broadcast()
    approved = proven()
    (sending,) = sender.spat([approved], NOW_S)
    _, value = read(sending)
    ((place, phases),) = lamps_of_spat(value).items()
    assert place == (7, 1)
    groups = NUMBERING.signals[0].groups
    assert "".join(phases[g] for g in groups) == approved.plan.state_at(NOW_S)
    assert sender.spat([approved], NOW_S + 30.0) == []
    assert sender.spat([approved], NOW_S - 1.0) == []


def test_signals_without_a_unit_are_not_told() -> None:
    assert Broadcast(NETWORK, NUMBERING, {}).spat([proven()], NOW_S) == []
    assert Broadcast(NETWORK, NUMBERING, {}).map(NOW_S) == []


def test_counters_go_round() -> None:
    sender = broadcast()
    counters = [read(sender.map(NOW_S)[0])[1]["msgCnt"] for _ in range(130)]
    assert counters == [k % 128 for k in range(130)]


def test_many_closures_are_told_in_several_messages_and_ended_ones_not_at_all() -> None:
    edges = len(NETWORK.edges.ids)
    notices = [
        ControlNotice(f"n{k}", k % edges, (), math.nan, NOW_S, NOW_S + 600, NOW_S) for k in range(2 * MOST_EVENTS + 1)
    ]
    over = ControlNotice("over", 0, (), math.nan, NOW_S - 600, NOW_S - 1, NOW_S)
    sendings = broadcast().rsi([*notices, over], NOW_S, event_type=CODE)
    events = [event for sending in sendings for event in read(sending)[1]["rtes"]]  # type: ignore[attr-defined]
    assert len(events) == len(notices)
    assert {event["eventType"] for event in events} == {CODE}
    assert broadcast().rsi([over], NOW_S, event_type=CODE) == []


def test_numbers_that_do_not_fit_are_refused() -> None:
    links = NETWORK.signals[0].link_count
    with pytest.raises(InputError, match="links"):
        Numbering(NETWORK, [SignalNumbers(1, None, (1,))])
    with pytest.raises(InputError, match="signals"):
        Numbering(NETWORK, [])
    high = Numbering(NETWORK, [SignalNumbers(65_535, None, (1,) * links)])
    with pytest.raises(InputError, match="65535"):
        high.node_reference(len(NETWORK.nodes) + 1)
