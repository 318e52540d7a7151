"""Sends approved plans and guidance to the street."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from networks import line
from networks.messages import GuidanceOrder, pack_order, sign_plan
from signals.formats import to_order
from signals.plan import ApprovedPlan
from twin.broadcast import Sending


class Publisher(Protocol):
    """Takes only `ApprovedPlan`s, so an unchecked plan cannot leave."""

    def publish(self, plans: Sequence[ApprovedPlan], guidance: GuidanceOrder | None) -> None: ...

    def take(self) -> list[bytes]:
        """Orders that wait to be carried to the street."""
        ...


class OrderPublisher:
    """Packs orders for a street that fetches them: the virtual city, or a test.

    A late publishing stage may still be packing while the street fetches: every order leaves exactly once.
    """

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()

    def publish(self, plans: Sequence[ApprovedPlan], guidance: GuidanceOrder | None) -> None:
        self._waiting.extend([pack_order(to_order(plan, signature=plan.proof)) for plan in plans])
        if guidance is not None and (guidance.routes or guidance.speeds):
            self._waiting.append(pack_order(guidance))

    def take(self) -> list[bytes]:
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


class LinePublisher:
    """Hands orders to a line (`mqtt.BrokerLink.send`), each under the topic of its controller.

    What the line does not take, because too much waits there already, is dropped: a plan that comes late is none.
    """

    def __init__(self, send: Callable[[Sequence[Sending]], int], key: bytes | None) -> None:
        """`key`: plans are signed with it; None: they carry the fingerprint of their proof."""
        self._send, self._key = send, key

    def publish(self, plans: Sequence[ApprovedPlan], guidance: GuidanceOrder | None) -> None:
        orders = [to_order(plan, signature=plan.proof) for plan in plans]
        if self._key is not None:
            orders = [sign_plan(order, self._key) for order in orders]
        sendings = [Sending(line.plan_topic(order.junction), pack_order(order)) for order in orders]
        if guidance is not None and (guidance.routes or guidance.speeds):
            sendings.append(Sending(line.GUIDANCE, pack_order(guidance)))
        self._send(sendings)

    def take(self) -> list[bytes]:
        """Nothing waits for anybody to fetch it."""
        return []
