"""Orders leave once, whole, and only for plans that were proven."""

from __future__ import annotations

import threading

import pytest

from networks.errors import UnsafePlanError
from networks.messages import GuidanceOrder, PlanOrder, RouteAdvice, unpack_order
from signals.executor import Head
from signals.fixed import own_programmes
from signals.formats import to_order
from signals.lamps import LampRecord
from signals.plan import ApprovedPlan
from signals.safety import approve
from tests.twin import cycles, small_city
from twin.publisher import OrderPublisher

NOW_S = small_city.T0_S + 20.0
STEPS = (("Gr", 5), ("yr", 3), ("rr", 2), ("rG", 20))


def proven(version: int = 0) -> ApprovedPlan:
    lamps = LampRecord.start("Gr", NOW_S - 15.0)
    return approve(cycles.plan(NOW_S + 1, STEPS), cycles.SIGNAL, lamps, now_s=NOW_S, version=version)


def test_an_order_says_what_was_proven_and_a_controller_shows_it():
    approved, publisher = proven(version=7), OrderPublisher()
    publisher.publish((approved,), None)
    (payload,) = publisher.take()
    order = unpack_order(payload)
    assert isinstance(order, PlanOrder)
    assert (order.plan_version, order.signature) == (7, approved.proof)
    head = Head(cycles.SIGNAL, own_programmes(cycles.SIGNAL, epoch_of_zero_s=small_city.T0_S), NOW_S)
    assert head.receive(order, NOW_S).accepted
    for second in range(31):
        lamps = head.step(NOW_S + second)
        if second and second < 10:  # the controller falls back on its own when it hears nothing for ten seconds
            assert lamps == approved.plan.state_at(NOW_S + second)


def test_each_order_is_fetched_once():
    publisher = OrderPublisher()
    publisher.publish((proven(0), proven(1)), None)
    assert len(publisher.take()) == 2
    assert publisher.take() == []


def test_advice_travels_only_when_there_is_some():
    publisher = OrderPublisher()
    publisher.publish((), GuidanceOrder(valid_until=NOW_S + 60, routes=()))
    assert publisher.take() == []
    advice = RouteAdvice(
        vehicle=None, from_edge="west_in", destination="east_out", route=("west_in", "east_out"), share=0.5
    )
    publisher.publish((), GuidanceOrder(valid_until=NOW_S + 60, routes=(advice,)))
    (payload,) = publisher.take()
    order = unpack_order(payload)
    assert isinstance(order, GuidanceOrder)
    assert order.routes == (advice,)


def test_a_late_publisher_and_a_fetching_street_lose_and_double_nothing():
    publisher, plan = OrderPublisher(), proven()
    writers = [threading.Thread(target=lambda: [publisher.publish((plan,), None) for _ in range(200)]) for _ in "ab"]
    for writer in writers:
        writer.start()
    fetched = []
    while any(writer.is_alive() for writer in writers):
        fetched += publisher.take()
    assert len(fetched + publisher.take()) == 400


def test_a_plan_without_proof_cannot_be_made_into_an_order():
    with pytest.raises(UnsafePlanError):
        to_order(ApprovedPlan(proven().plan, 1, NOW_S, "forged", object()))
