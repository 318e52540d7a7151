"""What if: forks of the mirror, each under other signal plans or closures, side by side and in time.

    snapshot = mirror.snapshot()                       # or twin.mirror_kept.read_kept, or start_of_scenario
    runs = run_branches(city, network, snapshot, (Branch("as it is"), Branch("wave", plans)), seconds=600.0)
    table = compare_branches(runs)

Every branch is a new process. One that is late when the deadline comes is ended and called late, one that dies is
called failed and says why; neither holds up the others. Only what is done is compared.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from networks.city import CityFolder
from networks.errors import CityTwinError, InputError
from networks.graph import Network
from networks.messages import NoticeReport
from scenarios.simulation import Simulation, receive, run_in_process, start_child
from signals.plan import SignalPlan
from twin.branch_process import BranchSpec, Measures, serve
from twin.branch_roster import write_roster
from twin.mirror_process import begun_run
from twin.mirror_words import Snapshot

SHOWN = ("delay_s", "waited_s", "stops", "queue_veh", "throughput_vph")
EVER_S = 1e-6  # simulated second from which a closure holds: before anything moves
TOO_LATE_TO_START = "the deadline came before it could start"
SEED_STEP = 7919  # between the seeds of the repetitions

Status = Literal["done", "late", "failed"]
Told = Callable[[str, int, float, str], None]
"""(branch, seed, simulated seconds done, "" or its status once it has ended)."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One way to go on. `plans`: cyclic, of the signals that shall run another programme; second 0 is SUMO's."""

    name: str
    plans: tuple[SignalPlan, ...] = ()
    closures: tuple[NoticeReport, ...] = ()


@dataclass(frozen=True, slots=True)
class BranchRun:
    """How one run of a branch ended. `measures` is there when it is done."""

    name: str
    seed: int
    status: Status
    reached_s: float  # simulated seconds done
    wall_s: float  # since it was started; 0: it never was
    cpu_s: float = math.nan  # of its process, when it is done
    error: str = ""
    measures: Measures | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over seeds and its standard deviation; NaN with fewer than two."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class BranchSummary:
    """One branch over its seeds, and what it changes against the first branch, seed by seed."""

    name: str
    runs: int
    done: int
    measures: dict[str, Spread] = field(default_factory=dict)
    change: dict[str, Spread] = field(default_factory=dict)


def seeds_of(snapshot: Snapshot, repetitions: int) -> tuple[int, ...]:
    """The snapshot's own seed first: the same chances as its parent's."""
    return tuple(snapshot.seed + SEED_STEP * k for k in range(repetitions))


def closure(edge: str, lanes: Sequence[int] = (), *, network: Network) -> NoticeReport:
    """An edge, or some lanes of it (0 rightmost), closed for as long as a branch runs.

    Raises InputError naming an edge or lane that the network does not have.
    """
    index = network.edge_index.get(edge)
    if index is None:
        raise InputError(f"closure: the network {network.name} has no edge {edge!r}")
    count = int(network.edges.lane_count[index])
    for lane in lanes:
        if not 0 <= lane < count:
            raise InputError(f"closure: edge {edge!r} has {count} lanes, so none numbered {lane}")
    whole = () if len(set(lanes)) == count else tuple(lanes)
    return NoticeReport(measured_at=EVER_S, id=f"{edge} {lanes}", edge=edge, lanes=whole, begin=EVER_S, end=1e9)


def start_of_scenario(city: CityFolder, network: Network, at_s: float, seed: int, folder: Path) -> Snapshot:
    """The city's own demand run up to a simulated second under its own signals, saved into `folder`.

    Raises InputError when that second lies outside the demand, CityError when SUMO cannot load the city.
    """
    if not city.begin_s <= at_s < city.end_s:
        raise InputError(f"--at {at_s:g}: the demand of {city.name} covers {city.begin_s:g} to {city.end_s:g} s")
    state = folder / "start.xml.gz"
    run_in_process(_save_start, city, at_s, seed, state)
    return Snapshot(at_s, str(state), b"", (None,) * len(network.signals), seed)


def _save_start(city: CityFolder, at_s: float, seed: int, state: Path) -> None:
    with Simulation(begun_run(city, seed, state.parent)) as simulation:
        simulation.run_until(at_s)
        simulation.save(state)


def run_branches(
    city: CityFolder,
    network: Network,
    snapshot: Snapshot,
    branches: Sequence[Branch],
    *,
    seconds: float,
    seeds: Sequence[int] = (),
    deadline_s: float = math.inf,
    workers: int = 0,
    mesoscopic: bool = False,
    told: Told | None = None,
) -> list[BranchRun]:
    """Every branch under every seed; results in that order, within `deadline_s` of wall time.

    mesoscopic: about four times faster, for ensembles; hold these branches against each other alone, for delay, stops
    and queues are those of another model, and cyclists on ways that it lacks are left out.

    seeds: none for the snapshot's own. All branches run their first seed before any its second. workers 0: as many
    as there are cores. The snapshot's file has to stay until this returns.
    Raises InputError when two branches share a name or a branch has two plans for one signal.
    """
    names = [b.name for b in branches]
    if len(set(names)) < len(names):
        raise InputError(f"branches: the name {max(names, key=names.count)!r} is used twice")
    for branch in branches:
        signals = [p.signal_id for p in branch.plans]
        if len(set(signals)) < len(signals):
            raise InputError(f"branch {branch.name}: two plans for signal {max(signals, key=signals.count)!r}")
    begun = time.monotonic()
    chosen = tuple(seeds) or (snapshot.seed,)
    with tempfile.TemporaryDirectory(prefix="citytwin_branches_", ignore_cleanup_errors=True) as folder:
        roster = Path(folder) / "roster.rou.xml" if mesoscopic else None
        if roster is not None:
            run_in_process(write_roster, city, snapshot, roster)
        jobs = [
            (
                branch.name,
                BranchSpec(
                    city, network, snapshot, seconds, seed, branch.plans, branch.closures, Path(folder), roster
                ),
            )
            for seed in chosen
            for branch in branches
        ]
        with _Pool(jobs, begun + deadline_s, workers or os.cpu_count() or 1, told) as pool:
            runs = pool.run()
    order = {name: k for k, name in enumerate(names)}
    return sorted(runs, key=lambda run: (order[run.name], chosen.index(run.seed)))


@dataclass(slots=True)
class _Running:
    name: str
    spec: BranchSpec
    process: Any
    begun: float
    reached_s: float = 0.0


class _Pool:
    """As many branches at a time as there are workers, until all have ended or the time is up."""

    def __init__(self, jobs: Sequence[tuple[str, BranchSpec]], end: float, workers: int, told: Told | None) -> None:
        self._waiting, self._end, self._workers, self._told = deque(jobs), end, workers, told
        self._running: dict[Connection, _Running] = {}
        self._ended: list[BranchRun] = []

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in list(self._running):
            self._stop(connection)

    def run(self) -> list[BranchRun]:
        while self._waiting or self._running:
            left_s = self._end - time.monotonic()
            if left_s <= 0:
                break
            while self._waiting and len(self._running) < self._workers:
                self._start(*self._waiting.popleft())
            watched = [*self._running, *(r.process.sentinel for r in self._running.values())]
            ready = wait(watched, left_s if math.isfinite(left_s) else None)
            for connection in [c for c, r in self._running.items() if c in ready or r.process.sentinel in ready]:
                self._hear(connection)
        for connection in list(self._running):
            self._note(connection, "late", "the deadline came first")
        while self._waiting:
            name, spec = self._waiting.popleft()
            self._end_run(BranchRun(name, spec.seed, "late", 0.0, 0.0, error=TOO_LATE_TO_START))
        return self._ended

    def _start(self, name: str, spec: BranchSpec) -> None:
        process, connection = start_child(serve, spec, name=f"branch {name}")
        self._running[connection] = _Running(name, spec, process, time.monotonic())

    def _hear(self, connection: Connection) -> None:
        run = self._running[connection]
        try:
            said = receive(connection, run.process, 0.0, f"branch {run.name}")
        except CityTwinError as error:
            self._note(connection, "failed", str(error))
            return
        if isinstance(said, tuple):
            run.reached_s = run.spec.seconds
            self._note(connection, "done", measures=said[0], cpu_s=said[1])
            return
        run.reached_s = said
        if self._told is not None:
            self._told(run.name, run.spec.seed, said, "")

    def _note(
        self,
        connection: Connection,
        status: Status,
        error: str = "",
        measures: Measures | None = None,
        cpu_s: float = math.nan,
    ) -> None:
        run = self._running[connection]
        wall_s = time.monotonic() - run.begun
        self._stop(connection)
        self._end_run(BranchRun(run.name, run.spec.seed, status, run.reached_s, wall_s, cpu_s, error, measures))

    def _end_run(self, run: BranchRun) -> None:
        self._ended.append(run)
        if self._told is not None:
            self._told(run.name, run.seed, run.reached_s, run.status)

    def _stop(self, connection: Connection) -> None:
        run = self._running.pop(connection)
        run.process.kill()
        run.process.join()
        connection.close()


def compare_branches(runs: Sequence[BranchRun]) -> list[BranchSummary]:
    """Branches in order of first sight; changes are against the first, over the seeds that both have done."""
    by_name: dict[str, list[BranchRun]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    first = {r.seed: r.measures for r in next(iter(by_name.values()), []) if r.measures is not None}
    summaries = []
    for name, own in by_name.items():
        done = {r.seed: r.measures for r in own if r.measures is not None}
        both = [(done[seed], first[seed]) for seed in done if seed in first]
        summaries.append(
            BranchSummary(
                name,
                len(own),
                len(done),
                {m: _spread([getattr(x, m) for x in done.values()]) for m in SHOWN} if done else {},
                {m: _spread([getattr(x, m) - getattr(y, m) for x, y in both]) for m in SHOWN} if both else {},
            )
        )
    return summaries


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean(values), stdev(values) if len(values) > 1 else math.nan)
