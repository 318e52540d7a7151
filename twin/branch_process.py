"""One branch in its own process: the mirror as it was saved, under other signal plans or closures, some minutes on.

SUMO can be forked in one way alone: a state written with its random numbers and all digits, loaded by a new process.
Loaded into a running one the state mixes with what is there. Nothing here imports pyarrow or geopandas.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from networks.city import CityFolder
from networks.graph import Floats, Network
from networks.messages import NoticeReport
from scenarios.edge_run import MESOSCOPIC_OPTIONS
from scenarios.simulation import RunSpec, Simulation, guard
from scenarios.street_works import Works
from signals.fixed import OwnProgrammes, own_programmes
from signals.lamps import LampRecord
from signals.plan import SignalPlan
from signals.way_home import plan_return
from twin.mirror_process import Follower, MirrorSpec, restored_run
from twin.mirror_words import Snapshot

STANDING_MPS = 0.1  # as SUMO's own waiting time
TOLD_EVERY_S = 60.0
_LIFE = 1_000_000  # far from those of the mirror, whose vehicles and routes the state holds
_LOSS = re.compile(r'<edge id="(?P<id>[^"]*)"[^>]* timeLoss="(?P<loss>[^"]*)"')


@dataclass(frozen=True, slots=True)
class BranchSpec:
    """What the process needs. Times are simulated seconds."""

    city: CityFolder
    network: Network
    snapshot: Snapshot
    seconds: float
    seed: int  # the snapshot's own: the same chances as its parent's
    plans: tuple[SignalPlan, ...]  # cyclic, second 0 is the simulation's
    closures: tuple[NoticeReport, ...]
    folder: Path  # for temporary files; whoever starts the process removes it
    roster: Path | None = None  # the snapshot's vehicles as demand, see `branch_roster`: the branch is mesoscopic


@dataclass(frozen=True, slots=True)
class Measures:
    """What happened in the time of a branch, and in nothing before it.

    Vehicles are all that were on the road, waited to enter or were due. Delay is time lost against free driving plus
    time waited to enter. Queued is who stands (below 0.1 m/s), at stops of its own excepted; a stop is one begun.
    """

    vehicles: int
    arrived: int
    driving: int  # at the end
    waiting: int  # to enter, at the end
    delay_s: float  # a vehicle
    waited_s: float  # of it, to enter
    stops: float  # a vehicle
    queue_veh: float  # mean over the time
    longest_queue_veh: int  # standing at once in the whole network
    throughput_vph: float
    teleports: int
    edge_loss_s: Floats  # (E,) time lost on each edge, all vehicles together


def serve(connection: Connection, spec: BranchSpec) -> None:
    """Body of the process: the seconds done now and then, at the end (Measures, CPU s)."""

    def work() -> None:
        measures = run_branch(spec, lambda second: connection.send(("done", second)))
        connection.send(("done", (measures, time.process_time())))

    guard(connection, work)


def run_branch(spec: BranchSpec, tell: Callable[[float], None]) -> Measures:
    """Run one branch in this process. `tell` hears every minute how many seconds are done."""
    begin_s = spec.snapshot.at_s
    with tempfile.TemporaryDirectory(prefix="branch_", dir=spec.folder) as name:
        scratch = Path(name)
        losses, words = scratch / "losses.xml", scratch / "words.add.xml"
        write_loss_words(words, losses, begin_s, spec.seconds)
        if spec.roster is not None:
            run = _mesoscopic(spec, words, scratch)
        else:
            run = restored_run(spec.city, spec.snapshot, spec.seed, scratch, words=(words,))
        with Simulation(run) as simulation:
            window = Window(simulation.sumo)
            _drive(spec, simulation, window, tell)
        return window.measures(spec.network, losses, spec.seconds)


def _mesoscopic(spec: BranchSpec, words: Path, scratch: Path) -> RunSpec:
    """The snapshot's vehicles, and the demand of later as the city's files have it."""
    city = spec.city
    assert spec.roster is not None
    return RunSpec(
        network=city.network,
        routes=(*city.routes, spec.roster),  # last: its vehicles are of types that the others define
        additional=(*city.additions, words),
        begin_s=spec.snapshot.at_s,
        seed=spec.seed,
        mesoscopic=True,
        extra=MESOSCOPIC_OPTIONS,
        scratch=scratch,
    )


def write_loss_words(words: Path, losses: Path, begin_s: float, seconds: float) -> None:
    """SUMO additional file that asks for the time lost on every edge in one span of time."""
    words.write_text(
        f'<additional><edgeData id="branch" file="{losses}" excludeEmpty="true" withInternal="true" '
        f'begin="{begin_s:.3f}" end="{begin_s + seconds:.3f}"/></additional>',
        encoding="utf-8",
    )


def _drive(spec: BranchSpec, simulation: Simulation, window: Window, tell: Callable[[float], None]) -> None:
    sumo, begin_s = simulation.sumo, spec.snapshot.at_s
    lamps = Lamps(sumo, spec.network, spec.snapshot, spec.plans)
    works = Works(sumo, spec.network, spec.closures)
    step = simulation.step
    if spec.snapshot.memory and spec.roster is None:
        mirror = MirrorSpec(
            spec.city, spec.network, spec.seed, spec.folder, _LIFE, correct=True, snapshot=spec.snapshot
        )
        step = Follower(mirror, simulation).step
    told_s = begin_s
    while simulation.now_s < begin_s + spec.seconds - 1e-6:
        now_s = simulation.now_s
        works.apply(now_s, sumo.vehicle.getIDList() if spec.closures else ())
        lamps.show(now_s)
        step()
        if works.closed:
            for vehicle in sumo.simulation.getDepartedIDList():
                works.avoid(vehicle)
        window.note_step(simulation.spec.step_s)
        if now_s - told_s >= TOLD_EVERY_S:
            told_s = now_s
            tell(now_s - begin_s)


class Lamps:
    """The signals of a branch.

    One with a plan of the branch goes over to it through a safe interstage. One that the mirror showed the street's
    lamps on goes home to its shipped programme in the same way, as in the street when nothing more is heard. All
    others run on as SUMO has them.
    """

    def __init__(self, sumo: Any, network: Network, snapshot: Snapshot, plans: tuple[SignalPlan, ...]) -> None:
        self._sumo = sumo
        own = {plan.signal: plan for plan in plans}
        self._followed: list[tuple[str, SignalPlan, OwnProgrammes]] = []  # signal, the way to the plan, what follows
        self._shown: dict[str, str] = {}
        for k, signal in enumerate(network.signals):
            held = snapshot.lamps[k]
            if held is None and k not in own:
                continue
            now = held or sumo.trafficlight.getRedYellowGreenState(signal.id)[: signal.link_count]
            after = OwnProgrammes((own[k],)) if k in own else own_programmes(signal, index=k, epoch_of_zero_s=0.0)
            way = plan_return(signal, after.at(snapshot.at_s), LampRecord.start(now, snapshot.at_s), snapshot.at_s)
            self._followed.append((signal.id, way, after))

    def show(self, now_s: float) -> None:
        """Set the lamps of the second that begins now."""
        for name, way, after in self._followed:
            state = (way if now_s < way.valid_until_s else after.at(now_s)).state_at(now_s)
            if state != self._shown.get(name):
                self._sumo.trafficlight.setRedYellowGreenState(name, state)
                self._shown[name] = state


class Window:
    """Counts from the moment it is made."""

    def __init__(self, sumo: Any) -> None:
        self._sumo = sumo
        self._before = sumo.vehicle.getIDCount()
        self._departed = self._arrived = self._stops = self._longest = self._teleports = self._pending = 0
        self._waited_s = self._queue_s = 0.0
        speed = sumo.vehicle.getSpeed
        self._standing = {v for v in sumo.vehicle.getIDList() if speed(v) < STANDING_MPS}

    def note_step(self, step_s: float) -> None:
        """Call after every step."""
        simulation, vehicle = self._sumo.simulation, self._sumo.vehicle
        speed, halts = vehicle.getSpeed, vehicle.isStopped
        self._departed += simulation.getDepartedNumber()
        self._arrived += simulation.getArrivedNumber()
        self._teleports += simulation.getStartingTeleportNumber()
        self._pending = len(simulation.getPendingVehicles())
        self._waited_s += step_s * self._pending
        standing = {v for v in vehicle.getIDList() if speed(v) < STANDING_MPS}
        standing = {v for v in standing if v in self._standing or not halts(v)}
        self._stops += len(standing - self._standing)
        self._queue_s += step_s * len(standing)
        self._longest = max(self._longest, len(standing))
        self._standing = standing

    def measures(self, network: Network, losses: Path, seconds: float) -> Measures:
        """After the run has ended; `losses` is SUMO's edge output of the same time."""
        loss_s = np.zeros(len(network.edges.ids))
        total_s = 0.0
        for row in _LOSS.finditer(losses.read_text(encoding="utf-8")):
            total_s += float(row["loss"])
            edge = network.edge_index.get(row["id"])
            if edge is not None:
                loss_s[edge] += float(row["loss"])
        driving = self._before + self._departed - self._arrived
        waiting = self._pending
        vehicles = self._before + self._departed + waiting
        many = max(1, vehicles)
        return Measures(
            vehicles=vehicles,
            arrived=self._arrived,
            driving=driving,
            waiting=waiting,
            delay_s=(total_s + self._waited_s) / many,
            waited_s=self._waited_s / many,
            stops=self._stops / many,
            queue_veh=self._queue_s / seconds,
            longest_queue_veh=self._longest,
            throughput_vph=self._arrived * 3600.0 / seconds,
            teleports=self._teleports,
            edge_loss_s=loss_s,
        )
