"""What every signal of a network runs, as flat arrays: one candidate of the mesoscopic model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from networks.errors import ShapeError
from networks.graph import Floats, Ints, Network, Programme, Signal
from signals.meso_kernels import CLOSED, FREE, PERMISSIVE, PROTECTED, STOP, YELLOW

_CODES = {"g": PERMISSIVE, "G": PROTECTED, "y": YELLOW, "Y": YELLOW, "o": FREE, "O": FREE, "s": STOP}


@dataclass(frozen=True, slots=True)
class Timing:
    """Programmes of all signals (S). Signal s runs the plans plan_first[s]..plan_first[s+1], in order of `from_s`.

    Plan p shows its phases phase_first[p]..phase_first[p+1] cyclically: at second t the phase that contains
    (t - offset_s[p]) mod cycle, as SUMO does. Phase q shows the lamps lamp_first[q]..lamp_first[q+1], one code a link
    of the signal. A candidate differs from another, as a rule, in `phase_s` and `offset_s` only:
    `dataclasses.replace(timing, phase_s=..., offset_s=...)`.
    """

    plan_first: Ints  # (S+1,)
    from_s: Floats  # (P,) the plan takes over at this second; the first of a signal at -inf
    offset_s: Floats  # (P,)
    phase_first: Ints  # (P+1,)
    phase_s: Floats  # (Q,) durations
    lamp_first: Ints  # (Q+1,)
    lamps: NDArray[np.uint8]  # (sum of links over phases,) CLOSED ... FREE

    def cycle_s(self) -> Floats:
        """(P,) cycle of each plan."""
        return np.add.reduceat(self.phase_s, self.phase_first[:-1]) if len(self.phase_s) else np.zeros(0)


def timing_of(network: Network, programmes: Sequence[Programme] | None = None) -> Timing:
    """One programme a signal, in the order of `network.signals`; None: the shipped active ones.

    Raises ShapeError when the programmes do not fit the signals.
    """
    chosen = [s.programme for s in network.signals] if programmes is None else list(programmes)
    if len(chosen) != len(network.signals):
        raise ShapeError(f"{len(chosen)} programmes for {len(network.signals)} signals")
    return timing_of_day(network, [[(-np.inf, programme)] for programme in chosen])


def timing_of_day(network: Network, schedule: Sequence[Sequence[tuple[float, Programme]]]) -> Timing:
    """Per signal the programmes of the day as (takes over at, programme); the first counts from -inf.

    A change shows at once the phase of the new programme at that second, as a SUMO WAUT without a procedure.
    Raises ShapeError when a signal has no programme, or a phase no lamps for all of its links.
    """
    return join_timings([timing_of_signal(s, day) for s, day in zip(network.signals, schedule, strict=True)])


def timing_of_signal(signal: Signal, day: Sequence[tuple[float, Programme]]) -> Timing:
    """The timing of one signal alone, to be joined with those of the others. Raises ShapeError as `timing_of_day`."""
    if not day:
        raise ShapeError(f"signal {signal.id!r} has no programme")
    ordered = sorted(day, key=lambda entry: entry[0])
    for _, programme in ordered:
        if programme.cycle_s <= 0 or any(len(p.state) < signal.link_count for p in programme.phases):
            raise ShapeError(f"programme {programme.id!r} does not fit signal {signal.id!r}")
    phases = [phase for _, programme in ordered for phase in programme.phases]
    codes = [_CODES.get(lamp, CLOSED) for phase in phases for lamp in phase.state[: signal.link_count]]
    return Timing(
        np.array([0, len(ordered)], np.int32),
        np.array([-np.inf, *(since_s for since_s, _ in ordered[1:])], np.float64),
        np.array([programme.offset_s for _, programme in ordered], np.float64),
        np.cumsum([0, *(len(programme.phases) for _, programme in ordered)]).astype(np.int32),
        np.array([phase.duration_s for phase in phases], np.float64),
        np.arange(len(phases) + 1, dtype=np.int32) * np.int32(signal.link_count),
        np.array(codes, np.uint8),
    )


def join_timings(parts: Sequence[Timing]) -> Timing:
    """The signals of several timings, one after the other."""
    return Timing(
        _join_ranges([part.plan_first for part in parts]),
        np.concatenate([np.zeros(0), *(part.from_s for part in parts)]),
        np.concatenate([np.zeros(0), *(part.offset_s for part in parts)]),
        _join_ranges([part.phase_first for part in parts]),
        np.concatenate([np.zeros(0), *(part.phase_s for part in parts)]),
        _join_ranges([part.lamp_first for part in parts]),
        np.concatenate([np.zeros(0, np.uint8), *(part.lamps for part in parts)]),
    )


def _join_ranges(firsts: Sequence[Ints]) -> Ints:
    """Offsets of ranges that follow one another, from those of each part."""
    return np.cumsum(np.concatenate([np.zeros(1, np.int32), *(np.diff(f) for f in firsts)])).astype(np.int32)
