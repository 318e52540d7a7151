"""The same scenario under several signal controls, seed by seed, one process a run.

A side is a way to control the signals: those of SUMO (as shipped, actuated, or by a plan file), or a control that is
called before every simulated second. Whatever it is, its run is measured alike: every scheduled vehicle counts, and
two watches that see nothing but the lamps count what is unsafe.
"""

from __future__ import annotations

import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from networks.city import CityFolder, Coverage
from networks.errors import CityError, ProcessError
from networks.graph import Network
from networks.readers.formats import holds_programmes
from networks.readers.sumo import read_sumo, with_plan
from scenarios.demand import read_schedule
from scenarios.full_detection import DetectedControl
from scenarios.lamp_measures import walk_loss_s
from scenarios.measures import Scheduled, TripSummary, read_tripinfo, summarise
from scenarios.rivals import check_actuated, write_actuated
from scenarios.simulation import RunSpec, Simulation, guard, receive, start_child
from signals.priority import Policy
from signals.watch import Bystander, LampWatch

SAY_EVERY_S = 1.0  # of wall time
LONGEST_SILENCE_S = 900.0  # of wall time: a simulated second never takes so long
_EXAMPLES = 6


@dataclass(frozen=True, slots=True)
class ScenarioFiles:
    """What SUMO has to load, in loading order; simulated seconds."""

    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...]
    begin_s: float
    end_s: float

    @property
    def name(self) -> str:
        return self.network.name.split(".")[0]

    def programmes(self) -> tuple[Path, ...]:
        """The additional files that hold signal programmes. Raises NetworkError naming one that cannot be read."""
        return tuple(path for path in self.additional if holds_programmes(path))

    def city(self, *, epoch_of_zero_s: float = 0.0) -> CityFolder:
        """As a city. `epoch_of_zero_s`: epoch of simulated second 0."""
        programmes = self.programmes()
        return CityFolder(
            name=self.name,
            folder=self.network.parent,
            network=self.network,
            routes=self.routes,
            additional=tuple(path for path in self.additional if path not in programmes),
            programmes=programmes,
            begin_s=self.begin_s,
            end_s=self.end_s,
            epoch_s=epoch_of_zero_s + self.begin_s,
            coverage=Coverage(),
        )


class Control(Protocol):
    """Live control of a running simulation. To be called before each simulated second."""

    def __call__(self, now_s: float, /) -> None: ...

    def in_charge(self, signal: int) -> bool:
        """The lamps of this signal are the control's, not those of its own programme."""
        ...

    def report(self) -> dict[str, Any]:
        """What it did, as JSON."""
        ...


MakeControl = Callable[[Any, Network, float, int], Control]
"""(libsumo, network, second at which the run stands, seed) -> the control. Has to be picklable."""


@dataclass(frozen=True, slots=True)
class FullyDetected:
    """Makes the live control that sees every vehicle."""

    policy: Policy | None = None

    def __call__(self, libsumo: Any, network: Network, begin_s: float, seed: int) -> DetectedControl:
        return DetectedControl(libsumo, network, policy=self.policy)


@dataclass(frozen=True, slots=True)
class Side:
    """One way to control the signals. All defaults: the programmes shipped with the scenario."""

    name: str
    make: MakeControl | None = None
    plan: Path | None = None  # SUMO additional file of programmes, in force wherever `make` does not control
    actuated: bool = False  # the shipped programmes as SUMO's actuated ones
    settings: str = ""  # what `make` was told, for whoever must know whether two runs are the same


class Job(NamedTuple):
    side: Side
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """One run. `violations`: unsafe changes of lamps by rule, of two watches the one that saw more.

    `walker_delay_s`: mean time loss of those who walk; where nobody does, of somebody who comes to a crossing at any
    moment, None without crossings. `longest_red_s`: whether or not anybody waited.
    """

    side: str
    seed: int
    vehicles: int
    arrived: int
    running: int
    never_inserted: int
    mean_delay_s: float
    stops_per_vehicle: float
    longest_red_s: float
    walker_delay_s: float | None
    violations: dict[str, int]
    examples: tuple[str, ...]
    collisions: int
    report: dict[str, Any]
    wall_s: float


Told = Callable[[Job, float], None]  # how far a run is, in simulated seconds


def network_of(scenario: ScenarioFiles, plan: Path | None = None) -> Network:
    """The scenario's network under its programmes, those of `plan` in force. Raises NetworkError."""
    network = read_sumo(scenario.network, scenario.programmes())
    return network if plan is None else with_plan(network, plan)


def run_jobs(scenario: ScenarioFiles, jobs: Sequence[Job], *, workers: int, told: Told) -> Generator[Result]:
    """Run all jobs, `workers` at a time, each in a process of its own; results as they come.

    Closing the iterator ends what still runs. Raises CityError or NetworkError naming what SUMO cannot load,
    ProcessError when a process dies.
    """
    waiting = list(reversed(jobs))
    running: dict[Connection, tuple[Any, Job]] = {}
    with tempfile.TemporaryDirectory(prefix="citytwin_sides_", ignore_cleanup_errors=True) as scratch:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    job = waiting.pop()
                    folder = Path(tempfile.mkdtemp(dir=scratch))
                    process, ours = start_child(_serve, scenario, job, folder, name=f"{job.side.name} {job.seed}")
                    running[ours] = process, job
                watched = [*running, *(process.sentinel for process, _ in running.values())]
                ready = wait(watched, LONGEST_SILENCE_S)
                if not ready:
                    raise ProcessError(f"no run has got any further for {LONGEST_SILENCE_S:g} s")
                for connection in [c for c, (p, _) in running.items() if c in ready or p.sentinel in ready]:
                    process, job = running[connection]
                    said = receive(connection, process, None, f"{job.side.name}, seed {job.seed}")
                    if isinstance(said, Result):
                        del running[connection]
                        process.join()
                        connection.close()
                        yield said
                    else:
                        told(job, said)
        finally:
            for connection, (process, _) in running.items():
                process.kill()
                process.join()
                connection.close()


def _serve(connection: Connection, scenario: ScenarioFiles, job: Job, folder: Path) -> None:
    """Body of a run's process: says now and then how far it is, then the result."""

    def say(what: float | Result) -> None:
        connection.send(("done", what))

    guard(connection, lambda: say(measure_run(scenario, job, folder, say)))


def measure_run(scenario: ScenarioFiles, job: Job, folder: Path, say: Callable[[float], None]) -> Result:
    """One run in this process. `folder`: for temporary files; `say` hears the simulated second now and then."""
    begun_s = time.monotonic()
    side = job.side
    network = network_of(scenario, side.plan)
    trips = folder / "trips.xml"
    spec = RunSpec(
        network=scenario.network,
        routes=scenario.routes,
        additional=(*scenario.additional, *((side.plan,) if side.plan is not None else ())),
        begin_s=scenario.begin_s,
        seed=job.seed,
        tripinfo=trips,
        scratch=folder,
        extra=("--tripinfo-output.write-undeparted",),
    )
    actuated: Sequence[str] = ()
    if side.actuated:
        programmes = folder / "actuated.add.xml"
        actuated = write_actuated(scenario.city(), programmes)
        spec = replace(spec, additional=(*spec.additional, programmes))
    watch = _Watch(network)
    collisions, said_s = 0, begun_s
    report: dict[str, Any] = {}
    with Simulation(spec) as run:
        check_actuated(run, actuated)
        control = side.make(run.sumo, network, run.now_s, job.seed) if side.make is not None else None
        while run.now_s < scenario.end_s:
            now_s = run.now_s
            if control is not None:
                control(now_s)
            run.step()
            watch.look(run.sumo.trafficlight, now_s, control)
            collisions += run.sumo.simulation.getCollidingVehiclesNumber()
            if time.monotonic() - said_s >= SAY_EVERY_S:
                said_s = time.monotonic()
                say(run.now_s)
        watch.finish(run.now_s)
        if control is not None:
            report = control.report()
    told, stops_per_vehicle = _count(scenario, trips)
    return Result(
        side=side.name,
        seed=job.seed,
        vehicles=told.vehicles,
        arrived=told.arrived,
        running=told.running,
        never_inserted=told.never_inserted,
        mean_delay_s=told.mean_delay_s,
        stops_per_vehicle=stops_per_vehicle,
        longest_red_s=watch.longest_red_s,
        walker_delay_s=walk_loss_s(trips, network.signals, watch.shown),
        violations=watch.violations,
        examples=watch.examples,
        collisions=collisions,
        report=report,
        wall_s=time.monotonic() - begun_s,
    )


def _count(scenario: ScenarioFiles, trips: Path) -> tuple[TripSummary, float]:
    """Every vehicle scheduled in [begin, end), those of flows as SUMO spaced them; and stops a vehicle.

    SUMO also lists those whom it has not let in; vehicles of the demand that it does not list never got in either.
    """
    begin_s, end_s = scenario.begin_s, scenario.end_s
    schedule = read_schedule(scenario.routes, scenario.additional)
    stops: dict[str, int] = {}
    for _, element in ET.iterparse(trips):
        if element.tag == "tripinfo":
            name = element.attrib["id"]
            stops.setdefault(name, int(element.get("waitingCount", 0)))
            schedule.setdefault(name, Scheduled(begin_s, "car"))
            element.clear()
    told = summarise(read_tripinfo(trips), schedule, begin_s=begin_s, end_s=end_s)
    if not told.vehicles:
        names = ", ".join(map(str, scenario.routes))
        raise CityError(f"{names}: no vehicle departs in [{begin_s:g}, {end_s:g})")
    due = sum(count for name, count in stops.items() if begin_s <= schedule[name].depart_s < end_s)
    return told, due / told.vehicles


class _Watch:
    """Two watches at the lamps of every signal, and a memory of what was shown."""

    def __init__(self, network: Network) -> None:
        self._signals = network.signals
        self._bystanders = [Bystander(signal) for signal in network.signals]
        self._lamp_watch = LampWatch(network.signals)
        self.shown: list[list[str]] = [[] for _ in network.signals]

    def look(self, lights: Any, now_s: float, control: Control | None) -> None:
        """See the lamps of the second that began at `now_s`."""
        for index, signal in enumerate(self._signals):
            state = lights.getRedYellowGreenState(signal.id)[: signal.link_count]
            shipped = control is None or not control.in_charge(index)
            self._bystanders[index].look(now_s, state, shipped=shipped)
            self._lamp_watch.look(now_s, index, state, shipped=shipped)
            self.shown[index].append(state)

    def finish(self, now_s: float) -> None:
        for bystander in self._bystanders:
            bystander.finish(now_s)

    @property
    def longest_red_s(self) -> float:
        return max((b.longest_red_s for b in self._bystanders), default=0.0)

    @property
    def violations(self) -> dict[str, int]:
        seen: Counter[str] = Counter()
        for bystander in self._bystanders:
            seen.update(bystander.counts)
        return dict(sorted((seen | self._lamp_watch.counts).items()))

    @property
    def examples(self) -> tuple[str, ...]:
        told = [f"{s.id} {e}" for s, b in zip(self._signals, self._bystanders, strict=True) for e in b.examples]
        return (*told, *map(str, self._lamp_watch.violations))[:_EXAMPLES]
