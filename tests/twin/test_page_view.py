from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import numpy as np

from networks.batches import FeedHealth
from signals.arbiter import Decision
from signals.plan import ApprovedPlan, LampStep, SignalPlan
from tests.twin import small_city as town
from twin.board import Board
from twin.loop import City, CycleReport, Pace
from twin.page_view import PageView
from twin.stage import Outcome

NETWORK = town.small_network()


def loop() -> City:
    health = (FeedHealth("loops", 4, 1, 99.0, 1.5), FeedHealth("weather", 0, 0, np.nan, np.inf))
    return cast(
        City,
        SimpleNamespace(network=NETWORK, mirror=None, pace=Pace(), inbox=SimpleNamespace(health=lambda _: health)),
    )


def cycle(number: int, reason: str, *, given: int = 0) -> CycleReport:
    steps = (LampStep("Gr", 5.0), LampStep("yr", 3.0), LampStep("rG" if reason != "new" else "rr", 5.0))
    plan = SignalPlan(0, "J", steps, 0.0, 9.0, source="test", reason=reason)
    approved = cast(ApprovedPlan, SimpleNamespace(plan=plan, version=number))  # only safety makes real ones
    return CycleReport(
        number, 1000.0 + 5.0 * number, 12.34, (Outcome("fuse", 3.21, "last state, older", "late"),), None, None,
        Decision((approved,), (), ()), given, (), (), (), (),
    )  # fmt: skip


def test_a_cycle_becomes_what_the_page_reads() -> None:
    board = Board(NETWORK, city="small")
    PageView(board, progress="seed 1")(loop(), cycle(3, "queue on the left"), None)
    shown = json.loads(board.latest()[1])
    assert shown["cycle"] == 3
    assert shown["feeds"][1] == {"feed": "weather", "accepted": 0, "quarantined": 0, "silent_s": None}
    assert shown["stages"] == [{"name": "fuse", "ms": 3.2, "fallback": "last state, older"}]
    assert shown["decisions"][0]["reason"] == "queue on the left"
    assert (shown["mirror"], shown["street"], shown["progress"]) == ("off", "off", "seed 1")


def test_renewed_plans_are_listed_once_and_advice_fades_after_a_minute() -> None:
    board = Board(NETWORK, city="small")
    view = PageView(board)
    for number in range(30):
        view(loop(), cycle(number, "old" if number < 10 else "new", given=2 if number < 4 else 0), None)
        shown = json.loads(board.latest()[1])
        if number == 5:
            assert shown["advised"] == 8
    assert [d["reason"] for d in shown["decisions"]] == ["new", "old"]
    assert shown["advised"] == 0
