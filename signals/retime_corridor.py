"""Retiming for a green wave: the corridor's signals get the widest two-way bands, the others fit in around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from networks.errors import InputError
from networks.graph import Network
from signals.lamps import GREEN
from signals.maxband import Window, widest_bands
from signals.retime import START_CYCLES_S, Task, formula_timing
from signals.retime_picture import Stop, corridor_of
from signals.retime_plans import PlanMaker, StageTiming
from signals.retime_starts import progression

LEAST_BACK_WEIGHT, MOST_BACK_WEIGHT = 0.25, 4.0


@dataclass(frozen=True, slots=True)
class Corridor:
    """The stop lines along a corridor, out and back; nothing back where some street of it is one-way."""

    out: tuple[Stop, ...]
    back: tuple[Stop, ...]
    back_weight: float  # vehicles back for one out

    @property
    def signals(self) -> frozenset[int]:
        return frozenset(stop.signal for stop in (*self.out, *self.back))


def corridor_both_ways(network: Network, edges: Sequence[int], routes: Sequence[Sequence[int]]) -> Corridor:
    """The corridor along these edges, weighed by the traffic of `routes` on it. Raises InputError without a signal
    to coordinate with another."""
    ways_back = {(int(a), int(b)): e for e, (a, b) in enumerate(_ends(network))}
    home = [ways_back.get((int(network.edges.to_node[e]), int(network.edges.from_node[e]))) for e in reversed(edges)]
    back_edges = [e for e in home if e is not None] if None not in home else []
    out = corridor_of(network, edges)
    if len({stop.signal for stop in out}) < 2:
        raise InputError(f"--corridor: fewer than two signals from {network.edges.ids[edges[0]]!r} on")
    passed = np.bincount([e for route in routes for e in route], minlength=len(network.edges.ids))
    weight = float(passed[back_edges].sum()) / max(float(passed[list(edges)].sum()), 1.0) if back_edges else 1.0
    return Corridor(
        out,
        corridor_of(network, back_edges) if back_edges else (),
        float(np.clip(weight, LEAST_BACK_WEIGHT, MOST_BACK_WEIGHT)),
    )


def _ends(network: Network) -> list[tuple[int, int]]:
    return list(zip(network.edges.from_node.tolist(), network.edges.to_node.tolist(), strict=True))


def band_starts(task: Task, corridor: Corridor) -> list[dict[int, StageTiming]]:
    """Timings of all signals in the common cycle with the widest bands, the others' stages shipped or built.

    Of each cycle the corridor has the greens that the formula likes best; its offsets give the widest bands. Raises
    InputError when the corridor's signals share no cycle.
    """
    members = sorted(corridor.signals & task.shipped.keys())
    if corridor.signals - task.shipped.keys():
        names = ", ".join(task.maker.network.signals[n].id for n in sorted(corridor.signals - task.shipped.keys()))
        raise InputError(f"--corridor: signals that cannot be retimed: {names}")
    best: tuple[float, int, dict[int, StageTiming]] | None = None
    for cycle_s in START_CYCLES_S:
        for built in (False, True):
            greens = {n: formula_timing(task, n, cycle_s, built=built) for n in members}
            whole = {n: timing for n, timing in greens.items() if timing is not None}
            if len(whole) < len(members):
                continue
            timed, wide_frac = _coordinated(task.maker, corridor, whole, cycle_s)
            if best is None or wide_frac > best[0]:
                best = wide_frac, cycle_s, timed
    if best is None:
        raise InputError("--corridor: its signals have no cycle in common")
    _, cycle_s, timed = best
    starts = []
    for built in (False, True):
        others = {n: formula_timing(task, n, cycle_s, built=built) or task.shipped[n] for n in task.shipped}
        starts.append(
            progression(task.maker.network, task.signals, others | timed, task.maker, placed=corridor.signals)
        )
    return starts


def _coordinated(
    maker: PlanMaker, corridor: Corridor, timings: dict[int, StageTiming], cycle_s: int
) -> tuple[dict[int, StageTiming], float]:
    """The timings with the offsets of the widest bands, and the weighed share of the cycle that these fill."""
    out, back = (
        [_window(maker, stop, timings[stop.signal]) for stop in side] for side in (corridor.out, corridor.back)
    )
    bands = widest_bands(out, back, cycle_s, back_weight=corridor.back_weight)
    timed = {n: replace(t, offset_s=round(bands.offset_s[n]) % cycle_s) for n, t in timings.items()}
    return timed, (bands.out_s + corridor.back_weight * bands.back_s) / cycle_s


def _window(maker: PlanMaker, stop: Stop, timing: StageTiming) -> Window:
    """The longest green of the corridor's link, from the begin of the signal's cycle."""
    steps = maker.steps(stop.signal, timing)
    cycle_s = int(sum(step.duration_s for step in steps))
    green = [step.state[stop.link] in GREEN for step in steps for _ in range(int(step.duration_s))]
    if all(green):
        return Window(stop.signal, 0.0, float(cycle_s), stop.at_s)
    best_s, begin_s = 0, 0
    for second in range(cycle_s):
        if green[second] and not green[second - 1]:
            length_s = next(k for k in range(cycle_s) if not green[(second + k) % cycle_s])
            if length_s > best_s:
                best_s, begin_s = length_s, second
    return Window(stop.signal, float(begin_s), float(best_s), stop.at_s)
