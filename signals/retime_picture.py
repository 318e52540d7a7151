"""Time-space picture of a corridor: greens along the way, before and after, as one SVG.

The way runs upwards, time to the right. Each signal shows the seconds at which the corridor's movement is open;
slanted lines leave the first signal with each green at the speed limit. The band of a green wave is what of a green
at the first signal reaches every later one on green (Little 1966 for the term).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

from networks.graph import Bools, Network
from signals.retime_flows import SignalMap, signal_turns
from signals.retime_plans import PlanMaker, StageTiming

SHOWN_S = 240
_WIDTH, _LEFT, _TOP, _GAP = 520.0, 130.0, 46.0, 36.0
_HEIGHT = 340.0


@dataclass(frozen=True, slots=True)
class Stop:
    """One signal of a corridor: where along the way, and the link that the way takes."""

    signal: int
    link: int
    at_m: float
    at_s: float  # travel time from the first stop line at the speed limit


def corridor_of(network: Network, edges: Sequence[int]) -> tuple[Stop, ...]:
    """The signals along consecutive edges, from the stop line of the first one on."""
    turns = signal_turns(network)
    stops: list[Stop] = []
    at_m = at_s = 0.0
    for here, after in pairwise(edges):
        if (here, after) in turns:
            stops.append(Stop(*turns[here, after], at_m, at_s))
        at_m += float(network.edges.length_m[after])
        at_s += float(network.edges.length_m[after] / max(network.edges.speed_limit_mps[after], 1.0))
    return tuple(Stop(s.signal, s.link, s.at_m - stops[0].at_m, s.at_s - stops[0].at_s) for s in stops)


def busiest_corridor(network: Network, signals: SignalMap, routes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The piece of a route, between its first and last signal, that most signal-to-signal trips share."""
    weight = {(s.origin, s.target): s.vehicles for s in signals.stretches}
    turns = signal_turns(network)
    best: tuple[float, tuple[int, ...]] = (0.0, ())
    for route in {tuple(r) for r in routes}:
        passed = [(n, turns[p][0]) for n, p in enumerate(pairwise(route)) if p in turns]
        if len(passed) < 2:
            continue
        worth = sum(weight.get((a, b), 0.0) for (_, a), (_, b) in pairwise(passed))
        best = max(best, (worth, route[passed[0][0] : passed[-1][0] + 2]))
    return best[1]


def open_seconds(maker: PlanMaker, stop: Stop, timing: StageTiming | None, begin_s: float, seconds: int) -> Bools:
    """(seconds,) whether the corridor's link is green, from `begin_s` on; without a timing under the shipped one."""
    signal = maker.network.signals[stop.signal]
    if timing is None:
        rows = [(p.state, p.duration_s) for p in signal.programme.phases]
        offset_s = signal.programme.offset_s
    else:
        rows = [(s.state, s.duration_s) for s in maker.steps(stop.signal, timing)]
        offset_s = float(timing.offset_s)
    ends_s = np.cumsum([duration for _, duration in rows])
    into_s = (begin_s + np.arange(seconds) - offset_s) % ends_s[-1]
    green = np.array([state[stop.link] in "Gg" for state, _ in rows])
    return np.asarray(green[np.searchsorted(ends_s, into_s, side="right")], np.bool_)


def band_frac(maker: PlanMaker, stops: Sequence[Stop], timings: Mapping[int, StageTiming], begin_s: float) -> float:
    """Share of the time at which a vehicle may leave the first signal and meet nothing but green."""
    seconds = 3600
    through = np.ones(seconds, np.bool_)
    for stop in stops:
        late_s = begin_s + round(stop.at_s)
        through &= open_seconds(maker, stop, timings.get(stop.signal), late_s, seconds)
    return float(through.mean())


def picture(
    maker: PlanMaker, stops: Sequence[Stop], timings: Mapping[int, StageTiming], begin_s: float, title: str
) -> str:
    """The SVG text: shipped on the left, retimed on the right."""
    length_m = max(stops[-1].at_m, 1.0)
    width = 2 * (_LEFT + _WIDTH) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {_HEIGHT + 90:.0f}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="8" y="18" font-size="15">{escape(title)}</text>',
    ]
    for side, (name, chosen) in enumerate((("shipped", {}), ("retimed", dict(timings)))):
        left = _LEFT + side * (_LEFT + _WIDTH + _GAP)
        band = band_frac(maker, stops, chosen, begin_s)
        parts.append(f'<text x="{left:.0f}" y="38">{name}: green wave {band:.0%} of the time</text>')
        parts += _panel(maker, stops, chosen, begin_s, left, length_m)
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    maker: PlanMaker,
    stops: Sequence[Stop],
    timings: Mapping[int, StageTiming],
    begin_s: float,
    left: float,
    length_m: float,
) -> list[str]:
    def x(second: float) -> float:
        return left + second / SHOWN_S * _WIDTH

    def y(at_m: float) -> float:
        return _TOP + _HEIGHT * (1.0 - at_m / length_m) + 10.0

    parts = [
        f'<clipPath id="c{left:.0f}"><rect x="{left:.1f}" y="0" width="{_WIDTH:.1f}" height="{_HEIGHT + 80:.0f}"/>'
        "</clipPath>"
    ]
    for stop in stops:
        green = open_seconds(maker, stop, timings.get(stop.signal), begin_s, SHOWN_S)
        parts.append(
            f'<line x1="{x(0):.1f}" x2="{x(SHOWN_S):.1f}" y1="{y(stop.at_m):.1f}" y2="{y(stop.at_m):.1f}" '
            'stroke="#c0392b" stroke-width="4"/>'
        )
        for start, end in _runs(green):
            parts.append(
                f'<line x1="{x(start):.1f}" x2="{x(end):.1f}" y1="{y(stop.at_m):.1f}" y2="{y(stop.at_m):.1f}" '
                'stroke="#27ae60" stroke-width="6"/>'
            )
        label = escape(maker.network.signals[stop.signal].id[:18])
        parts.append(f'<text x="{left - 6:.1f}" y="{y(stop.at_m) + 4:.1f}" text-anchor="end">{label}</text>')
    first = open_seconds(maker, stops[0], timings.get(stops[0].signal), begin_s, SHOWN_S)
    for start, end in _runs(first):
        for moment in (start, end):
            points = " ".join(f"{x(moment + stop.at_s):.1f},{y(stop.at_m):.1f}" for stop in stops)
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="#2c3e50" stroke-width="0.8" '
                f'clip-path="url(#c{left:.0f})"/>'
            )
    below = f'y="{_TOP + _HEIGHT + 30:.0f}" text-anchor="middle"'
    return [*parts, *(f'<text x="{x(t):.1f}" {below}>{t} s</text>' for t in range(0, SHOWN_S + 1, 60))]


def _runs(green: Bools) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], green, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
