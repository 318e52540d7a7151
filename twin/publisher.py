"""Sends approved plans and guidance to the street."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from networks.messages import GuidanceOrder, pack_order
from signals.formats import to_order
from signals.plan import ApprovedPlan


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
