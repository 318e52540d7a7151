"""The choice at one junction: sequences of stages are rolled out over the vehicles in view, the cheapest is followed.

The search starts from "hold the present stage for e more seconds, then go to stage p", a base policy going on from
there, and from what was chosen a moment ago. The first step of the cheapest sequence, in weighted vehicle seconds,
becomes the plan, and is thought over again at the next cycle. Method: rollout algorithm
(Bertsekas, Tsitsiklis and Wu 1997) on the schedule-driven view of intersections (Xie, Smith, Lu and Barlow 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from networks.graph import VEHICLE_SPACE_M, Bools, Floats, Int64s, Network, Signal
from signals.controllers import junction_choice_kernels as kernels
from signals.controllers.stage_sets import further_stages
from signals.lamps import GREEN, LampRecord
from signals.rules import rules_of

HOLDS_S = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 18.0)


@dataclass(frozen=True, slots=True)
class Tuning:
    """Behaviour of drivers and weights of the search; one set for all cities.

    headway and start-up lost time are those of SUMO's default driver (saturation flow 1 850 veh/h a lane) and agree
    with HCM 6th ed. (1 900 pc/h/ln, 2 s); the critical gap is HCM's for permissive lefts (4.5 s) and half a second
    for those who have to set off. Only who drives freely is counted on to use the yellow, and half a second of it: he
    is too near to stop (SUMO's driver is for a second at 14 m/s). One who stops all the same costs a whole red. Where
    positions are guesses `exact_ends` is False: nobody is counted on at the last moment.
    """

    horizon_s: int = 60
    headway_s: float = 2.0
    startup_s: float = 1.0
    stop_penalty_s: float = 4.0
    terminal_s: float = 12.0
    gap_s: float = 5.0
    foe_clear_s: float = 2.0
    usable_yellow_s: float = 0.5
    exact_ends: bool = True
    overflow_weight: float = 3.0
    box_weight: float = 2.0
    press_weight: float = 1.0
    max_green_s: float = 60.0
    spill_weight: float = 1.0
    jam_weight: float = 0.8
    wait_scale_s: float = 100.0
    wait_weight_max: float = 10.0
    targets_max: int = 10
    holds_s: tuple[float, ...] = HOLDS_S

    def drivers(self, *, coupled: bool = False) -> kernels.Drivers:
        """`coupled`: of signals planned as one; there one counted on at the last moment might be in the way."""
        exact = bool(self.exact_ends) and not coupled
        return kernels.Drivers(
            headway_s=self.headway_s,
            startup_s=self.startup_s,
            stop_penalty_s=self.stop_penalty_s,
            terminal_s=self.terminal_s,
            gap_s=self.gap_s,
            foe_clear_s=self.foe_clear_s,
            usable_yellow_s=self.usable_yellow_s if exact else 0.0,
            exact_ends=exact,
            overflow_weight=self.overflow_weight,
            box_weight=self.box_weight,
            max_green_s=self.max_green_s,
            horizon_s=self.horizon_s,
        )


@dataclass(frozen=True)
class JunctionModel:
    """The unchanging side of one signal, numbered within the junction. A stream is one movement or one crossing."""

    signal: Signal
    lanes: NDArray[np.int32]  # (L,) dense lane indices of the approach lanes
    outs: NDArray[np.int32]  # (O,) dense lane indices of the receiving lanes
    movement: Int64s  # (K,) dense movement of each stream, -1 for a crossing and for twins, see `unsure_turns`
    link_of: Int64s  # (K,) signal link of each stream: a link may show its lamp to several lanes
    stage_states: tuple[str, ...]
    opens: Bools  # (S, signal links) by each stage, protected or not
    stay_s: Floats  # (S,) minimum green of the stage
    layout: kernels.Layout  # its links are the streams
    lane_length_m: Floats  # (L,)
    lane_open: Bools  # (S, L) some stream of the lane is open
    stage_of: dict[str, int] = field(repr=False)

    @cached_property
    def coupled(self) -> bool:
        """Several signals are planned as one: a lane leads from one to the other."""
        return bool((self.layout.lane_out >= 0).any())


@dataclass(frozen=True, slots=True)
class ApproachView:
    """Vehicles on the way to one junction, by approach lane, front first. Times count from the plan's begin."""

    lane_first: Int64s  # (L+1,)
    arrival_s: Floats  # (V,) earliest at the stop line
    link: Int64s  # (V,) stream
    weight: Floats  # (V,)
    stopped: Bools  # (V,)
    lane_fill: Floats  # (L,) share of the lane's storage in use
    press: Floats  # (L,) weight that stands further up and wants to come into the lane, per vehicle in it
    stalled_s: Floats  # (L,) for how long its first driver will go on standing at green, 0 where nothing holds him
    space_veh: Floats  # (O,)
    refill_vps: Floats  # (O, horizon)
    jam_frac: Floats  # (O,) share of the receiving lane that is taken by a standing queue
    inside: Floats  # (K,) vehicles past the stop line that wait for a gap
    walkers: Floats  # (K,) people waiting at each crossing
    walker_rate: Floats  # (K,) people a second coming to it
    places_from: Int64s | None = None  # (L,) first of the empty places behind the vehicles of a lane, see `Moment`
    onward: Int64s | None = None  # (V,) stream of the same model that it takes next, -1: it leaves
    onward_s: Floats | None = None  # (V,) from one stop line to the other


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do: hold the present stage, then change."""

    sequence: Int64s  # (N,) stages in the order expected, the present one first; alone: it stays
    hold_each_s: Floats  # (N,) how long each
    cost_veh_s: float
    next_best_veh_s: float
    served_veh: float
    crossing_s: Floats  # (V,) when each vehicle of the view is expected over the stop line, NEVER: not in the horizon

    @property
    def stage(self) -> int:
        return int(self.sequence[0])

    @property
    def target(self) -> int:
        """The next stage, the present one where it stays."""
        return int(self.sequence[min(1, len(self.sequence) - 1)])

    @property
    def hold_s(self) -> float:
        return float(self.hold_each_s[0])


def build_model(network: Network, signal_index: int) -> JunctionModel:
    """One signal, with the stages of its programmes and those built from its conflicts."""
    signal = network.signals[signal_index]
    return model_signal(network, signal, (*(s.state for s in signal.stages), *further_stages(network, signal)))


def model_signal(network: Network, signal: Signal, stage_states: Sequence[str]) -> JunctionModel:
    """Number lanes, streams, stages and receiving lanes of a signal, or of several taken as one."""
    movements = network.movements
    pairs = [(k, m) for k, moves in enumerate(signal.link_movements) for m in (moves or (-1,))]
    link_of = np.array([k for k, _ in pairs], np.int64)
    movement = np.array([m for _, m in pairs], np.int64)
    stream_from = [int(movements.from_lane[m]) if m >= 0 else -1 for m in movement]
    stream_to = [int(movements.to_lane[m]) if m >= 0 else -1 for m in movement]
    lanes = sorted({lane for lane in stream_from if lane >= 0})
    outs = sorted({lane for lane in stream_to if lane >= 0})
    states = tuple(dict.fromkeys(stage_states))
    link_stages = modes_of([state[: signal.link_count] for state in states])
    stages = np.ascontiguousarray(link_stages.reshape(len(states), signal.link_count)[:, link_of])
    rules = rules_of(signal)
    opens = link_stages != kernels.CLOSED
    clear_s = np.ascontiguousarray(rules.clear_s[np.ix_(link_of, link_of)])
    change_s, tail_s, early_s = change_times(stages, clear_s, rules.yellow_s)
    gives_way = _gives_way(network, signal, link_of, movement)
    inner_m = np.where(movement >= 0, movements.inner_m[movement] if len(movements.inner_m) else 0.0, 0.0)
    layout = kernels.Layout(
        stages=stages,
        change_s=change_s,
        tail_s=tail_s,
        early_s=early_s,
        clear_s=clear_s,
        longest_clear_s=clear_s.max(axis=1, initial=0.0),
        min_green_s=rules.min_green_s[link_of],
        link_lane=np.array([lanes.index(x) if x >= 0 else -1 for x in stream_from], np.int64),
        link_out=np.array([outs.index(x) if x >= 0 else -1 for x in stream_to], np.int64),
        yields_first=np.concatenate([[0], np.cumsum(gives_way.sum(axis=1))]).astype(np.int64),
        yields_to=np.flatnonzero(gives_way) % max(len(movement), 1),
        inside_room=np.where(gives_way.any(axis=1), np.floor((inner_m + 1.5) / VEHICLE_SPACE_M), 0.0),
        storage_veh=network.lanes.length_m[lanes] / VEHICLE_SPACE_M,
        out_storage_veh=np.maximum(1.0, network.lanes.length_m[outs] / VEHICLE_SPACE_M),
        lane_out=np.array([outs.index(x) if x in outs else -1 for x in lanes], np.int64),
        crossings=np.flatnonzero(signal.pedestrian[link_of]),
    )
    return JunctionModel(
        signal=signal,
        lanes=np.array(lanes, np.int32),
        outs=np.array(outs, np.int32),
        movement=movement,
        link_of=link_of,
        stage_states=states,
        opens=opens,
        stay_s=np.where(opens, rules.min_green_s, 0.0).max(axis=1, initial=0.0),
        layout=layout,
        lane_length_m=network.lanes.length_m[lanes],
        lane_open=_lane_open(stages, layout.link_lane, len(lanes)),
        stage_of={state: i for i, state in enumerate(states)},
    )


def _lane_open(stages: NDArray[np.uint8], link_lane: Int64s, lanes: int) -> Bools:
    """(S, L) does some stream of the lane have green?"""
    answer = np.zeros((len(stages), lanes), np.bool_)
    for a in range(lanes):
        answer[:, a] = (stages[:, link_lane == a] != kernels.CLOSED).any(axis=1)
    return answer


def change_times(stages: NDArray[np.uint8], clear_s: Floats, yellow_s: float) -> tuple[Floats, Floats, Floats]:
    """`Layout.change_s` (S, S), `tail_s` and `early_s` (S, S, K) of every change of stage."""
    count, links = stages.shape
    change_s, tail_s, early_s = (
        np.zeros((count, count)),
        np.zeros((count, count, links)),
        np.zeros((count, count, links)),
    )
    is_open = stages != kernels.CLOSED
    meets = clear_s > 0.0
    for a, b in np.ndindex(count, count):
        closing = is_open[a] & ~is_open[b]
        opening = (stages[b] != stages[a]) & (is_open[b] & ~is_open[a] | (stages[b] == kernels.PROTECTED))
        start_s = np.where(opening, (clear_s * closing[:, None]).max(axis=0, initial=0.0), 0.0)
        change_s[a, b] = max(start_s.max(initial=0.0), yellow_s if closing.any() else 0.0)
        slack_s = np.where(meets & opening, start_s - clear_s, np.inf).min(axis=1, initial=np.inf)
        close_s = np.where(np.isfinite(slack_s), slack_s, change_s[a, b] - yellow_s)
        tail_s[a, b] = np.where(closing, change_s[a, b] - close_s, 0.0)
        early_s[a, b] = change_s[a, b] - start_s
    return change_s, tail_s, early_s


def modes_of(states: Sequence[str]) -> NDArray[np.uint8]:
    """CLOSED, PROTECTED or PERMISSIVE: (S, K) of S states with K lamps."""
    return np.array([[_mode(lamp) for lamp in state] for state in states], np.uint8)


def _mode(lamp: str) -> int:
    if lamp == "G":
        return kernels.PROTECTED
    return kernels.PERMISSIVE if lamp in "gsoO" else kernels.CLOSED


def _gives_way(network: Network, signal: Signal, link_of: Int64s, movement: Int64s) -> Bools:
    """[i, j]: stream i yields to stream j, and some shipped phase shows i as `g` while j is open as `G`."""
    shown = np.zeros((signal.link_count, signal.link_count), np.bool_)
    for programme in signal.programmes:
        for phase in programme.phases:
            for i, lamp in enumerate(phase.state[: signal.link_count]):
                if lamp == "g":
                    shown[i] |= signal.foes[i] & np.array([c == "G" for c in phase.state[: signal.link_count]])
    answer = np.ascontiguousarray(shown[np.ix_(link_of, link_of)])
    first = network.movements.gives_way_to
    if len(first):
        for i, m in enumerate(movement):
            if m >= 0:
                answer[i] &= np.isin(movement, first[int(m)]) | (movement < 0)
    return answer


def choose(
    model: JunctionModel,
    record: LampRecord,
    view: ApproachView,
    tuning: Tuning,
    *,
    now_s: float,
    allowed: Bools | None = None,
    before: tuple[Int64s, Floats] | None = None,
) -> Choice | None:
    """The best way on from `record` at `now_s`; None when the lamps do not show one of the junction's stages.

    `allowed` (S,): stages that may come next; where the present one is not among them it has to end now.
    `before`: stages and holds chosen a moment ago, less the time passed since; the search goes on from there.
    """
    stage = model.stage_of.get(record.state)
    if stage is None:
        return None
    count = len(model.stage_states)
    green = np.array([c in GREEN for c in record.state])
    link_from = np.where(green, np.maximum(record.green_from_s - now_s, -1e6), -1e6)
    link_until = np.where(green, kernels.NEVER, np.maximum(record.green_until_s - now_s, -1e6))
    stands = (model.layout.stages[stage] != kernels.CLOSED) | ~green[model.link_of]
    moment = kernels.Moment(
        stage=stage,
        age_s=float(min(-float(link_from[green].max()), 1e6)) if green.any() else 1e6,
        link_from_s=link_from[model.link_of],
        link_until_s=np.where(stands, link_until[model.link_of], -1e6),
        lane_first=view.lane_first,
        arrival_s=view.arrival_s,
        link=view.link,
        weight=view.weight,
        stopped=view.stopped,
        lane_weight=1.0
        + (tuning.spill_weight + tuning.press_weight * view.press) * np.minimum(view.lane_fill, 1.0) ** 2,
        stalled_s=view.stalled_s,
        space_veh=view.space_veh,
        refill_vps=view.refill_vps,
        jam_frac=tuning.jam_weight * view.jam_frac,
        inside=view.inside,
        walkers=view.walkers,
        walker_rate=view.walker_rate,
        places_from=view.lane_first[1:] if view.places_from is None else view.places_from,
        onward=np.full(len(view.link), -1) if view.onward is None else view.onward,
        onward_s=np.zeros(len(view.link)) if view.onward_s is None else view.onward_s,
    )
    nothing = (np.empty(0, np.int64), np.empty(0))
    before_stage, before_hold = nothing if before is None else before
    sequence, holds, cost, next_best, served, crossing = kernels.search(
        model.layout,
        moment,
        tuning.drivers(coupled=model.coupled),
        np.ones(count, np.bool_) if allowed is None else allowed,
        np.array(sorted(tuning.holds_s)),
        before_stage,
        before_hold,
        tuning.targets_max,
    )
    if not len(sequence):
        return None
    return Choice(sequence, holds, cost, next_best, served, crossing)


def travel_time_s(distance_m: Floats, speed_mps: Floats, limit_mps: Floats, accel_mps2: float = 2.0) -> Floats:
    """Earliest arrival of vehicles `distance_m` away that accelerate to the limit."""
    speed = np.minimum(speed_mps, limit_mps)
    ramp_m = (limit_mps**2 - speed**2) / (2 * accel_mps2)
    on_ramp = (np.sqrt(speed**2 + 2 * accel_mps2 * np.maximum(distance_m, 0.0)) - speed) / accel_mps2
    cruise = (limit_mps - speed) / accel_mps2 + (distance_m - ramp_m) / np.maximum(limit_mps, 0.1)
    return np.where(distance_m < ramp_m, on_ramp, cruise)


def driven_speed_mps(
    distance_m: Floats, here_m: Floats, limits_mps: tuple[Floats, Floats], speed_mps: Floats
) -> Floats:
    """Speed at which vehicles will drive to a stop line `distance_m` away when nothing holds them up.

    here_m      to the end of the lane they are on, up to where the first of the limits holds; from there the second
    speed_mps   of now: a driver near the limit keeps to an own speed, a fifth above or below it at most
    """
    here, line = (np.maximum(limit, 3.0) for limit in limits_mps)
    first_m = np.clip(here_m, 0.0, distance_m)
    whole_m = np.maximum(distance_m, 0.1)
    limit = whole_m / np.maximum(first_m / here + (whole_m - first_m) / line, 1e-6)
    own: Floats = np.clip(speed_mps, 0.8 * limit, 1.2 * limit)
    return np.where(speed_mps > 0.75 * limit, own, limit)
