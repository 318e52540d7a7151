"""Calls: who waits for which link."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from networks.graph import Crossing, Network
from scenarios.waiting import Calls
from signals.lamps import LampRecord
from signals.priority import Walkers
from tests.signals.strategies_signals import make_signal

FOES = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
SIGNAL = replace(
    make_signal(["GrG", "rGr"], FOES, pedestrian={2}), crossings=(Crossing(":S_c0", (2,), 8.0, 4.0, ()),)
)
LAMPS = LampRecord.start("rGr", 0.0)


class Street(SimpleNamespace):
    """People on foot: the next edge of each, and for how long they have stood."""

    def __init__(self, **people: tuple[str, float]) -> None:
        self.people = people
        super().__init__(
            getIDList=lambda: tuple(self.people),
            getNextEdge=lambda name: self.people[name][0],
            getWaitingTime=lambda name: self.people[name][1],
        )


def calls_of(street: Street, expected: Walkers | None = None) -> Calls:
    network: Network = SimpleNamespace(signals=(SIGNAL,))  # type: ignore[assignment]
    return Calls(SimpleNamespace(person=street), network, expected)


def test_a_link_is_wanted_by_those_who_come_to_it_and_a_crossing_by_those_who_walk() -> None:
    street = Street(anna=(":S_w0", 0.0))
    calls = calls_of(street)
    calls.look([(0, 1)])
    assert calls.unwanted(0).tolist() == [True, False, True]
    street.people["anna"] = (":S_c0", 0.0)
    calls.look([])
    assert calls.unwanted(0).tolist() == [True, True, False]
    street.people.clear()
    calls.look([])
    assert calls.unwanted(0).all()


def test_people_count_more_the_longer_they_stand() -> None:
    street = Street(anna=(":S_c0", 0.0), ben=(":S_c0", 0.0))
    calls = calls_of(street)
    weights = []
    for stood_s in (0.0, 20.0, 60.0, 1e4):
        street.people["ben"] = (":S_c0", stood_s)
        calls.look([])
        people, rate = calls.expect(0, LAMPS, 0.0)
        assert not rate.any()
        assert not people[:2].any()
        weights.append(float(people[2]))
    assert weights[0] == 2.0
    assert weights == sorted(weights)
    assert np.isfinite(weights[-1])


def test_where_nobody_walks_people_are_expected_at_every_crossing() -> None:
    """A simulation without walkers is no proof that none are there."""
    street = Street()
    calls = calls_of(street, Walkers((np.array([0.0, 0.0, 0.1]),), 1.0))
    calls.look([])
    assert calls.unwanted(0).tolist() == [True, True, False]
    people, rate = calls.expect(0, LAMPS, 30.0)
    assert rate[2] > 0.0
    assert people[2] > 0.0
    street.people["anna"] = ("elsewhere", 0.0)
    calls.look([])
    street.people.clear()
    calls.look([])
    assert calls.unwanted(0).all()
    assert not calls.expect(0, LAMPS, 30.0)[1].any()
