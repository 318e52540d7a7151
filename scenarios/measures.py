"""What a run was worth: delay over every vehicle of the demand, each counted once.

Delay of a vehicle is its time loss plus its insertion delay; for vehicles still driving at the end both up to the
end, for vehicles never inserted the time since their scheduled departure. It is the definition of the RESCO benchmark
(Ault & Sharon 2021). Leaving out those that never arrived would reward a controller for jamming the entries.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from networks.graph import Floats

ARRIVED, RUNNING, NEVER_INSERTED = "arrived", "running", "never inserted"


class Scheduled(NamedTuple):
    """A vehicle of the demand."""

    depart_s: float
    kind: str  # car, bus, truck, bicycle ...


class Trip(NamedTuple):
    """How one vehicle fared."""

    id: str
    outcome: str  # ARRIVED, RUNNING, NEVER_INSERTED
    time_loss_s: float
    insertion_delay_s: float


@dataclass(frozen=True, slots=True)
class TripSummary:
    vehicles: int
    arrived: int
    running: int
    never_inserted: int
    mean_delay_s: float
    mean_time_loss_s: float
    mean_insertion_delay_s: float
    class_delay_s: dict[str, float]  # mean delay per kind of vehicle
    teleports: int = 0
    collisions: int = 0
    safety_violations: int = 0
    violation_examples: tuple[str, ...] = ()
    sent: dict[str, int] = field(
        default_factory=dict
    )  # frames by feed and injected faults by kind, of a virtual city


def read_tripinfo(path: Path) -> Iterator[Trip]:
    """Trips of a SUMO tripinfo file written with --tripinfo-output.write-unfinished."""
    for _, element in ET.iterparse(path):
        if element.tag == "tripinfo":
            get = element.attrib
            waited_s = float(get["departDelay"])
            if float(get["depart"]) < 0:
                yield Trip(get["id"], NEVER_INSERTED, 0.0, waited_s)
            else:
                outcome = RUNNING if float(get["arrival"]) < 0 else ARRIVED
                yield Trip(get["id"], outcome, float(get["timeLoss"]), waited_s)
            element.clear()


def mean_walk_loss_s(path: Path) -> float | None:
    """Mean time loss of the walks in a SUMO tripinfo file, those that go on included; None where nobody walks."""
    losses_s = []
    for _, element in ET.iterparse(path):
        if element.tag == "personinfo":
            losses_s += [max(0.0, float(walk.get("timeLoss", 0.0))) for walk in element.iter("walk")]
            element.clear()
    return _mean(losses_s) if losses_s else None


def summarise(
    trips: Iterable[Trip],
    demand: Mapping[str, Scheduled],
    *,
    begin_s: float,
    end_s: float,
    teleports: int = 0,
    collisions: int = 0,
) -> TripSummary:
    """Summary over the vehicles scheduled in [begin, end). The first trip of an id counts, later ones are dropped."""
    due = {name: v for name, v in demand.items() if begin_s <= v.depart_s < end_s}
    seen: dict[str, Trip] = {}
    for trip in trips:
        if trip.id in due:
            seen.setdefault(trip.id, trip)
    for name in due.keys() - seen.keys():
        seen[name] = Trip(name, NEVER_INSERTED, 0.0, end_s - due[name].depart_s)
    ordered = [seen[name] for name in sorted(seen)]  # one order of summation: equal runs give equal bits
    outcomes = [t.outcome for t in ordered]
    by_kind: dict[str, list[float]] = {}
    for trip in ordered:
        by_kind.setdefault(due[trip.id].kind, []).append(trip.time_loss_s + trip.insertion_delay_s)
    loss_s = _mean([t.time_loss_s for t in ordered])
    waited_s = _mean([t.insertion_delay_s for t in ordered])
    return TripSummary(
        vehicles=len(ordered),
        arrived=outcomes.count(ARRIVED),
        running=outcomes.count(RUNNING),
        never_inserted=outcomes.count(NEVER_INSERTED),
        mean_delay_s=loss_s + waited_s,
        mean_time_loss_s=loss_s,
        mean_insertion_delay_s=waited_s,
        class_delay_s={kind: _mean(values) for kind, values in sorted(by_kind.items())},
        teleports=teleports,
        collisions=collisions,
    )


def geh(modelled_vph: Floats, counted_vph: Floats) -> Floats:
    """Distance of modelled from counted hourly flows; under 5 counts as good (FHWA)."""
    total = np.maximum(modelled_vph + counted_vph, 1e-9)
    distance: Floats = np.sqrt(2.0 * (modelled_vph - counted_vph) ** 2 / total)
    return distance


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
