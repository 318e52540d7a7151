from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
import pytest

from networks.graph import Network, Signal
from signals.glosa import glosa
from signals.plan import ApprovedPlan, LampStep, SignalPlan
from tests.signals import small_graphs as small
from tests.signals.small_graphs import Road


class _Lights(NamedTuple):
    link_movements: tuple[tuple[int, ...], ...]


class _Approved(NamedTuple):
    plan: SignalPlan


NETWORK: Network = replace(
    small.small_network([Road("a", "b", 200), Road("b", "c", 200), Road("d", "b", 60)]),
    signals=(cast(Signal, _Lights(((0,), (1,)))),),
)


def promise(*steps: tuple[str, float], until_s: float = 200.0) -> list[ApprovedPlan]:
    plan = SignalPlan(0, "b", tuple(LampStep(*s) for s in steps), 0.0, until_s)
    return [cast(ApprovedPlan, _Approved(plan))]


def test_a_car_that_would_meet_red_is_slowed_to_meet_green() -> None:
    hints = glosa(promise(("rr", 25.0), ("Gr", 60.0)), NETWORK, 0.0)  # 20 s at the limit, green from second 25
    assert [h.edge for h in hints] == [0]
    assert hints[0].speed_mps == pytest.approx(200 / 27)


@pytest.mark.parametrize(
    "steps",
    [
        (("Gr", 60.0),),  # green anyway
        (("rr", 60.0), ("Gr", 60.0)),  # would have to crawl
        (("Gr", 10.0), ("rr", 90.0)),  # no green in sight
    ],
)
def test_no_advice_where_it_does_not_help(steps: tuple[tuple[str, float], ...]) -> None:
    assert glosa(promise(*steps), NETWORK, 0.0) == ()


def test_nothing_is_promised_beyond_the_plan() -> None:
    assert glosa(promise(("rr", 25.0), ("Gr", 60.0), until_s=24.0), NETWORK, 0.0) == ()


def test_every_advice_leads_into_green_within_the_limit() -> None:
    for red_s in np.arange(1.0, 60.0):
        plans = promise(("rr", red_s), ("Gr", 100.0))
        for hint in glosa(plans, NETWORK, 0.0):
            assert small.LIMIT_MPS / 2 <= hint.speed_mps <= small.LIMIT_MPS
            assert plans[0].plan.state_at(200 / hint.speed_mps)[0] == "G"
