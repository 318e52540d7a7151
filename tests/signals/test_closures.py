from __future__ import annotations

import math

from networks.batches import ControlNotice
from signals.closures import Closures
from tests.signals import small_graphs as small
from tests.signals.small_graphs import Road

NETWORK = small.small_network([Road("a", "b", 100), Road("b", "c", 100), Road("c", "d", 100)])


def notice(
    edge: int, *, name: str = "works", lanes: tuple[int, ...] = (), limit_mps: float = math.nan, end_s: float = 200.0
) -> ControlNotice:
    return ControlNotice(name, edge, lanes, limit_mps, 100.0, end_s, 50.0)


def test_an_edge_is_closed_only_while_the_notice_runs() -> None:
    closures = Closures(NETWORK)
    closures.note([notice(1)])
    assert [closures.closed(t).tolist() for t in (99.0, 100.0, 199.0, 200.0)] == [
        [False] * 3, [False, True, False], [False, True, False], [False] * 3,
    ]  # fmt: skip


def test_closing_the_last_lane_for_cars_closes_the_edge_and_a_speed_limit_does_not() -> None:
    closures = Closures(NETWORK)
    closures.note([notice(0, name="lane", lanes=(0,)), notice(2, name="slow", limit_mps=5.0)])
    assert closures.closed(150.0).tolist() == [True, False, False]


def test_a_newer_notice_of_the_same_works_replaces_the_older() -> None:
    closures = Closures(NETWORK)
    closures.note([notice(1)])
    closures.note([notice(1, end_s=120.0)])
    assert not closures.closed(150.0).any()
