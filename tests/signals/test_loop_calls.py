"""Loops before stop lines vouch for lanes that nobody waits on, and for nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.batches import CountBatch, SignalStateBatch
from networks.graph import Network
from networks.sensors import place_detectors
from signals.loop_calls import ACTIVE_S, FRESH_S, LoopCalls
from tests.signals.drawn_junctions import crossroads as drawn_crossroads

NOW_S = 1_772_000_000.0
ACROSS, ALONG = "rrrrgGGgrrrrgGGgrrrr", "gGGgrrrrgGGgrrrrrrrr"  # streets east-west, and north-south
NORTH, SOUTH = [0, 1, 2, 3], [8, 9, 10, 11]  # links that are red while it is the turn of east-west


@pytest.fixture(scope="module")
def network() -> Network:
    return drawn_crossroads()


class Street:
    """Loops and lamps of the crossroads, second by second."""

    def __init__(self, network: Network, left_out: str = "") -> None:
        self.detectors = [d for d in place_detectors(network, 1.0) if d.id != left_out]
        self.index = {d.id: i for i, d in enumerate(self.detectors)}
        self.calls = LoopCalls(network, self.detectors)
        self.now_s = NOW_S

    def second(self, state: str, *covered: str, silent: tuple[str, ...] = ()) -> None:
        """One second of these lamps, with somebody on some loops."""
        self.calls.note_lamps(0, state)
        self.now_s += 1.0
        heard = np.array([i for name, i in self.index.items() if name not in silent], np.int32)
        on = np.isin(heard, [self.index[name] for name in covered])
        self.calls.note_loops(heard, on, self.now_s)

    def live(self) -> None:
        """Everybody has had green and is gone; east-west has it now."""
        self.second(ALONG, *self.index)
        self.second(ACROSS, *(name for name in self.index if name[0] in "ew"))
        self.second(ACROSS)

    def unwanted(self, **kw: np.ndarray) -> list[int]:
        return [k for _, links in self.calls.unwanted(self.now_s, **kw) for k in np.flatnonzero(links).tolist()]


def test_links_at_red_that_nobody_came_to_are_vouched_for_and_crossings_never(network):
    street = Street(network)
    assert street.unwanted() == []  # nobody knows who stood there before
    street.live()
    assert street.unwanted() == NORTH + SOUTH


@pytest.mark.parametrize("loop", ["nc_1_stop", "nc_1_upstream"])
def test_a_call_stands_until_it_is_answered(network, loop):
    street = Street(network)
    street.live()
    street.second(ACROSS, loop)
    assert street.unwanted() == [2, 3, *SOUTH]
    street.second(ACROSS)
    assert street.unwanted() == [2, 3, *SOUTH]
    street.second(ALONG)
    street.second(ACROSS)
    assert street.unwanted() == NORTH + SOUTH


def test_a_loop_that_is_silent_idle_or_distrusted_vouches_for_nothing(network):
    street = Street(network)
    street.live()
    lies = np.zeros(len(street.detectors), np.bool_)
    lies[street.index["sc_2_stop"]] = True
    assert street.unwanted(distrusted=lies) == [*NORTH, 8, 9]
    for _ in range(int(FRESH_S) + 1):
        street.second(ACROSS, silent=("nc_2_stop",))
    assert street.unwanted() == [0, 1, *SOUTH]
    street.second(ACROSS)
    assert street.unwanted() == NORTH + SOUTH
    street.now_s += ACTIVE_S
    street.second(ACROSS)
    assert street.unwanted() == []


def test_a_lane_without_a_stop_loop_is_never_vouched_for(network):
    street = Street(network, left_out="nc_1_stop")
    street.live()
    assert street.unwanted() == [2, 3, *SOUTH]


def test_loops_tell_of_the_lamps_before_their_report(network):
    """Who is over a loop in the last second of green does not wait; reports of several seconds come at once."""
    street = Street(network)
    street.live()
    stop = street.index["nc_1_stop"]
    everywhere = np.arange(len(street.detectors), dtype=np.int32)
    at_s = street.now_s + np.array([1.0, 2.0])
    times_s = np.repeat(at_s, len(everywhere))
    occupancy = np.where((np.tile(everywhere, 2) == stop) & (times_s == at_s[1]), 0.4, 0.0)
    nothing = np.zeros(len(times_s))
    counts = CountBatch(
        np.tile(everywhere, 2), nothing.astype(np.int32), occupancy, nothing, nothing + 1.0, times_s, times_s
    )
    lamps = SignalStateBatch(
        np.zeros(2, np.int32), (ALONG, ACROSS), np.zeros(2, np.int64), at_s, at_s
    )  # green to the north from 1 s on, red again from 2 s on
    street.calls.note(counts, lamps)
    street.now_s += 2.0
    assert street.unwanted() == NORTH + SOUTH


def test_a_green_that_is_told_late_answers_no_call(network):
    street = Street(network)
    street.live()
    street.second(ACROSS, "nc_1_stop")
    nobody, none = np.zeros(0, np.int32), np.zeros(0)
    counts = CountBatch(nobody, nobody, none, none, none, none, none)

    def told(state: str, at_s: float) -> SignalStateBatch:
        moment = np.array([at_s])
        return SignalStateBatch(np.zeros(1, np.int32), (state,), np.zeros(1, np.int64), moment, moment)

    street.calls.note(counts, told(ACROSS, street.now_s))
    street.calls.note(counts, told(ALONG, street.now_s - 5.0))
    assert street.unwanted() == [2, 3, *SOUTH]
    street.calls.note(counts, told(ALONG, street.now_s + 1.0))
    street.calls.note(counts, told(ACROSS, street.now_s + 2.0))
    assert street.unwanted() == NORTH + SOUTH


@given(data=st.data())
def test_nobody_who_stands_at_red_is_vouched_away(data):
    """Whatever happens, a link is vouched for only if no loop of its lane was covered at red since its last green."""
    network = drawn_crossroads()
    street = Street(network)
    street.live()
    waits = dict.fromkeys((*NORTH, *SOUTH, 4, 5, 6, 7, 12, 13, 14, 15), False)
    lane_of = {
        k: network.lanes.ids[network.movements.from_lane[network.signals[0].link_movements[k][0]]] for k in waits
    }
    for _ in range(data.draw(st.integers(1, 12))):
        state = data.draw(st.sampled_from([ACROSS, ALONG, "r" * 20, "yyyyrrrryyyyrrrrrrrr"]))
        covered = data.draw(st.lists(st.sampled_from(list(street.index)), max_size=4))
        street.second(state, *covered)
        for k in waits:
            on = any(name.startswith(lane_of[k]) for name in covered)
            waits[k] = (waits[k] or (on and state[k] == "r")) and state[k] not in "gG"
        assert not [k for k in street.unwanted() if waits[k] or state[k] != "r"]
