"""Good timings of single junctions by formula: where the search starts, and what it tries instead.

Each lane of a junction has the degree of saturation that the flows on its links add up to; delay follows from it by
the Highway Capacity Manual (`signals.delay.hcm_delay_s`, here over arrays). Stages are chosen from a pool so that
every link is served, greens by moving seconds from stage to stage until nothing improves. Webster's cycle and splits
(`signals.delay`) are the case of one critical lane a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, permutations
from operator import or_

import numpy as np

from networks.graph import Floats, Ints, Network
from signals.delay import webster_cycle_s
from signals.retime_flows import SATURATION_VPH, SignalMap, TurnFlows
from signals.retime_plans import (
    LONGEST_CYCLE_S,
    SHORTEST_CYCLE_S,
    PlanMaker,
    StageTiming,
    must_serve,
    open_links,
    share_seconds,
)

YIELDING_FRAC = 0.35  # of the saturation flow that a stream which gives way finds, half of HCM's unopposed 0.7
STOP_LOSS_S = 1.0  # of each green: start-up lost time less the yellow that is driven through
LEAST_GREEN_S = 5
PERIOD_H = 0.25
MOST_STAGES_A_CYCLE = 5
_PROPOSED = 4
_SHORT_LIST, _LONG_LIST = 24, 60
_STAGE_FRAC = 0.06  # of a cycle that is lost by having one stage more: 4 to 5 s of 75 s


@dataclass(frozen=True, slots=True)
class JunctionLoad:
    """The traffic of one signal: one row a link that vehicles of the demand use."""

    links: Ints  # (R,)
    flow_vps: Floats  # (R,)
    saturation_vps: Floats  # (R,)
    lane: Ints  # (R,) lanes numbered within the junction
    lanes: int


def load_of(flows: TurnFlows, signal: int) -> JunctionLoad:
    """Flows and saturation flows of a signal's links; links nobody uses are left out."""
    network = flows.network
    movements, table = network.movements, network.signals[signal].link_movements
    link_vps = flows.link_vps(signal)
    links = np.flatnonzero(link_vps > 0).astype(np.int32)
    first = np.array([table[k][0] for k in links], np.int32)
    names, lane = np.unique(movements.from_lane[first], return_inverse=True)
    saturation = np.array([SATURATION_VPH[int(t)] / 3600.0 for t in movements.turn[first]])
    return JunctionLoad(links, link_vps[links], saturation, lane.astype(np.int32), len(names))


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a sequence of stages shows the links of a load, apart from the greens' lengths."""

    protected: Floats  # (stages, R) 1.0 where the link shows G
    yielding: Floats  # (stages, R)
    between_s: Floats  # (R,) seconds of green inside interstages
    lost_s: int


class JunctionTimer:
    """Delay by formula, best greens and best stages of the signals of one network."""

    def __init__(self, maker: PlanMaker, loads: Sequence[JunctionLoad], pools: Sequence[tuple[str, ...]]) -> None:
        self.maker, self.loads, self.pools = maker, loads, pools
        self._shown: dict[tuple[int, tuple[str, ...]], _Shown] = {}
        self._rows: dict[tuple[int, str], tuple[Floats, Floats]] = {}
        self._proposed: dict[tuple[int, int], list[StageTiming]] = {}
        self._sequences: dict[int, tuple[tuple[str, ...], ...]] = {}

    def delay_s(self, signal: int, states: tuple[str, ...], greens_s: Sequence[float]) -> float:
        """Delay over all vehicles of the junction, vehicle seconds a second."""
        load, shown = self.loads[signal], self._show(signal, states)
        greens = np.asarray(greens_s, np.float64)
        cycle_s = float(greens.sum()) + shown.lost_s
        full_s = greens @ shown.protected + shown.between_s
        part_s = greens @ shown.yielding
        open_s = np.clip(full_s + part_s - STOP_LOSS_S, 1.0, cycle_s - 0.5)
        worth_s = np.clip(full_s + YIELDING_FRAC * part_s - STOP_LOSS_S, 0.5, cycle_s)
        capacity_vps = load.saturation_vps * worth_s / cycle_s
        degree = np.bincount(load.lane, load.flow_vps / capacity_vps, load.lanes)[load.lane]
        share = open_s / cycle_s
        uniform_s = 0.5 * cycle_s * (1.0 - share) ** 2 / np.maximum(1.0 - share * np.minimum(degree, 1.0), 0.05)
        root = np.sqrt((degree - 1.0) ** 2 + 4.0 * degree / (capacity_vps * 3600.0 * PERIOD_H))
        random_s = 900.0 * PERIOD_H * ((degree - 1.0) + root)
        return float((load.flow_vps * (uniform_s + random_s)).sum())

    def best_greens(self, signal: int, states: tuple[str, ...], cycle_s: int) -> tuple[int, ...] | None:
        """Whole seconds of green in this cycle by moving seconds from stage to stage; None when none fit."""
        shown = self._show(signal, states)
        weights = self._critical(signal, shown.protected, shown.yielding)
        found = share_seconds(cycle_s - shown.lost_s, weights, LEAST_GREEN_S)
        if found is None:
            return None
        best, best_s = found, self.delay_s(signal, states, found)
        for step in (8, 4, 2, 1):
            moved = True
            while moved:
                moved = False
                for a, b in permutations(range(len(states)), 2):
                    if best[a] - step < LEAST_GREEN_S:
                        continue
                    tried = list(best)
                    tried[a] -= step
                    tried[b] += step
                    delay_s = self.delay_s(signal, states, tried)
                    if delay_s < best_s - 1e-9:
                        best, best_s, moved = tuple(tried), delay_s, True
        return best

    def proposals(self, signal: int, cycle_s: int, count: int = _PROPOSED) -> list[StageTiming]:
        """The best sound timings by formula in this cycle, different stages each, best first."""
        if (signal, cycle_s) not in self._proposed:
            self._proposed[signal, cycle_s] = self._propose(signal, cycle_s)
        return self._proposed[signal, cycle_s][:count]

    def _propose(self, signal: int, cycle_s: int) -> list[StageTiming]:
        ranked = []
        for states in self.sequences(signal):
            shown = self._show(signal, states)
            weights = self._critical(signal, shown.protected, shown.yielding)
            greens = share_seconds(cycle_s - shown.lost_s, weights, LEAST_GREEN_S)
            if greens is not None:
                ranked.append((self.delay_s(signal, states, greens), states))
        ranked.sort()
        found: list[tuple[float, StageTiming]] = []
        for _, states in ranked[: 3 * _PROPOSED]:
            greens = self.best_greens(signal, states, cycle_s)
            if greens is not None and self.maker.is_sound(signal, StageTiming(states, greens)):
                found.append((self.delay_s(signal, states, greens), StageTiming(states, greens)))
        found.sort(key=lambda entry: entry[0])
        return [timing for _, timing in found[:_PROPOSED]]

    def sequences(self, signal: int) -> tuple[tuple[str, ...], ...]:
        """Orders of stages that serve every link, a short list by formula at a middle cycle."""
        if signal not in self._sequences:
            self._sequences[signal] = self._list_sequences(signal)
        return self._sequences[signal]

    def webster_cycle_s(self, signal: int, states: tuple[str, ...]) -> int:
        """Webster's cycle of the critical lanes of these stages, within the limits of the search."""
        shown = self._show(signal, states)
        ratios = self._critical(signal, shown.protected, shown.yielding)
        if sum(ratios) >= 0.95:
            return LONGEST_CYCLE_S
        cycle_s = webster_cycle_s(ratios, shown.lost_s + STOP_LOSS_S * len(states))
        return int(np.clip(round(cycle_s), SHORTEST_CYCLE_S, LONGEST_CYCLE_S))

    def _list_sequences(self, signal: int) -> tuple[tuple[str, ...], ...]:
        own = self.maker.network.signals[signal]
        pool = self.pools[signal]
        needed = must_serve(own)
        bits = [sum(1 << k for k in open_links([state], own.link_count) & needed) for state in pool]
        whole = sum(1 << k for k in needed)
        useful = [self._worth(signal, state) for state in pool]
        covering = [
            (self._crowding(signal, tuple(pool[n] for n in chosen)), chosen)
            for size in range(2, min(MOST_STAGES_A_CYCLE, len(pool)) + 1)
            for chosen in combinations(range(len(pool)), size)
            if reduce(or_, (bits[n] for n in chosen)) == whole
            and all(useful[n] or reduce(or_, (bits[m] for m in chosen if m != n)) != whole for n in chosen)
        ]
        covering.sort()
        orders = [self._shortest_order(signal, tuple(pool[n] for n in chosen)) for _, chosen in covering[:_LONG_LIST]]
        shipped = tuple(dict.fromkeys(s.state for s in own.stages if s.shipped_green_s > 0))
        if len(shipped) > 1:
            orders.append(shipped)
        listed = sorted((self._rough_s(signal, states), states) for states in orders)
        kept = dict.fromkeys(states for _, states in listed[:_SHORT_LIST])
        if len(shipped) > 1:
            kept.setdefault(shipped)
        return tuple(kept)

    def _crowding(self, signal: int, states: tuple[str, ...]) -> float:
        """Share of a cycle that the critical lanes ask for, with what each stage loses by being one."""
        protected, yielding = self._letters(signal, states)
        return sum(self._critical(signal, protected, yielding)) + _STAGE_FRAC * len(states)

    def _worth(self, signal: int, state: str) -> bool:
        """Somebody of the demand drives on a protected green of this stage."""
        return any(state[k] == "G" for k in self.loads[signal].links)

    def _rough_s(self, signal: int, states: tuple[str, ...]) -> float:
        shown = self._show(signal, states)
        weights = self._critical(signal, shown.protected, shown.yielding)
        costs = []
        for cycle_s in (45, 75, 100):
            greens = share_seconds(cycle_s - shown.lost_s, weights, LEAST_GREEN_S)
            if greens is not None:
                costs.append(self.delay_s(signal, states, greens))
        return min(costs, default=np.inf)

    def _shortest_order(self, signal: int, states: tuple[str, ...]) -> tuple[str, ...]:
        orders = [(states[0], *rest) for rest in permutations(states[1:])]
        return min(orders, key=lambda order: (self.maker.lost_s(signal, order), order))

    def _critical(self, signal: int, protected: Floats, yielding: Floats) -> list[float]:
        """Flow ratio that each stage has to serve: every lane's load goes to the stage that serves it best."""
        load = self.loads[signal]
        ratio = load.flow_vps / load.saturation_vps
        worth = protected + YIELDING_FRAC * yielding
        need = [0.02] * len(protected)
        if not len(ratio):
            return need
        for n in range(len(need)):
            mine = worth[n] * ratio / np.maximum(worth.sum(axis=0), 1e-9)
            mine = np.where(worth[n] > 0, mine / np.maximum(worth[n], YIELDING_FRAC), 0.0)
            need[n] = max(need[n], float(np.bincount(load.lane, mine, load.lanes).max()))
        return need

    def _letters(self, signal: int, states: tuple[str, ...]) -> tuple[Floats, Floats]:
        rows = [self._lamps(signal, state) for state in states]
        return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])

    def _lamps(self, signal: int, state: str) -> tuple[Floats, Floats]:
        if (signal, state) not in self._rows:
            links = self.loads[signal].links
            letters = np.array([state[k] for k in links], "U1")
            self._rows[signal, state] = (letters == "G").astype(np.float64), (letters == "g").astype(np.float64)
        return self._rows[signal, state]

    def _show(self, signal: int, states: tuple[str, ...]) -> _Shown:
        key = (signal, states)
        if key not in self._shown:
            links = self.loads[signal].links
            protected, yielding = self._letters(signal, states)
            between_s = np.zeros(len(links))
            for n, state in enumerate(states):
                for step in self.maker.between(signal, state, states[(n + 1) % len(states)]):
                    between_s += [step.duration_s * (step.state[k] in "Gg") for k in links]
            self._shown[key] = _Shown(protected, yielding, between_s, self.maker.lost_s(signal, states))
        return self._shown[key]


def progression(
    network: Network,
    plan: SignalMap,
    timings: dict[int, StageTiming],
    maker: PlanMaker,
    placed: Iterable[int] = (),
) -> dict[int, StageTiming]:
    """Offsets that let the heaviest streams arrive at a beginning green, from the busiest stretch outwards.

    Signals `placed` before keep theirs.
    """
    placed = set(placed)
    chosen = dict(timings)
    stretches = [s for s in plan.stretches if s.origin in chosen and s.target in chosen]
    while stretches:
        known = [s for s in stretches if (s.origin in placed) != (s.target in placed)]
        fresh = [s for s in stretches if s.origin not in placed and s.target not in placed]
        if not known and not fresh:
            break
        stretch = (known or fresh)[0]
        if not known:
            placed.add(stretch.origin)
        moving = stretch.target if stretch.target not in placed else stretch.origin
        start_s = _green_begin_s(maker, stretch.origin, chosen[stretch.origin], stretch.origin_link)
        end_s = _green_begin_s(maker, stretch.target, chosen[stretch.target], stretch.target_link)
        late_s = round(start_s + stretch.travel_s - end_s)
        timing = chosen[moving]
        shift_s = late_s if moving == stretch.target else -late_s
        cycle_s = maker.cycle_s(moving, timing)
        chosen[moving] = StageTiming(timing.states, timing.greens_s, (timing.offset_s + shift_s) % cycle_s)
        placed.add(moving)
        stretches.remove(stretch)
    return chosen


def _green_begin_s(maker: PlanMaker, signal: int, timing: StageTiming, link: int) -> float:
    """Second of the simulation's clock at which the longest green of a link begins, within one cycle."""
    steps = maker.steps(signal, timing)
    green = [step.state[link] in "Gg" for step in steps]
    best_s, best_begin_s = -1.0, 0.0
    begins_s = np.concatenate([[0.0], np.cumsum([s.duration_s for s in steps])])
    for n in range(len(steps)):
        if not green[n] or green[n - 1]:
            continue
        length_s = 0.0
        for ahead in range(len(steps)):
            step = (n + ahead) % len(steps)
            if not green[step]:
                break
            length_s += steps[step].duration_s
        if length_s > best_s:
            best_s, best_begin_s = length_s, float(begins_s[n])
    return timing.offset_s + best_begin_s
