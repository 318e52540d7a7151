"""Interstages: the way from one set of greens to another that breaks no rule of the signal.

Each link moves on its own: a link that loses its green keeps it for as long as nothing waits for it, then shows the
full yellow, then red; a link that gains one waits until everything it meets has cleared, and starts just then. What
stays open stays open, G becoming g at once and g becoming G only when its foes have cleared.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from networks.graph import Floats, Signal
from signals.lamps import GREEN, LampRecord
from signals.plan import LampStep
from signals.rules import SignalRules, encode, rules_of
from signals.safety_kernels import MAJOR, MINOR, RED, YELLOW

_LETTERS = np.frombuffer(b"rygG", np.uint8)  # by lamp code


def transition(signal: Signal, from_state: str, to_state: str) -> tuple[LampStep, ...]:
    """Steps from one stage to another, the target itself not included; empty when it may follow at once.

    The first stage is taken to have stood for its minimum green and for every clearance. After a short one some link
    may still be clearing from before: `settle`, which knows the past, then gives the exact steps.
    """
    return settle(signal, LampRecord.start(from_state, 0.0), to_state, 0.0)


def settle(signal: Signal, record: LampRecord, to_state: str, at_s: float) -> tuple[LampStep, ...]:
    """Steps that lead from the lamps of `record`, whatever they show at `at_s`, to a stage, the stage not included.

    Greens in their minimum are kept until it is over, a running yellow is completed, links closed before `at_s` still
    get their clearance. Times come from the record, so `at_s` is a whole second at or after `record.at_s`.
    """
    rules = rules_of(signal)
    old, new = encode([record.state, to_state])
    green_old, green_new = (old == MINOR) | (old == MAJOR), (new == MINOR) | (new == MAJOR)
    closes_s = _closing_times(rules, record, at_s, green_old & ~green_new)
    red_s = _red_times(rules, record, at_s, old, closes_s)
    opens_s = _opening_times(rules, record, at_s, closes_s, red_s, green_old, green_new)
    rising = (old == MINOR) & (new == MAJOR)
    rises_s = _rising_times(rules, record, at_s, closes_s, green_old, rising)
    closes_s = _latest_closing_times(rules, closes_s, np.where(rising, rises_s, opens_s))
    red_s = _red_times(rules, record, at_s, old, closes_s)
    starts_s = np.where(green_old, rises_s, opens_s)
    times = np.concatenate([closes_s, red_s, starts_s])
    moments = sorted({0.0, *times[np.isfinite(times) & (times > 0.0)].tolist()})
    steps: list[LampStep] = []
    for begin_s, end_s in pairwise(moments):
        state = _state_at(begin_s, old, new, closes_s, red_s, starts_s, to_state)
        if steps and steps[-1].state == state:
            steps[-1] = LampStep(state, steps[-1].duration_s + end_s - begin_s)
        else:
            steps.append(LampStep(state, end_s - begin_s))
    return tuple(steps)


def _closing_times(rules: SignalRules, record: LampRecord, at_s: float, closing: NDArray[np.bool_]) -> Floats:
    """Seconds from `at_s` to the end of green of each link that loses it, inf for the others."""
    rest_s = np.maximum(0.0, record.green_from_s + rules.min_green_s - at_s)
    return np.where(closing, np.ceil(rest_s), np.inf)


def _latest_closing_times(rules: SignalRules, closes_s: Floats, opens_s: Floats) -> Floats:
    """Closing times put off as far as nothing is delayed: while walkers clear, the traffic beside them runs on.

    `opens_s`: when each link opens or rises from g to G, inf for the others.
    """
    opening = np.isfinite(opens_s)
    if not opening.any():
        return closes_s
    need_s = np.where(rules.meets & opening[None, :], opens_s[None, :] - rules.clear_s, np.inf).min(axis=1)
    last_s = float(opens_s[opening].max()) - rules.yellow_s
    later_s = np.floor(np.where(np.isfinite(need_s), need_s, last_s))
    return np.where(np.isfinite(closes_s), np.maximum(closes_s, later_s), np.inf)


def _red_times(
    rules: SignalRules, record: LampRecord, at_s: float, old: NDArray[np.uint8], closes_s: Floats
) -> Floats:
    """Seconds from `at_s` to the end of yellow, inf for links that show none."""
    rest_s = np.maximum(0.0, record.since_s + rules.yellow_s - at_s)
    return np.where(old == YELLOW, np.ceil(rest_s), closes_s + rules.yellow_s)


def _opening_times(
    rules: SignalRules,
    record: LampRecord,
    at_s: float,
    closes_s: Floats,
    red_s: Floats,
    green_old: NDArray[np.bool_],
    green_new: NDArray[np.bool_],
) -> Floats:
    """Seconds from `at_s` to the start of green of each link that gains it, inf for the others."""
    cleared_s = _cleared_s(rules, record, at_s, closes_s, green_old)
    own_s = np.where(np.isfinite(red_s), red_s + 1.0, 0.0)  # a yellow ends in red, be it for a second
    return np.where(green_new & ~green_old, np.maximum(own_s, np.maximum(0.0, cleared_s)), np.inf)


def _rising_times(
    rules: SignalRules,
    record: LampRecord,
    at_s: float,
    closes_s: Floats,
    green_old: NDArray[np.bool_],
    rising: NDArray[np.bool_],
) -> Floats:
    """Seconds from `at_s` to the moment at which a link may go from g to G; 0 for every other link that stays."""
    return np.where(rising, np.maximum(0.0, _cleared_s(rules, record, at_s, closes_s, green_old)), 0.0)


def _cleared_s(
    rules: SignalRules, record: LampRecord, at_s: float, closes_s: Floats, green_old: NDArray[np.bool_]
) -> Floats:
    """Seconds from `at_s` until everything that link j meets and that is closed or closing has cleared."""
    ends_s = np.where(green_old, closes_s, record.green_until_s - at_s)  # inf: stays open
    known = np.isfinite(ends_s)
    if not known.any():
        return np.zeros(len(ends_s))
    wait_s = np.where(rules.meets[known], ends_s[known, None] + rules.clear_s[known], 0.0)
    cleared: Floats = np.ceil(wait_s.max(axis=0))
    return cleared


def _state_at(
    time_s: float,
    old: NDArray[np.uint8],
    new: NDArray[np.uint8],
    closes_s: Floats,
    red_s: Floats,
    starts_s: Floats,
    to_state: str,
) -> str:
    green_old, green_new = (old == MINOR) | (old == MAJOR), (new == MINOR) | (new == MAJOR)
    lamps = np.full(len(old), RED, np.uint8)
    lamps[(closes_s <= time_s) & (time_s < red_s)] = YELLOW
    lamps[(old == YELLOW) & (time_s < red_s)] = YELLOW
    still = green_old & ~green_new & (time_s < closes_s)
    lamps[still] = old[still]
    stays = green_old & green_new
    lamps[stays] = np.where(time_s >= starts_s, new, np.minimum(old, new))[stays]
    opened = green_new & ~green_old & (time_s >= starts_s)
    lamps[opened] = new[opened]
    letters = bytes(_LETTERS[lamps]).decode()
    return "".join(t if t in "soO" and x == "r" else x for x, t in zip(letters, to_state, strict=True))


def is_stage(state: str) -> bool:
    """Some green and no yellow: a state that may stand."""
    return not set(state) & set("yYuU") and bool(set(state) & set(GREEN))


def length_s(steps: tuple[LampStep, ...]) -> float:
    return math.fsum(step.duration_s for step in steps)
