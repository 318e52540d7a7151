"""A running simulation seen through simulated sensors, and controlled as the live loop does.

Devices → frames → inbox → fusion → controller → proof → orders → signal heads, all in one process. The
twin's half (`Twin`) is handed frames and gives back orders; the street's half (`SensedStreet`) alone touches SUMO.
At second t the devices report what they see; the cycle runs half a second later on what has arrived by then, and its
plans take over at t + 1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from networks.city import DEFAULT_EPOCH, Coverage
from networks.graph import Network
from networks.messages import Frame, PlanOrder
from networks.sensors import find_detectors, instrumented_signals
from networks.state import NetworkState
from scenarios.cities import cache_folder
from scenarios.prior import Prior, build_prior
from scenarios.side_by_side import ScenarioFiles
from scenarios.street_loops import PositionLoops
from scenarios.street_sensors import Scan, Sensors
from scenarios.street_terms import SensorNoise, StreetOptions
from scenarios.street_truth import Watcher
from scenarios.waiting import Calls
from signals.arbiter import decide
from signals.controllers.preemption import Preemption
from signals.controllers.rolling_horizon import RollingHorizon
from signals.controllers.unsure_turns import LEAST_OPEN_FRAC
from signals.executor import Head
from signals.fallback import LEAST_SEEN_FRAC, Chain, Level
from signals.fixed import programmes_of
from signals.formats import to_order
from signals.loop_calls import LoopCalls
from signals.priority import Policy, expect_walkers, read_policy
from twin.crossing_sight import CrossingSight
from twin.fusion import Fusion
from twin.inbox import Inbox
from twin.lamp_tracker import LampTracker
from twin.privacy import Pseudonyms

MIDNIGHT_S = DEFAULT_EPOCH.timestamp() - 8 * 3600.0  # the epoch of simulated second 0
HEARD_AFTER_S = 0.5  # a cycle waits so long for the reports of its second; the slowest device takes 0.4 s
LEAD_S = 1.0  # from the reports to the lamps


@dataclass(frozen=True, slots=True)
class Sight:
    """What the street's devices cover and how they fail; shares from 0 to 1."""

    coverage: Coverage
    wrong_frac: float = 0.0  # of the vehicles counted, half missed and half counted twice
    dead_frac: float = 0.0  # of the loops, silent from the start
    seed: int = 0

    def options(self) -> StreetOptions:
        plain = SensorNoise()
        noise = replace(
            plain,
            loop_miss_frac=plain.loop_miss_frac + self.wrong_frac / 2.0,
            loop_double_frac=self.wrong_frac / 2.0,
            dead_frac=self.dead_frac,
        )
        return StreetOptions(seed=self.seed, duration_s=0.0, coverage=self.coverage, noise=noise)


def scenario_prior(scenario: ScenarioFiles, network: Network) -> Prior:
    """Turning shares and mean flows of a scenario's own demand: one mesoscopic run, cached.

    Raises CityError when SUMO cannot load the files, ProcessError when its process dies.
    """
    return build_prior(scenario.city(epoch_of_zero_s=MIDNIGHT_S), network, cache=cache_folder() / "priors")


class SensedStreet:
    """The simulation as its devices report it. All times UTC epoch seconds."""

    def __init__(self, libsumo: Any, network: Network, sight: Sight, now_s: float) -> None:
        self._sumo, self._network, self._noise = libsumo, network, sight.options().noise
        self._frames: list[Frame] = []
        self._began_s = now_s
        options = sight.options()
        self._loops = PositionLoops(libsumo, network, find_detectors(network, options.coverage))
        handle = SimpleNamespace(vehicle=libsumo.vehicle, person=libsumo.person, simulation=libsumo.simulation)
        self._sensors = Sensors(handle, network, options, self._frames.append, first_counter=0, loops=self._loops)
        self.watcher = Watcher(handle, network, self._sensors, [])
        self.watcher.open_window(now_s)
        own = programmes_of(network, epoch_of_zero_s=MIDNIGHT_S)
        self.heads = [Head(s, o, now_s) for s, o in zip(network.signals, own, strict=True)]
        self._shown = [""] * len(self.heads)
        self._calls = Calls(libsumo, network)
        self._loop_calls = LoopCalls(network, self._sensors.detectors)
        self.scan: Scan | None = None

    def show_lamps(self, now_s: float) -> None:
        self._calls.tell(self.heads, self._sensors.units, self._loop_calls, now_s)
        for i, (signal, head) in enumerate(zip(self._network.signals, self.heads, strict=True)):
            state = head.step(now_s)
            if state != self._shown[i]:
                self._sumo.trafficlight.setRedYellowGreenState(signal.id, state)
                self._shown[i] = state

    def observe(self, now_s: float) -> list[Frame]:
        """What the devices say of the second that ended at `now_s`, and of the lamps shown from then on."""
        scan, _, _ = self.watcher.look(heard=True)
        self.scan = scan
        names = [d.id for d in scan.drivers]
        self._loops.look(names, scan.lane, scan.speed_mps, scan.motor, float(self._sumo.simulation.getTime()))
        latency_s = self._sensors.latencies(self._noise.signal_latency_s, len(self.heads))
        for i, signal in enumerate(self._network.signals):
            self._sensors.report_lamps(now_s, signal.id, self._shown[i], self.heads[i].plan_version, latency_s[i])
        self._sensors.observe(now_s, scan, round(now_s - self._began_s))
        self._loop_calls.note_loops(self._sensors.wired, self._sensors.covered(), now_s)
        for i, state in enumerate(self._shown):
            self._loop_calls.note_lamps(i, state)
        sent = self._frames[:]
        self._frames.clear()
        return sent

    def receive(self, order: PlanOrder, now_s: float) -> bool:
        return self.heads[self._network.signal_index[order.junction]].receive(order, now_s).accepted


class Twin:
    """Inbox, fusion, controller and proof. Knows the street by its frames alone."""

    def __init__(
        self,
        network: Network,
        coverage: Coverage,
        prior: Prior | None,
        chain: Chain,
        policy: Policy | None,
        pseudonyms: Pseudonyms,
        crossings: CrossingSight,
        loop_calls: bool,
    ) -> None:
        """`loop_calls`: empty lanes are not opened by the clock."""
        self._crossings = crossings
        self._network, self._chain = network, chain
        self._controller = chain if policy is None else Preemption(network, chain, policy)
        self.levels = dict.fromkeys(Level, 0)  # junction cycles
        detectors = find_detectors(network, coverage)
        self._loop_calls = LoopCalls(network, detectors) if loop_calls else None
        self.inbox = Inbox(network, detectors, pseudonyms=pseudonyms)
        self.fusion = Fusion(network, detectors, instrumented_signals(network, coverage), prior)
        self.lamps = LampTracker(network, programmes_of(network, epoch_of_zero_s=MIDNIGHT_S))
        self._versions = 0
        self.state: NetworkState | None = None
        self.refused = 0
        self.spent_s = {"inbox": 0.0, "fusion": 0.0, "control": 0.0, "prove": 0.0}

    def hear(self, frames: Sequence[Frame]) -> None:
        began = time.perf_counter()
        for frame in frames:
            self.inbox.offer(frame, frame.received_at_s)
        self.spent_s["inbox"] += time.perf_counter() - began

    def cycle(self, second_s: float) -> list[PlanOrder]:
        """One control cycle on what has arrived half a second after `second_s`; orders for the next second."""
        began = time.perf_counter()
        batches = self.inbox.take(second_s + HEARD_AFTER_S)
        self.lamps.note_reports(batches.signals)
        self._crossings.hear(batches.tracks, second_s)
        self.lamps.note_unwanted(self._crossings.unwanted(), second_s)
        fused = time.perf_counter()
        self.state = self.fusion.update(batches, second_s, None)
        if self._loop_calls is not None:
            self.lamps.note_calls(self._loop_calls, batches, self.fusion.distrusted, second_s)
        valid_from_s = second_s + LEAD_S
        foreseen = self.lamps.foresee(valid_from_s)
        asked = time.perf_counter()
        proposals = self._controller.propose(self.state, None, foreseen, valid_from_s=valid_from_s)
        answered = time.perf_counter()
        for standing in self._chain.standings:
            self.levels[standing.level] += 1
        decision = decide(
            proposals, self._network.signals, foreseen, now_s=second_s + HEARD_AFTER_S, first_version=self._versions
        )
        self._versions += len(decision.approved)
        self.refused += len(decision.refused)
        self.lamps.note_sent(decision.approved)
        orders = [to_order(plan, signature=plan.proof) for plan in decision.approved]
        done = time.perf_counter()
        for name, seconds in zip(
            self.spent_s, (fused - began, asked - fused, answered - asked, done - answered), strict=True
        ):
            self.spent_s[name] += seconds
        return orders


class SensedControl:
    """To be called before every simulated second. `report()` says what it cost and what it saw."""

    def __init__(self, street: SensedStreet, twin: Twin, *, cycle_s: int, junctions: int) -> None:
        self._street, self._twin = street, twin
        self._cycle_s, self._junctions = cycle_s, junctions
        self._seconds = self._turned_down = 0

    def __call__(self, time_s: float) -> None:
        now_s = MIDNIGHT_S + time_s
        self._street.show_lamps(now_s)
        self._twin.hear(self._street.observe(now_s))
        if self._seconds % self._cycle_s == 0:
            for order in self._twin.cycle(now_s):
                self._turned_down += not self._street.receive(order, now_s + HEARD_AFTER_S)
        self._seconds += 1

    def in_charge(self, signal: int) -> bool:
        """The lamps of this signal are not those of its own programme."""
        return self._street.heads[signal].mode != "own"

    def report(self) -> dict[str, Any]:
        seconds = max(self._seconds, 1)
        spent_s = self._twin.spent_s
        return {
            "twin_ms_per_junction_s": 1e3 * sum(spent_s.values()) / seconds / max(self._junctions, 1),
            "twin_ms_per_s": {name: round(1e3 * value / seconds, 3) for name, value in spent_s.items()},
            "levels": {level.name.lower(): count for level, count in self._twin.levels.items()},
            "refused": self._twin.refused,
            "turned_down": self._turned_down,
            "falls": sum(len(head.falls) for head in self._street.heads),
        }


def control_by_sensors(
    libsumo: Any,
    network: Network,
    sight: Sight,
    prior: Prior | None,
    *,
    begin_s: float,
    policy: Policy | None = None,
    cycle_s: int = 1,
    least_open_frac: float = LEAST_OPEN_FRAC,
    least_seen_frac: float = LEAST_SEEN_FRAC,
) -> SensedControl:
    """The live controller behind simulated sensors, for a simulation that stands at its second `begin_s`.

    Signals fall back to the active programmes of `network`. `prior` None: go without turning shares and mean flows
    of the demand. `policy` None: every vehicle counts alike. `least_open_frac`: see
    `signals.controllers.unsure_turns`. `least_seen_frac`: share of a junction's flow that sensors must follow for
    live control.
    """
    shares = prior.movement_share if prior else None
    known = read_policy() if policy is None else policy
    walkers = expect_walkers(known, network)
    crossings = CrossingSight(network, instrumented_signals(network, sight.coverage), walkers)
    horizon = RollingHorizon(network, shares=shares, walkers=crossings, least_open_frac=least_open_frac, guesses=True)
    chain = Chain(network, horizon, least_seen_frac=least_seen_frac)
    street = SensedStreet(libsumo, network, sight, MIDNIGHT_S + begin_s)
    pseudonyms = Pseudonyms(f"simulation {sight.seed}".encode())  # of nobody real: a run can be repeated exactly
    twin = Twin(network, sight.coverage, prior, chain, policy, pseudonyms, crossings, not horizon.may_lock)
    return SensedControl(street, twin, cycle_s=cycle_s, junctions=len(network.signals))


@dataclass(frozen=True, slots=True)
class Sensed:
    """Makes the live control behind simulated sensors, for `scenarios.side_by_side`."""

    coverage: Coverage
    prior: Prior | None
    policy: Policy | None = None

    def __call__(self, libsumo: Any, network: Network, begin_s: float, seed: int) -> SensedControl:
        sight = Sight(self.coverage, seed=seed)
        return control_by_sensors(libsumo, network, sight, self.prior, begin_s=begin_s, policy=self.policy)
