"""Intergreen times: RiLSA closed forms, shipped gaps, plausible values on real nets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.city import load_network, read_city
from networks.graph import Programme, ProgrammePhase
from networks.intergreen import (
    STRAIGHT_ON,
    TURNING,
    WALKING,
    LinkPath,
    intergreen_matrix,
    longest_all_red_s,
    longest_yellow_s,
    shipped_gaps,
)

BOTH = np.array([[False, True], [True, False]])
VEHICLES = np.zeros(2, np.bool_)
NO_PROGRAMME = Programme("none", "static", 0.0, ())


def programme(*phases: tuple[float, str]) -> Programme:
    return Programme("p", "static", 0.0, tuple(ProgrammePhase(state, s, s, s) for s, state in phases))


def matrix(paths: list[LinkPath], shipped: Programme = NO_PROGRAMME, yellow_s: float = 3.0) -> np.ndarray:
    return intergreen_matrix(BOTH, paths, VEHICLES, np.zeros(2), shipped, yellow_s, 0.0)


def straight(link: int, start: tuple[float, float], end: tuple[float, float]) -> LinkPath:
    return LinkPath(link, np.array([start, end]), STRAIGHT_ON)


def test_two_crossing_streets_match_the_formula() -> None:
    eastward = straight(0, (-25.0, 0.0), (25.0, 0.0))
    northward = straight(1, (0.0, -10.0), (0.0, 40.0))
    times = matrix([eastward, northward])
    assert times[0, 1] == np.ceil(3.0 + (25.0 + 6.0) / 10.0 - 10.0 / (40.0 / 3.6))
    assert times[1, 0] == np.ceil(3.0 + (10.0 + 6.0) / 10.0 - 25.0 / (40.0 / 3.6))


def test_turning_traffic_clears_later_and_walkers_enter_at_once() -> None:
    path = np.array([[0.0, 0.0], [30.0, 0.0]])
    crossing = LinkPath(1, np.array([[28.0, -5.0], [28.0, 5.0]]), WALKING, half_width_m=1.0)
    assert matrix([LinkPath(0, path, STRAIGHT_ON), crossing])[0, 1] == pytest.approx(3 + (30 + 6) / 10, abs=1.0)
    assert matrix([LinkPath(0, path, TURNING), crossing])[0, 1] == pytest.approx(2 + (30 + 6) / 7, abs=1.0)


def test_walkers_clear_by_crossing_length() -> None:
    times = intergreen_matrix(BOTH, [], np.array([True, False]), np.array([8.4, 0.0]), NO_PROGRAMME, 3.0, 2.0)
    assert times.tolist() == [[0.0, 9.0], [5.0, 0.0]]


def test_shipped_gap_of_a_direct_change_stands() -> None:
    far = [straight(0, (-60.0, 0.0), (60.0, 0.0)), straight(1, (0.0, -5.0), (0.0, 60.0))]
    shipped = programme((30, "Gr"), (3, "yr"), (1, "rr"), (30, "rG"), (3, "ry"), (4, "rr"))
    times = matrix(far, shipped)
    assert (times[0, 1], times[1, 0]) == (4.0, 7.0)


def test_gap_with_another_stage_in_between_is_no_intergreen() -> None:
    conflicts = ~np.eye(3, dtype=np.bool_)
    shipped = programme((30, "Grr"), (4, "yrr"), (6, "rGr"), (3, "ryr"), (30, "rrG"), (5, "rry"))
    shortest_s, direct_s = shipped_gaps(conflicts, shipped)
    assert shortest_s[0, 2] == 13.0
    assert np.isnan(direct_s[0, 2])
    assert (direct_s[0, 1], direct_s[1, 2], direct_s[2, 0]) == (4.0, 3.0, 5.0)


METRES = st.integers(-5000, 5000).map(lambda cm: cm / 100)  # networks are drawn to the centimetre


@given(
    st.lists(st.tuples(METRES, METRES), min_size=4, max_size=4, unique=True),
    st.floats(3.0, 6.0),
)
def test_every_time_is_whole_at_least_yellow_and_bounded(points: list[tuple[float, float]], yellow_s: float) -> None:
    a, b, c, d = points
    times = matrix([straight(0, a, b), straight(1, c, d)], yellow_s=yellow_s)
    assert (np.diag(times) == 0).all()
    off = times[BOTH]
    assert (off == np.round(off)).all()
    assert (off >= yellow_s).all()
    assert (off <= 12.0).all()


def naive_gaps(conflicts: np.ndarray, phases: list[tuple[float, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Second by second: walk on from each end of green of i until j opens."""
    shown = [state for seconds, state in phases for _ in range(int(seconds))]
    green = np.array([[c in "Gg" for c in state] for state in shown])
    opens, closes = green & ~np.roll(green, 1, axis=0), ~green & np.roll(green, 1, axis=0)
    count, cycle = len(conflicts), len(shown)
    shortest_s, direct_s = np.full((count, count), np.inf), np.full((count, count), np.nan)
    for now, i in np.argwhere(closes):
        for j in np.flatnonzero(conflicts[i]):
            gap = next((g for g in range(cycle) if opens[(now + g) % cycle, j]), None)
            if gap is None:
                continue
            shortest_s[i, j] = min(shortest_s[i, j], gap)
            between = np.arange(now + 1, now + gap) % cycle
            if not closes[between].any() and not opens[between][:, conflicts[i]].any():
                direct_s[i, j] = np.fmin(direct_s[i, j], gap)
    return shortest_s, direct_s


@given(st.data())
def test_shipped_gaps_equal_a_walk_through_the_seconds(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 5))
    bits = data.draw(st.lists(st.booleans(), min_size=count**2, max_size=count**2))
    conflicts = np.triu(np.array(bits).reshape(count, count), 1)
    conflicts = conflicts | conflicts.T
    phase = st.tuples(st.integers(1, 6), st.text("Ggry", min_size=count, max_size=count))
    phases = data.draw(st.lists(phase, min_size=1, max_size=6))
    got = shipped_gaps(conflicts, programme(*phases))
    np.testing.assert_array_equal(got, naive_gaps(conflicts, [(float(s), state) for s, state in phases]))


@given(st.data())
def test_yellow_and_all_red_are_what_lamps_show_however_the_phases_are_cut(data: st.DataObject) -> None:
    """A programme whose yellows begin and end one after the other has phases of a second each."""
    yellow_s, all_red_s = data.draw(st.integers(3, 6)), data.draw(st.integers(0, 3))
    closing = [(yellow_s, "yr"), (all_red_s, "rr")]
    phases = [(30, "Gr"), *closing, (20, "rG"), *((s, state[::-1]) for s, state in closing)]
    cut = [(1, state) for seconds, state in phases for _ in range(seconds)]
    turned = data.draw(st.integers(0, len(cut) - 1))
    for shown in (phases, cut, cut[turned:] + cut[:turned]):
        assert longest_yellow_s(programme(*shown)) == yellow_s
        assert longest_all_red_s(programme(*shown)) == all_red_s


def test_yellows_that_overlap_keep_their_length() -> None:
    late = programme((20, "GGr"), (1, "yGr"), (2, "yyr"), (1, "ryr"), (2, "rrr"), (20, "rrG"), (3, "rry"), (1, "rrr"))
    assert longest_yellow_s(late) == 3.0
    assert longest_all_red_s(late) == 2.0
    assert longest_yellow_s(programme((20, "Gr"), (20, "rG"))) == 0.0
    assert (longest_yellow_s(NO_PROGRAMME), longest_all_red_s(NO_PROGRAMME)) == (0.0, 0.0)
    assert longest_yellow_s(programme((20, "yG"), (3, "yy"), (20, "yr"))) == 3.0  # one that always flashes is none


@pytest.mark.parametrize("name", ["networks/bologna_joined", "networks/hamburg_tavf", "resco/ingolstadt21"])
def test_real_junctions_get_plausible_times(shared_data: Path, name: str) -> None:
    network = load_network(read_city(shared_data / name))
    seconds = np.concatenate([s.intergreen_s[s.conflicts & ~s.pedestrian[:, None]] for s in network.signals])
    assert np.mean((seconds >= 3) & (seconds <= 8)) > 0.9
    assert seconds.max() <= 12
    for signal in network.signals:
        assert (signal.intergreen_s[~signal.conflicts] == 0).all()
        assert (signal.intergreen_s[signal.conflicts] >= signal.yellow_s).all()
        shortest_s, _ = shipped_gaps(signal.conflicts, signal.programme)
        possible = signal.conflicts & (shortest_s >= np.ceil(signal.yellow_s))
        assert (signal.intergreen_s[possible] <= np.ceil(shortest_s[possible])).all()


def test_ways_that_join_conflict_where_they_come_together() -> None:
    through = straight(0, (-20.0, 0.0), (40.0, 0.0))
    joining = LinkPath(1, np.array([[0.0, -15.0], [0.0, 0.0], [40.0, 0.0]]), TURNING)
    times = matrix([through, joining])
    assert times[0, 1] == np.ceil(3.0 + (20.0 + 6.0) / 10.0 - 15.0 / (40.0 / 3.6))
    assert times[1, 0] == max(3.0, np.ceil(2.0 + (15.0 + 6.0) / 7.0 - 20.0 / (40.0 / 3.6)))
