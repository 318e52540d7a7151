"""The choice at one junction: every way of going on is rolled out over the vehicles in view.

A candidate is "hold the present stage for e more seconds, then go to stage p"; what follows in the roll-out is a base
policy (serve most vehicles over the next window, the change paid for). The cheapest candidate in weighted vehicle
seconds becomes the plan, and is thought over again at the next cycle. Method: rollout algorithm (Bertsekas,
Tsitsiklis and Wu 1997) on the schedule-driven view of intersections (Xie, Smith, Lu and Barlow 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from networks.graph import LEFT, RIGHT, U_TURN, VEHICLE_SPACE_M, Bools, Floats, Network, Signal
from signals.controllers import junction_choice_kernels as kernels
from signals.lamps import GREEN, LampRecord
from signals.rules import rules_of

Int64s = NDArray[np.int64]

HOLDS_S = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0)


@dataclass(frozen=True, slots=True)
class Tuning:
    """Behaviour of drivers and weights of the search; one set for all cities.

    headway and start-up lost time are those of SUMO's default driver (saturation flow 1 850 veh/h a lane) and agree
    with HCM 6th ed. (1 900 pc/h/ln, 2 s); the critical gap is HCM's for permissive lefts (4.5 s).
    """

    horizon_s: int = 60
    headway_s: float = 2.0
    startup_s: float = 1.0
    stop_penalty_s: float = 4.0
    terminal_s: float = 12.0
    window_s: float = 20.0
    gap_s: float = 4.5
    usable_yellow_s: float = 1.0
    overflow_weight: float = 3.0
    max_green_s: float = 60.0
    spill_weight: float = 1.0
    jam_weight: float = 0.8
    wait_scale_s: float = 45.0
    wait_weight_max: float = 10.0
    holds_s: tuple[float, ...] = HOLDS_S

    def vector(self) -> Floats:
        return np.array(
            [
                self.headway_s,
                self.startup_s,
                self.stop_penalty_s,
                self.terminal_s,
                self.window_s,
                self.gap_s,
                self.usable_yellow_s,
                self.overflow_weight,
            ]
        )


@dataclass(frozen=True)
class JunctionModel:
    """The unchanging side of one signal, numbered within the junction."""

    signal: Signal
    lanes: NDArray[np.int32]  # (L,) dense lane indices of the approach lanes
    outs: NDArray[np.int32]  # (O,) dense lane indices of the receiving lanes
    link_lane: Int64s  # (K,)
    link_out: Int64s  # (K,)
    stages: NDArray[np.uint8]  # (S, K)
    stage_states: tuple[str, ...]
    gives_way: Bools  # (K, K)
    lane_length_m: Floats  # (L,)
    out_storage_veh: Floats  # (O,)
    stage_of: dict[str, int] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApproachView:
    """Vehicles on the way to one junction, by approach lane, front first. Times count from the plan's begin."""

    lane_first: Int64s  # (L+1,)
    arrival_s: Floats  # (V,) earliest at the stop line
    link: Int64s  # (V,)
    weight: Floats  # (V,)
    stopped: Bools  # (V,)
    lane_fill: Floats  # (L,) share of the lane's storage in use
    space_veh: Floats  # (O,)
    refill_vps: Floats  # (O,)
    jam_frac: Floats  # (O,) share of the receiving lane that is taken by a standing queue


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do: hold the present stage, then change. `target == stage`: stay."""

    stage: int
    target: int
    hold_s: float
    cost_veh_s: float
    next_best_veh_s: float
    served_veh: float
    crossing_s: (
        Floats  # (V,) when each vehicle of the view is expected over the stop line, inf: not within the horizon
    )


def build_model(network: Network, signal_index: int) -> JunctionModel:
    """Number lanes, links, stages and receiving lanes of one signal."""
    signal = network.signals[signal_index]
    movements = network.movements
    link_from = [int(movements.from_lane[m[0]]) if m else -1 for m in signal.link_movements]
    link_to = [int(movements.to_lane[m[0]]) if m else -1 for m in signal.link_movements]
    lanes = sorted({lane for lane in link_from if lane >= 0})
    outs = sorted({lane for lane in link_to if lane >= 0})
    states = tuple(dict.fromkeys([*(s.state for s in signal.stages), *further_stages(network, signal)]))
    stages = np.array([[_mode(c) for c in state[: signal.link_count]] for state in states], np.uint8)
    return JunctionModel(
        signal=signal,
        lanes=np.array(lanes, np.int32),
        outs=np.array(outs, np.int32),
        link_lane=np.array([lanes.index(x) if x >= 0 else -1 for x in link_from], np.int64),
        link_out=np.array([outs.index(x) if x >= 0 else -1 for x in link_to], np.int64),
        stages=stages.reshape(len(states), signal.link_count),
        stage_states=states,
        gives_way=_gives_way(signal),
        lane_length_m=network.lanes.length_m[lanes],
        out_storage_veh=np.maximum(1.0, network.lanes.length_m[outs] / VEHICLE_SPACE_M),
        stage_of={state: i for i, state in enumerate(states)},
    )


def further_stages(network: Network, signal: Signal) -> tuple[str, ...]:
    """Sound stages that the shipped programmes lack, free of any foe.

    One for each approach, all of its links together: an approach with a long queue need not wait for its opposite.
    And one for each left turn that no shipped stage serves without giving way: a permissive stream that never finds
    its gap (far exit blocked, opposing queue without end) can lock two junctions into each other. Other links that
    fit are added; crossings stay red, they have stages of their own.
    """
    movements = network.movements
    vehicle = [k for k in range(signal.link_count) if signal.link_movements[k]]
    first = {k: signal.link_movements[k][0] for k in vehicle}
    approach = {k: int(network.lanes.edge[movements.from_lane[first[k]]]) for k in vehicle}
    onward = [k for k in vehicle if movements.turn[first[k]] != RIGHT]
    seeds = [[k for k in onward if approach[k] == edge] for edge in dict.fromkeys(approach.values())]
    seeds += [
        [k]
        for k in vehicle
        if movements.turn[first[k]] in (LEFT, U_TURN)
        and not any(_protected(signal, s.state, k) for s in signal.stages)
    ]
    return tuple(dict.fromkeys(state for seed in seeds if (state := _complete(signal, seed, vehicle))))


def _complete(signal: Signal, seed: Sequence[int], vehicle: Sequence[int]) -> str:
    """A stage that opens the seed and whatever fits, "" when the seed has foes within itself."""
    apart = signal.foes | signal.conflicts
    if apart[np.ix_(seed, seed)].any():
        return ""
    members = list(seed)
    for k in vehicle:
        if k not in members and not apart[k, members].any():
            members.append(k)
    arrows = rules_of(signal).shipped_other
    return "".join("G" if k in members else "s" if "s" in arrows[k] else "r" for k in range(signal.link_count))


def _protected(signal: Signal, state: str, link: int) -> bool:
    others = [k for k, lamp in enumerate(state[: signal.link_count]) if lamp in "Gg" and k != link]
    return state[link] == "G" and not signal.foes[link, others].any()


def _mode(lamp: str) -> int:
    if lamp == "G":
        return kernels.PROTECTED
    return kernels.PERMISSIVE if lamp in "gsoO" else kernels.CLOSED


def _gives_way(signal: Signal) -> Bools:
    """[i, j]: some shipped phase shows i as `g` while its foe j is open as `G`."""
    answer = np.zeros((signal.link_count, signal.link_count), np.bool_)
    for programme in signal.programmes:
        for phase in programme.phases:
            for i, lamp in enumerate(phase.state[: signal.link_count]):
                if lamp == "g":
                    answer[i] |= signal.foes[i] & np.array([c == "G" for c in phase.state[: signal.link_count]])
    return answer


def choose(
    model: JunctionModel,
    record: LampRecord,
    view: ApproachView,
    tuning: Tuning,
    *,
    now_s: float,
    allowed: Bools | None = None,
) -> Choice | None:
    """The best way on from `record` at `now_s`; None when the lamps do not show one of the junction's stages.

    `allowed` (S,): stages that may come next; where the present one is not among them it has to end now.
    """
    stage = model.stage_of.get(record.state)
    if stage is None:
        return None
    rules = rules_of(model.signal)
    count = len(model.stage_states)
    targets = np.repeat(np.arange(count, dtype=np.int64), len(tuning.holds_s))
    holds = np.tile(np.array(tuning.holds_s), count)
    kept = (targets != stage) | (holds == tuning.holds_s[-1])
    if allowed is not None:
        kept &= allowed[targets]
        if not allowed[stage]:
            kept &= holds == 0.0
    if not kept.any():
        return None
    targets, holds = np.tile(targets[kept], 2), np.tile(holds[kept], 2)
    exhaustive = np.arange(len(targets)) >= len(targets) // 2
    green = np.array([c in GREEN for c in record.state])
    link_from = np.where(green, np.maximum(record.green_from_s - now_s, -1e6), -1e6)
    link_until = np.where(green, kernels.NEVER, np.maximum(record.green_until_s - now_s, -1e6))
    age_s = min(-float(link_from[green].max()), 1e6) if green.any() else 1e6
    cost, served = np.empty(len(holds)), np.empty(len(holds))
    crossing = np.empty(len(view.arrival_s))

    def roll(rows: slice) -> None:
        kernels.score_candidates(
            holds[rows],
            targets[rows],
            exhaustive[rows],
            stage,
            age_s,
            model.stages,
            link_from,
            link_until,
            rules.clear_s,
            rules.yellow_s,
            rules.min_green_s,
            tuning.max_green_s,
            model.link_lane,
            model.link_out,
            model.gives_way,
            view.lane_first,
            view.arrival_s,
            view.link,
            view.weight,
            view.stopped,
            1.0 + tuning.spill_weight * view.lane_fill**2,
            model.lane_length_m / VEHICLE_SPACE_M,
            view.space_veh,
            view.refill_vps,
            tuning.jam_weight * view.jam_frac,
            tuning.vector(),
            tuning.horizon_s,
            cost[rows],
            served[rows],
            crossing,
        )

    roll(slice(None))
    stays = targets == stage
    best = int(np.lexsort((holds, ~stays, cost))[0])  # among equals stay, else change soon
    others = cost[targets != targets[best]]
    next_best = float(others.min()) if len(others) else float(cost[best])
    roll(slice(best, best + 1))  # once more, for the crossing times of the chosen way
    return Choice(
        stage, int(targets[best]), float(holds[best]), float(cost[best]), next_best, float(served[best]), crossing
    )


def travel_time_s(distance_m: Floats, speed_mps: Floats, limit_mps: Floats, accel_mps2: float = 2.0) -> Floats:
    """Earliest arrival of vehicles `distance_m` away that accelerate to the limit."""
    speed = np.minimum(speed_mps, limit_mps)
    ramp_m = (limit_mps**2 - speed**2) / (2 * accel_mps2)
    on_ramp = (np.sqrt(speed**2 + 2 * accel_mps2 * np.maximum(distance_m, 0.0)) - speed) / accel_mps2
    cruise = (limit_mps - speed) / accel_mps2 + (distance_m - ramp_m) / np.maximum(limit_mps, 0.1)
    return np.where(distance_m < ramp_m, on_ramp, cruise)
