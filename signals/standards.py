"""Stricter numbers for a signal, where an authority asks for more than its own programme shows.

The proof, the interstages and the roadside controller take every number from `Signal`; raising one there raises it
everywhere. Nothing is ever lowered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from networks.graph import Signal
from networks.intergreen import WALKING


@dataclass(frozen=True, slots=True)
class Minimums:
    """Lower bounds; the defaults are those of Chinese practice.

    Yellow 3 s (GB 14886, 3 to 5 s), a second of red after it before anybody in conflict starts, minimum green 5 s
    (GB 51038), walkers clearing at 1.0 m/s (GB 51038 and RiLSA 2015 have 1.0 to 1.2 m/s) after 7 s to step off
    (MUTCD 2009, 4E.06).
    """

    yellow_s: float = 3.0
    all_red_s: float = 1.0
    min_green_s: float = 5.0
    walk_s: float = 7.0
    walking_mps: float = 1.0


def raise_to(signal: Signal, minimums: Minimums) -> Signal:
    """The signal with no number below the minimums; paths and shipped gaps that ask for more still hold."""
    yellow_s = max(signal.yellow_s, minimums.yellow_s)
    slower = max(1.0, WALKING.clearing_mps / minimums.walking_mps)
    clearance_s = signal.pedestrian_clearance_s * slower
    leaving_s = np.where(signal.pedestrian, np.maximum(clearance_s, yellow_s), yellow_s + minimums.all_red_s)
    intergreen_s = np.where(signal.conflicts, np.maximum(signal.intergreen_s, np.ceil(leaving_s)[:, None]), 0.0)
    least_green_s = np.where(signal.pedestrian, minimums.walk_s, minimums.min_green_s)
    return replace(
        signal,
        yellow_s=yellow_s,
        all_red_s=max(signal.all_red_s, minimums.all_red_s),
        intergreen_s=intergreen_s,
        min_green_s=np.maximum(signal.min_green_s, least_green_s),
        pedestrian_clearance_s=clearance_s,
    )
