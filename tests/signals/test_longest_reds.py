from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from signals.controllers.longest_reds import next_stages

MARGIN_S = 20.0


@st.composite
def junctions(draw):
    """(opens (S, K), change (S, S), stay (S,), present stage, seconds left (K,)) of a junction after a quiet time."""
    stages, links = draw(st.integers(2, 5)), draw(st.integers(2, 6))
    opens = np.array(draw(st.lists(st.booleans(), min_size=stages * links, max_size=stages * links)))
    opens = opens.reshape(stages, links)
    seconds = st.integers(0, 12).map(float)
    change_s = np.array(draw(st.lists(seconds, min_size=stages**2, max_size=stages**2))).reshape(stages, stages)
    np.fill_diagonal(change_s, 0.0)
    stay_s = np.array(draw(st.lists(seconds, min_size=stages, max_size=stages)))
    left_s = np.array(draw(st.lists(st.integers(0, 120).map(float), min_size=links, max_size=links)))
    stage = draw(st.integers(0, stages - 1))
    return opens, change_s, stay_s, stage, np.where(opens[stage], np.inf, left_s)


@given(junctions(), st.data())
def test_where_all_can_be_in_time_any_stages_that_the_rule_allows_are_in_time(junction, data):
    opens, change_s, stay_s, stage, left_s = junction
    late, _ = next_stages(opens, change_s, stay_s, stage, left_s, 0.0)
    assume(not late)
    while (left_s[opens.any(axis=0)] < np.inf).any():
        _, may = next_stages(opens, change_s, stay_s, stage, left_s, np.inf)
        chosen = data.draw(st.sampled_from(np.flatnonzero(may).tolist()))
        left_s = left_s - change_s[stage, chosen]
        assert (left_s[opens[chosen]] >= 0.0).all()
        left_s = np.where(opens[chosen], np.inf, left_s - stay_s[chosen])
        stage = chosen


def test_six_due_at_once_in_stages_of_their_own_are_not_left_to_the_last_moment():
    opens = np.eye(7, dtype=bool)
    change_s = np.where(opens, 0.0, 6.0)
    stay_s = np.full(7, 8.0)
    left_s = np.array([np.inf, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0])
    due, may = next_stages(opens, change_s, stay_s, 0, left_s, MARGIN_S)  # the sixth opens after 76 s: 24 to spare
    assert not due
    assert may.all()
    due, may = next_stages(opens, change_s, stay_s, 0, left_s - 5.0, MARGIN_S)
    assert due
    assert may.tolist() == [False, True, False, False, False, False, False]
    alone_s = np.where(np.arange(7) == 3, left_s - 5.0, np.inf)
    assert not next_stages(opens, change_s, stay_s, 0, alone_s, MARGIN_S)[0]


def test_of_the_stages_that_open_the_first_link_those_that_leave_another_too_late_are_shut():
    opens = np.array([[0, 0, 1], [1, 0, 0], [1, 1, 0]], bool)
    change_s, stay_s = np.where(np.eye(3, dtype=bool), 0.0, 6.0), np.full(3, 8.0)
    due, may = next_stages(opens, change_s, stay_s, 0, np.array([10.0, 15.0, np.inf]), MARGIN_S)
    assert due
    assert may.tolist() == [False, False, True]
