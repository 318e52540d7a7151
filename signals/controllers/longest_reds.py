"""Which stages may come next so that no link stays red for too long: earliest deadline first.

Several links may be near their longest red at once, each in a stage of its own, as after a start; then the first of
them has to be opened long before its own red is too long, or the last one comes too late.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from networks.graph import Bools, Floats
from signals.compiled import flat, making


@making
def next_stages(
    opens: NDArray[np.bool_], change_s: Floats, stay_s: Floats, stage: int, left_s: Floats, margin_s: float
) -> tuple[bool, Bools]:
    """(does it matter by now?, stages (S,) that may come next)

    opens     (S, K) does stage s open link k
    change_s  (S, S) from one stage to the next
    stay_s    (S,) the least that a stage stays on
    stage     the present one, its least time over
    left_s    (K,) until the link has been red for too long, inf where it is green or nobody uses it
    margin_s  with no more to spare than this it matters

    Links are opened in the order of their deadlines, each time by the stage that opens most of those left. Where that
    leaves less than the margin anywhere, stages may come next that open the first link and with which all that are
    left can still be in time; where there are none, those with which the latest is least late.
    """
    stages, links = opens.shape
    left = np.empty(links, np.bool_)
    may = np.ones(stages, np.bool_)
    slack_s = _least_slack_s(opens, change_s, stay_s, stage, 0.0, left_s, left, -1)
    if slack_s >= margin_s:
        return False, may
    for k in range(links):
        left[k] = left_s[k] < np.inf and opens[:, k].any()
    first = _earliest(left, left_s)
    slacks_s = np.full(stages, -np.inf)
    for s in range(stages):
        if opens[s, first]:
            begin_s = change_s[stage, s]
            rest_s = _least_slack_s(opens, change_s, stay_s, s, begin_s + stay_s[s], left_s, left, s)
            slacks_s[s] = min(left_s[first] - begin_s, rest_s)
    enough_s = min(0.0, slacks_s.max())
    for s in range(stages):
        may[s] = slacks_s[s] >= enough_s
    return True, may


@flat
def _earliest(left: Bools, left_s: Floats) -> int:
    """Of the links that are left the one with the earliest deadline, -1 for none."""
    first = -1
    for k in range(len(left)):
        if left[k] and (first < 0 or left_s[k] < left_s[first]):
            first = k
    return first


@flat
def _least_slack_s(
    opens: NDArray[np.bool_],
    change_s: Floats,
    stay_s: Floats,
    stage: int,
    time_s: float,
    left_s: Floats,
    left: Bools,
    opened: int,
) -> float:
    """How much earlier than its deadline every link is opened at least; `opened`: a stage that has just been on."""
    stages, links = opens.shape
    for k in range(links):
        left[k] = left_s[k] < np.inf and not (opened >= 0 and opens[opened, k])
    slack_s = np.inf
    while True:
        worst = _earliest(left, left_s)
        if worst < 0:
            return slack_s
        best, most = -1, 0
        for s in range(stages):
            if opens[s, worst]:
                count = 0
                for k in range(links):
                    if left[k] and opens[s, k]:
                        count += 1
                if count > most:
                    best, most = s, count
        if best < 0:  # no stage opens it
            left[worst] = False
            continue
        time_s += change_s[stage, best]
        slack_s = min(slack_s, left_s[worst] - time_s)
        time_s += stay_s[best]
        stage = best
        for k in range(links):
            if opens[best, k]:
                left[k] = False
