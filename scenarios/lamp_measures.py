"""What the lamps of a run meant for those who wait, told from the states of every second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from networks.graph import Bools, Signal
from scenarios.measures import mean_walk_loss_s

OPEN = "Ggs"


def walker_delay_s(signals: Sequence[Signal], shown: Sequence[Sequence[str]]) -> float | None:
    """Mean delay of somebody who comes to a crossing at any moment; None without crossings.

    `shown[i]`: the state of signal i in each of T seconds, none where it was not watched. A crossing that is closed
    for r_1, r_2, ... of T seconds delays by sum(r_i^2) / 2T; crossings count alike.
    """
    delays_s = []
    for signal, states in zip(signals, shown, strict=True):
        if not states:
            continue
        for link in np.flatnonzero(signal.pedestrian):
            reds_s = red_spells(np.array([state[link] in OPEN for state in states], np.bool_))
            delays_s.append(float((reds_s.astype(np.float64) ** 2).sum()) / (2.0 * len(states)))
    return float(np.mean(delays_s)) if delays_s else None


def walk_loss_s(trips: Path, signals: Sequence[Signal], shown: Sequence[Sequence[str]]) -> float | None:
    """Mean time that people on foot lose in a run, by its tripinfo file; where nobody walks, `walker_delay_s`."""
    walked_s = mean_walk_loss_s(trips)
    return walker_delay_s(signals, shown) if walked_s is None else walked_s


def red_spells(is_open: Bools) -> NDArray[np.int64]:
    """Lengths of the stretches of `is_open` (T,) that are closed, in seconds."""
    edge = np.flatnonzero(np.diff(np.concatenate([[True], is_open, [True]]).astype(np.int8)))
    answer: NDArray[np.int64] = edge[1::2] - edge[::2]
    return answer
