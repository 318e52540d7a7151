"""The virtual city's own process: one SUMO run that stands for the real world.

Each simulated second every signal's head says what its lamps show, SUMO moves the traffic by one second, and the
devices report. The twin reaches it through orders alone and sees it through frames alone.
"""

from __future__ import annotations

import heapq
import itertools
import math
import pickle
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from networks.city import CityFolder, load_network
from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame, GuidanceOrder, PlanReceipt, unpack_order
from networks.sensors import find_detectors
from scenarios.demand import read_schedule
from scenarios.measures import Trip, TripSummary, read_tripinfo, summarise
from scenarios.simulation import SNAPSHOT_OPTIONS, RunSpec, Simulation, guard
from scenarios.street_faults import FaultLine
from scenarios.street_guidance import Listeners
from scenarios.street_sensors import Scan, Sensors, write_loops
from scenarios.street_terms import Command, RainSpell, StreetOptions, StreetReport, rain_at
from scenarios.street_truth import Watcher
from scenarios.street_works import Works
from scenarios.waiting import Calls
from scenarios.weather import RainyDriving
from signals.executor import Head
from signals.fixed import programmes_of
from signals.loop_calls import LoopCalls
from signals.watch import LampWatch

COUNTERS_A_LIFE = 1_000_000  # devices count on from here after each restart, so that no counter comes twice
RECEIPT_LATENCY_S = 0.1
RAIN_SPREAD = 0.3  # log-spread of how much a day's drivers mind rain, which the twin does not know
_KEPT_SNAPSHOTS = 2
_EXAMPLES = 6


@dataclass(slots=True)
class Memory:
    """What a street must not forget when it is restarted from a snapshot."""

    at_s: float  # simulated second of the snapshot
    state: Path | None  # SUMO's part
    trips: list[Trip] = field(default_factory=list)  # of vehicles that had arrived
    teleports: int = 0
    collisions: int = 0
    violations: int = 0
    examples: tuple[str, ...] = ()
    sent: Counter[str] = field(default_factory=Counter)


def run_spec(city: CityFolder, demand: Sequence[Path], seed: int, folder: Path, life: int = 0) -> RunSpec:
    """The SUMO run of one day of a city; virtual city and rivals differ in their signals alone."""
    return RunSpec(
        network=city.network,
        routes=tuple(demand),
        additional=city.additions,
        begin_s=city.begin_s,
        seed=seed,
        tripinfo=folder / f"tripinfo_{life}.xml",
        scratch=folder,
    )


def newest_memory(folder: Path) -> Memory | None:
    """The last complete snapshot of a street in its folder."""
    notes = sorted(folder.glob("memory_*.pickle"))
    if not notes:
        return None
    memory = pickle.loads(notes[-1].read_bytes())
    return memory if isinstance(memory, Memory) else None


class Street:
    """The running street. A context manager: leaving it ends the SUMO run."""

    def __init__(
        self,
        city: CityFolder,
        options: StreetOptions,
        demand: Sequence[Path],
        folder: Path,
        *,
        life: int = 0,
        memory: Memory | None = None,
    ) -> None:
        self._city, self._options, self._folder, self._life = city, options, folder, life
        self._demand = tuple(demand)
        self._memory = memory or Memory(city.begin_s, None)
        self._frames: list[tuple[float, int, Frame]] = []  # on their way to the twin, by time of arrival
        self._order = itertools.count()
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self._network: Network = load_network(self._city)
        loops = self._folder / "loops.add.xml"
        write_loops(find_detectors(self._network, self._options.coverage), self._network, loops)
        spec = run_spec(self._city, self._demand, self._options.seed, self._folder, self._life)
        self._spec = replace(
            spec, additional=(*spec.additional, loops), load_state=self._memory.state, extra=SNAPSHOT_OPTIONS
        )
        self._run = self._exit.enter_context(Simulation(self._spec))
        sumo, options = self._run.sumo, self._options
        self._trips_before = len(self._memory.trips)
        self._faults = FaultLine(options.faults, begin_s=self._city.epoch_s, seed=f"{options.seed}/{self._life}")
        self._faults.sent.update(self._memory.sent)
        first_counter = self._life * COUNTERS_A_LIFE
        self._sensors = Sensors(sumo, self._network, options, self._carry, first_counter=first_counter)
        self._watcher = Watcher(sumo, self._network, self._sensors, self._memory.trips)
        self._listeners = Listeners(sumo, self._network, compliance=options.compliance, seed=options.seed)
        self._works = Works(sumo, self._network, options.notices)
        strength = math.exp(RAIN_SPREAD * random.Random(f"{options.seed}/rain").gauss(0.0, 1.0))
        resumed = self._memory.state is not None
        raining_mm_h = rain_at(options.rain, self._run.now_s - self._city.begin_s) if resumed else 0.0
        self._rain = RainyDriving(sumo, strength=strength, raining_mm_h=raining_mm_h)
        self._announced: set[str] = set()
        self._foretold: set[RainSpell] = set()
        zero_s, now_s = self._city.epoch_s - self._city.begin_s, self.now_s
        own = programmes_of(self._network, epoch_of_zero_s=zero_s)
        self._heads = [Head(s, o, now_s) for s, o in zip(self._network.signals, own, strict=True)]
        self._shown = [""] * len(self._heads)
        self._calls = Calls(sumo, self._network)
        self._loop_calls = LoopCalls(self._network, self._sensors.detectors)
        self._lamps = LampWatch(self._network.signals)
        self._scan: Scan | None = None
        self._watcher.open_window(now_s)
        self._teleports, self._collisions = self._memory.teleports, self._memory.collisions
        self._sumo = sumo
        return self

    def __exit__(self, *details: object) -> None:
        self._exit.close()

    @property
    def now_s(self) -> float:
        """UTC epoch seconds."""
        return self._city.epoch_s + self._run.now_s - self._city.begin_s

    @property
    def end_s(self) -> float:
        return self._city.epoch_s + self._options.duration_s

    def catch_up(self, at_s: float) -> None:
        """Run unheard and unseen until `at_s`: the outage after a restart."""
        while self.now_s < min(at_s, self.end_s):
            self._second(heard=False)
        self._watcher.open_window(self.now_s)

    def advance(self, until_s: float, orders: Sequence[bytes]) -> StreetReport:
        """Receive orders, run until `until_s` (or the end), report."""
        for payload in orders:
            self._receive(payload)
        while self.now_s < min(until_s, self.end_s):
            self._second(heard=True)
        now_s = self.now_s
        arrived: list[Frame] = []
        while self._frames and self._frames[0][0] <= now_s:
            arrived.append(heapq.heappop(self._frames)[2])
        truth = self._watcher.truth(now_s, self._scan) if self._scan is not None else None
        return StreetReport(now_s, tuple(arrived), truth, now_s >= self.end_s, dict(self._faults.sent))

    def finish(self) -> TripSummary:
        """End the run and count every vehicle due so far once.

        Vehicles that arrived before the snapshot a restarted street came from are in its memory; all others are in
        the newest tripinfo file, with the time loss that the snapshot carried.
        """
        end_s = self._run.now_s
        memory = self._remember(None)
        self._exit.close()
        assert self._spec.tripinfo is not None
        summary = summarise(
            itertools.chain(self._memory.trips[: self._trips_before], read_tripinfo(self._spec.tripinfo)),
            read_schedule(self._demand, self._city.additional),
            begin_s=self._city.begin_s,
            end_s=end_s,
            teleports=memory.teleports,
            collisions=memory.collisions,
        )
        return replace(
            summary,
            safety_violations=memory.violations,
            violation_examples=memory.examples,
            sent=dict(memory.sent),
        )

    def _second(self, *, heard: bool) -> None:
        """One simulated second. Unheard, the devices are switched off."""
        begin_s, sumo = self.now_s, self._sumo
        self._works.apply(begin_s, list(self._watcher.drivers))
        self._listeners.expire(begin_s)
        self._show_lamps(begin_s)
        self._run.step()
        now_s = self.now_s
        if self._options.rain:
            rain_mm_h = rain_at(self._options.rain, now_s - self._city.epoch_s)
            self._rain.apply(rain_mm_h, sumo.simulation.getDepartedIDList())
        scan, entered, gone = self._watcher.look(heard=heard)
        for driver in entered:
            if driver.equipped:
                self._listeners.enter(driver, now_s)
        if self._works.closed:
            for name in sumo.simulation.getDepartedIDList():
                self._works.avoid(name)
        for driver in gone:
            self._listeners.leave(driver)
        self._teleports += sumo.simulation.getStartingTeleportNumber()
        self._collisions += sumo.simulation.getCollidingVehiclesNumber()
        self._scan = scan
        second = round(now_s - self._city.epoch_s)
        if heard:
            self._report(begin_s, now_s, second)
        if second % round(self._options.snapshot_every_s) == 0:
            self._snapshot(second)

    def _show_lamps(self, now_s: float) -> None:
        self._calls.tell(self._heads, self._sensors.units, self._loop_calls, now_s)
        for i, (signal, head) in enumerate(zip(self._network.signals, self._heads, strict=True)):
            state = head.step(now_s)
            if state != self._shown[i]:
                self._sumo.trafficlight.setRedYellowGreenState(signal.id, state)
                self._shown[i] = state
                self._loop_calls.note_lamps(i, state)
            self._lamps.look(now_s, i, state, shipped=head.mode == "own")

    def _report(self, begin_s: float, now_s: float, second: int) -> None:
        assert self._scan is not None
        sensors, noise = self._sensors, self._options.noise
        latency_s = sensors.latencies(noise.signal_latency_s, len(self._heads))
        for i, signal in enumerate(self._network.signals):
            sensors.report_lamps(begin_s, signal.id, self._shown[i], self._heads[i].plan_version, latency_s[i])
        for notice in self._options.notices:
            if notice.id not in self._announced and begin_s >= notice.measured_at:
                self._announced.add(notice.id)
                sensors.send("control", "centre", begin_s, 0.5, notice.model_dump_json())
        for spell in self._options.rain:
            if spell.foretold_s is not None and second >= spell.foretold_s and spell not in self._foretold:
                self._foretold.add(spell)
                sensors.foretell(spell, now_s, second)
        sensors.observe(now_s, self._scan, second)
        self._loop_calls.note_loops(sensors.wired, sensors.covered(), now_s)

    def _receive(self, payload: bytes) -> None:
        now_s = self.now_s
        try:
            order = unpack_order(payload)
        except MessageError:
            self._faults.sent["malformed orders"] += 1
            return
        if isinstance(order, GuidanceOrder):
            self._listeners.receive(order, self._watcher.drivers.values(), now_s)
            return
        signal = self._network.signal_index.get(order.junction)
        if signal is None:
            self._faults.sent["orders to nowhere"] += 1
            return
        answer = self._heads[signal].receive(order, now_s)
        receipt = PlanReceipt(
            measured_at=now_s,
            junction=order.junction,
            plan_version=order.plan_version,
            accepted=answer.accepted,
            reason=answer.reason,
        )
        self._sensors.send("receipts", order.junction, now_s, RECEIPT_LATENCY_S, receipt.model_dump_json())

    def _carry(self, frame: Frame) -> None:
        for carried in self._faults.carry(frame):
            heapq.heappush(self._frames, (carried.received_at_s, next(self._order), carried))

    def _remember(self, state: Path | None) -> Memory:
        old = self._memory
        return Memory(
            at_s=self._run.now_s,
            state=state,
            trips=self._watcher.trips,
            teleports=self._teleports,
            collisions=self._collisions,
            violations=old.violations + self._lamps.total,
            examples=(*old.examples, *map(str, self._lamps.violations))[:_EXAMPLES],
            sent=self._faults.sent,
        )

    def _snapshot(self, second: int) -> None:
        """SUMO's state first, our note of it last and in one move: a note always has its state."""
        state = self._folder / f"state_{second:08d}.xml.gz"
        self._run.save(state)
        note = self._folder / f"memory_{second:08d}.pickle"
        fresh = note.with_suffix(".part")
        fresh.write_bytes(pickle.dumps(self._remember(state)))
        fresh.replace(note)
        for old in sorted(self._folder.glob("memory_*.pickle"))[:-_KEPT_SNAPSHOTS]:
            old.unlink()
            (self._folder / f"state_{old.stem.partition('_')[2]}.xml.gz").unlink(missing_ok=True)


def live(
    connection: Connection,
    city: CityFolder,
    options: StreetOptions,
    demand: tuple[Path, ...],
    folder: Path,
    life: int,
    at_s: float,
) -> None:
    """Body of the street's process: answers each `Command` on the connection; `at_s` is when it must be ready."""

    def work() -> None:
        memory = newest_memory(folder) if life else None
        with Street(city, options, demand, folder, life=life, memory=memory) as street:
            street.catch_up(at_s)
            connection.send(("done", street.now_s))
            while True:
                command: Command = connection.recv()
                if command.verb == "finish":
                    connection.send(("done", street.finish()))
                    return
                connection.send(("done", street.advance(command.until_s, command.orders)))

    guard(connection, work)
