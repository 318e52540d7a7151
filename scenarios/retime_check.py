"""Signal plans measured in microscopic SUMO: what the retimer's finalists are judged by.

Workers are spawned processes, each with libsumo to itself, that run one scenario again and again under other plans,
other seeds and more or less demand. Delay is that of `scenarios.measures`: time loss plus insertion delay over every
vehicle, with nobody removed from a jam.
"""

from __future__ import annotations

import contextlib
import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from networks.graph import Floats
from scenarios.simulation import RunSpec, Simulation, guard, receive, start_child
from signals.formats import to_sumo
from signals.retime_plans import PlanMaker
from signals.retime_score import Objective, Outcome, Sample, Timings, Trial, price

PROGRAMME = "citytwin_retimed"
LONGEST_RUN_S = 900.0  # of wall time
LOOK_EVERY_S = 60.0
JAM_FRAC = 0.15  # of the demand still in or waiting for the network at the end: gridlock
_HOPELESS = 1.6  # a run is given up when the vehicles in it exceed so often those of the run to beat
_TRIP = re.compile(
    r'<tripinfo id="[^"]*" depart="(?P<depart>[^"]*)" departLane="(?P<lane>[^"]*)".*?departDelay="(?P<wait>[^"]*)"'
    r' arrival="(?P<arrival>[^"]*)".*?duration="(?P<duration>[^"]*)".*? waitingCount="(?P<stops>[^"]*)"'
    r'.*? timeLoss="(?P<loss>[^"]*)"'
)
_EDGE = re.compile(r'<edge id="(?P<id>[^"]*)".*? timeLoss="(?P<loss>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Street:
    """The scenario that plans are measured in."""

    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...]
    begin_s: float
    end_s: float
    edges: tuple[str, ...]  # ids that `Outcome.edge_cost` follows


def measure(street: Street, plan: str | None, sample: Sample, scratch: Path, best: Floats | None = None) -> Outcome:
    """One run in this process. `plan` is the text of a SUMO additional file, None: as shipped.

    `best` is the load of a run to beat: far above it for long, the run is given up.
    """
    trips, edge_file, words = scratch / "trips.xml", scratch / "edges.xml", scratch / "words.add.xml"
    words.write_text(
        f'<additional><edgeData id="e" file="{edge_file}" excludeEmpty="true" withInternal="false" '
        f'begin="{street.begin_s:g}" end="{street.end_s:g}"/></additional>'
    )
    additional = [*street.additional, words]
    if plan is not None:
        plan_file = scratch / "plan.add.xml"
        plan_file.write_text(plan, encoding="utf-8")
        additional.append(plan_file)
    spec = RunSpec(
        network=street.network,
        routes=street.routes,
        additional=tuple(additional),
        begin_s=street.begin_s,
        seed=sample.seed,
        tripinfo=trips,
        scratch=scratch,
        extra=("--tripinfo-output.write-undeparted", "--scale", f"{sample.demand:g}"),
    )
    load: list[float] = []
    finished = True
    with Simulation(spec) as run:
        now_s = street.begin_s
        while now_s < street.end_s and finished:
            now_s = min(now_s + LOOK_EVERY_S, street.end_s)
            run.run_until(now_s)
            load.append(run.sumo.vehicle.getIDCount() + len(run.sumo.simulation.getPendingVehicles()))
            finished = best is None or not _is_hopeless(load, best)
    if not finished:
        return Outcome(0, np.inf, np.inf, np.zeros(len(street.edges)), 0.0, True, np.array(load))
    return _outcome(street, trips.read_text(), edge_file.read_text(), np.array(load))


def _is_hopeless(load: Sequence[float], best: Floats) -> bool:
    count = min(len(load), len(best))
    return count >= 10 and sum(load) > _HOPELESS * float(best[:count].sum()) + 20.0 * count


def _outcome(street: Street, trips: str, edges: str, load: Floats) -> Outcome:
    index = {name: i for i, name in enumerate(street.edges)}
    delay_s = np.zeros(len(street.edges))
    for row in _EDGE.finditer(edges):
        if row["id"] in index:
            delay_s[index[row["id"]]] += float(row["loss"])
    total_s, vehicles, unfinished, stops = 0.0, 0, 0, 0
    for trip in _TRIP.finditer(trips):
        waited_s = float(trip["wait"])
        inserted = float(trip["depart"]) >= 0
        total_s += waited_s + (float(trip["loss"]) if inserted else 0.0)
        vehicles += 1
        stops += int(trip["stops"]) if inserted else 0
        unfinished += not inserted or float(trip["arrival"]) < 0
        origin = trip["lane"].rpartition("_")[0]
        if origin in index:
            delay_s[index[origin]] += waited_s
    mean_s = total_s / max(1, vehicles)
    count = max(1, vehicles)
    return Outcome(vehicles, mean_s, mean_s, delay_s, stops / count, unfinished > JAM_FRAC * vehicles, load)


class Bench:
    """Worker processes that measure plans; a context manager."""

    def __init__(
        self, street: Street, maker: PlanMaker, *, objective: Objective = "person-delay", workers: int = 2
    ) -> None:
        self.street, self._maker, self._workers = street, maker, workers
        self._objective: Objective = objective

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="citytwin_retime_")
        self._lanes: list[tuple[Any, Connection]] = []
        for number in range(self._workers):
            scratch = Path(self._folder.name) / str(number)
            scratch.mkdir()
            self._lanes.append(start_child(_serve, self.street, scratch, name=f"retime {number}"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, connection in self._lanes:
            connection.close()
            process.kill()
            process.join()
        with contextlib.suppress(OSError):
            self._folder.cleanup()

    def wait_ready(self) -> None:
        """Until every worker has loaded SUMO and the scenario once, so that the times of runs can be compared."""
        for _, connection in self._lanes:
            connection.send(None)
        for process, connection in self._lanes:
            receive(connection, process, LONGEST_RUN_S, "starting a worker")

    def measure(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Outcomes in order, as many trials at a time as there are workers.

        Raises ProcessError when a worker dies, CityError when SUMO cannot load the scenario.
        """
        return self._run(
            [
                (plan_text(self._maker, t.timings), t.sample, t.rival.load_veh if t.rival is not None else None)
                for t in trials
            ]
        )

    def measure_texts(self, plans: Sequence[tuple[str | None, Sample]]) -> list[Outcome]:
        """The same of additional files given as text, None: as shipped."""
        return self._run([(text, sample, None) for text, sample in plans])

    def _run(self, jobs: Sequence[tuple[str | None, Sample, Floats | None]]) -> list[Outcome]:
        answers: dict[int, Outcome] = {}
        waiting = list(enumerate(jobs))[::-1]
        busy: dict[Connection, tuple[int, Any]] = {}
        idle = list(self._lanes)
        try:
            while waiting or busy:
                while waiting and idle:
                    number, job = waiting.pop()
                    process, connection = idle.pop(0)
                    connection.send(job)
                    busy[connection] = number, process
                ready = wait([*busy, *(process.sentinel for _, process in busy.values())])
                for connection in [c for c in busy if c in ready] or list(busy)[:1]:
                    number, process = busy.pop(connection)
                    answers[number] = self._priced(receive(connection, process, LONGEST_RUN_S, "measuring a plan"))
                    idle.append((process, connection))
        except KeyboardInterrupt:
            for connection, (_, process) in busy.items():  # whoever measures next must not meet these answers
                receive(connection, process, LONGEST_RUN_S, "measuring a plan")
            raise
        return [answers[n] for n in range(len(jobs))]

    def _priced(self, outcome: Outcome) -> Outcome:
        if not math.isfinite(outcome.mean_delay_s):
            return outcome
        mean_cost, edge_cost = price(
            self._objective,
            self._maker.network,
            outcome.edge_cost,
            outcome.mean_delay_s,
            outcome.stops,
            self.street.end_s - self.street.begin_s,
        )
        return replace(outcome, mean_cost=mean_cost, edge_cost=edge_cost)


def plan_text(maker: PlanMaker, timings: Timings) -> str | None:
    """The SUMO additional file of proven plans; None without any. Raises UnsafePlanError."""
    plans = [maker.prove(signal, timing) for signal, timing in sorted(timings.items())]
    return to_sumo(plans, epoch_of_zero_s=0.0, programme=PROGRAMME) if plans else None


def _serve(connection: Connection, street: Street, scratch: Path) -> None:
    """Body of a worker."""

    def work() -> None:
        while True:
            asked = connection.recv()
            if asked is None:
                measure(replace(street, end_s=street.begin_s + 1.0), None, Sample(0), scratch)
                connection.send(("done", None))
                continue
            plan, sample, best = asked
            connection.send(("done", measure(street, plan, sample, scratch, best)))

    guard(connection, work)


def active_programmes(street: Street, plan: Path) -> dict[str, str]:
    """The programme that SUMO runs at each signal at the begin, with the plan file loaded last. In this process."""
    spec = RunSpec(
        network=street.network,
        routes=(),
        additional=(*street.additional, plan),
        begin_s=street.begin_s,
    )
    with Simulation(spec) as run:
        lights = run.sumo.trafficlight
        return {name: lights.getProgram(name) for name in lights.getIDList()}
