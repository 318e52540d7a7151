"""The street's devices: loops, roadside units, V2X, lamps and a weather station, with their noise and latency.

They read SUMO once a simulated second and write the wire format of `networks.messages` by hand: building a model an
object would cost more than the simulation. A test validates every frame against the models.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np

from networks.city import Detector
from networks.graph import Bools, Floats, Ints, Network
from networks.messages import Frame
from networks.sensors import (
    cabinets,
    find_detectors,
    instrumented_signals,
    signal_positions,
    stable_share,
)
from scenarios.demand import kind_of_class
from scenarios.street_terms import RainSpell, StreetOptions, rain_at

WEATHER_EVERY_S = 60
SHORT_LANE_M = 60.0  # no vehicle enters and leaves a longer lane within one second
_SWERVE_M = 5.0  # how far a vehicle's front may be off the middle of its lane
_SPEAKING = ("car", "bus", "truck", "emergency")  # kinds that may carry a V2X unit


@dataclass(slots=True)
class Driver:
    """What the street remembers of a vehicle while it drives."""

    id: str
    kind: str
    equipped: bool
    source: str  # its V2X identity
    head: str  # start of its V2X message, up to the position
    destination: int  # dense edge, -1 not in the network
    insertion_delay_s: float
    motor: bool  # neither a bicycle nor a walker
    edge: int = -1  # dense edge it is on, -1 inside a junction
    route_index: int = 0
    time_loss_s: float = 0.0  # when it entered the edge; up to date on its last one


class Scan(NamedTuple):
    """All vehicles after a step."""

    drivers: list[Driver]
    motor: Bools  # (V,)
    lane: Ints  # (V,) dense lane, -1 inside a junction
    xy: Floats  # (V, 2) local metres; NaN for those that no unit can see and that are not equipped
    speed_mps: Floats  # (V,)
    heading_rad: Floats  # (V,) 0 is east, counter-clockwise; NaN as above


def write_loops(detectors: Sequence[Detector], network: Network, path: Path) -> None:
    """SUMO additional file with the city's loops; their own output goes nowhere."""
    rows = "".join(
        f"<inductionLoop id={quoteattr(d.id)} lane={quoteattr(network.lanes.ids[d.lane])} "
        f'pos="{d.position_m:.2f}" period="86400" file="/dev/null"/>\n'
        for d in detectors
    )
    path.write_text(f"<additional>\n{rows}</additional>\n", encoding="utf-8")


class Sensors:
    """Turns the street after each step into frames. `deliver` takes each one as it is sent."""

    def __init__(
        self,
        sumo: Any,
        network: Network,
        options: StreetOptions,
        deliver: Callable[[Frame], None],
        *,
        first_counter: int,
        loops: Any = None,
    ) -> None:
        """`loops` answers in place of SUMO's own induction loops where the run has none."""
        self.detectors = find_detectors(network, options.coverage)
        self._sumo, self._network, self._options, self._deliver = sumo, network, options, deliver
        self._loops = sumo.inductionloop if loops is None else loops
        self._rng = np.random.default_rng([options.seed, 1, first_counter])
        self._counters: dict[tuple[str, str], int] = defaultdict(lambda: first_counter)
        self._loop_index = {d.id: i for i, d in enumerate(self.detectors)}
        self._cabinets = self._wire_loops()
        self.wired = np.array([self._loop_index[x[0]] for _, loops in self._cabinets for x in loops], np.int32)
        self._stood: set[str] = set()
        self._always = set(np.flatnonzero(network.lanes.length_m < SHORT_LANE_M).tolist())
        self._busy_before = set(range(len(network.lanes.ids)))
        self.units = instrumented_signals(network, options.coverage)
        self._unit_xy = signal_positions(network)[list(self.units)].reshape(-1, 2)
        self.near_lanes = lanes_near(network, self._unit_xy, options.noise.roadside_range_m)
        self._tracks: list[dict[str, int]] = [{} for _ in self.units]
        self._next_track = 1 + first_counter
        self._dark_until_s = np.full(len(self.units), -np.inf)

    def send(self, feed: str, source: str, at_s: float, latency_s: float, payload: str) -> None:
        """One message leaves a device."""
        counter = self._counters[feed, source]
        self._counters[feed, source] = counter + 1
        self._deliver(Frame(feed, source, counter, at_s, at_s + latency_s, payload.encode()))

    def greet(self, name: str) -> Driver:
        """First sight of a vehicle."""
        vehicle = self._sumo.vehicle
        kind = kind_of_class(vehicle.getVehicleClass(name))
        share = stable_share(f"{self._options.seed}/equipped/{name}")
        equipped = kind in _SPEAKING and share < self._options.coverage.equipped
        source = f"v{int(stable_share(f'{self._options.seed}/v2x/{name}') * 2**48):012x}"
        target = vehicle.getRoute(name)[-1]
        head = json.dumps({"vehicle": source, "kind": kind, "destination": target})[:-1]
        destination = self._network.edge_index.get(target, -1)
        waited_s = vehicle.getDepartDelay(name)
        return Driver(name, kind, equipped, source, head, destination, waited_s, motor=kind != "bicycle")

    def observe(self, now_s: float, scan: Scan, second: int) -> None:
        """Everything the devices report of the second that ended at `now_s`."""
        self._read_loops(now_s, scan)
        self._look_around(now_s, scan)
        self._hear_vehicles(now_s, scan)
        if second % WEATHER_EVERY_S == 1:
            self._read_weather(now_s, second)

    def covered(self) -> Bools:
        """(wired,) loops that somebody was on in the second looked at last, of those that are not dead."""
        now = np.zeros(len(self.detectors), np.bool_)
        now[[self._loop_index[name] for name in self._stood]] = True
        return now[self.wired]

    def report_lamps(self, at_s: float, junction: str, state: str, plan_version: int, latency_s: float) -> None:
        self.send(
            "signals",
            junction,
            at_s,
            latency_s,
            f'{{"measured_at":{at_s:.3f},"junction":{json.dumps(junction)},"state":"{state}",'
            f'"plan_version":{plan_version}}}',
        )

    def latencies(self, bounds_s: tuple[float, float], count: int) -> list[float]:
        """Uniform latencies; plain floats, for they go into frames."""
        return self._rng.uniform(*bounds_s, count).tolist()  # type: ignore[no-any-return]

    def _wire_loops(self) -> list[tuple[str, list[tuple[str, int, str, str]]]]:
        """Per cabinet: the signal, and per loop its id, lane, the start of its reading, its reading when empty."""
        wired: dict[str, list[tuple[str, int, str, str]]] = defaultdict(list)
        dead = self._options.noise.dead_frac
        signals = cabinets(self._network, self.detectors).tolist()
        for detector, signal in zip(self.detectors, signals, strict=True):
            if dead and stable_share(f"{self._options.seed}/dead/{detector.id}") < dead:
                continue
            junction = self._network.signals[signal].id
            head = f'{{"detector":{json.dumps(detector.id)},'
            empty = head + '"count":0,"occupancy":0.0,"speed_mps":null}'
            wired[junction].append((detector.id, detector.lane, head, empty))
        return list(wired.items())

    def _read_loops(self, now_s: float, scan: Scan) -> None:
        here = set(scan.lane.tolist())
        busy = here | self._busy_before | self._always  # lanes that may have had a vehicle within the second
        self._busy_before = here
        stood, self._stood = self._stood, set()  # loops with a vehicle on them, whose front may be far ahead
        loop, end_s = self._loops, float(self._sumo.simulation.getTime())
        present, crossed = loop.getLastStepVehicleNumber, loop.getVehicleData
        missed, doubled, rng = self._options.noise.loop_miss_frac, self._options.noise.loop_double_frac, self._rng
        latency_s = self.latencies(self._options.noise.loop_latency_s, len(self._cabinets))
        for (junction, loops), late_s in zip(self._cabinets, latency_s, strict=True):
            readings = []
            for name, lane, head, empty in loops:
                if (lane not in busy and name not in stood) or not present(name):
                    readings.append(empty)
                    continue
                self._stood.add(name)
                # (id, length, entered, left or -1, type); a vehicle counts in the one second in which it left.
                # SUMO's own occupancy leaves out those who stood on the loop before and left within the second.
                data = crossed(name)
                gone = [x for x in data if end_s - 1.0 < x[3] <= end_s and rng.random() >= missed]
                if doubled:
                    gone += [x for x in gone if rng.random() < doubled]
                covered_s = sum((x[3] if x[3] >= 0 else end_s) - max(x[2], end_s - 1.0) for x in data)
                speeds = [min(70.0, x[1] / (x[3] - x[2])) for x in gone if x[3] > x[2]]
                mean = f"{sum(speeds) / len(speeds):.2f}" if speeds else "null"
                readings.append(
                    f'{head}"count":{len(gone)},"occupancy":{min(1.0, max(0.0, covered_s)):.3f},"speed_mps":{mean}}}'
                )
            text = f'{{"measured_at":{now_s:.3f},"interval_s":1.0,"readings":[{",".join(readings)}]}}'
            self.send("loops", junction, now_s, late_s, text)

    def _look_around(self, now_s: float, scan: Scan) -> None:
        noise, rng = self._options.noise, self._rng
        names, kinds, xy, speed, heading = self._with_walkers(scan)
        falls = rng.random(len(self.units)) < noise.roadside_dropouts_per_h / 3600.0
        self._dark_until_s[falls] = now_s + rng.exponential(noise.roadside_dropout_s, int(falls.sum()))
        apart_m2 = ((xy[None, :, :] - self._unit_xy[:, None, :]) ** 2).sum(axis=2)
        unit_of, seen = np.nonzero(apart_m2 <= noise.roadside_range_m**2)
        kept = rng.random(len(seen)) >= noise.roadside_miss_frac
        unit_of, seen = unit_of[kept], seen[kept]
        shown_xy = (xy[seen] + rng.normal(0.0, noise.roadside_sigma_m, (len(seen), 2))).tolist()
        shown_speed = np.clip(
            speed[seen] + rng.normal(0.0, noise.roadside_speed_sigma_mps, len(seen)), 0.0, 70.0
        ).tolist()
        shown_heading = (heading[seen] + rng.normal(0.0, 0.03, len(seen))).tolist()
        swapped = (rng.random(len(seen)) < noise.roadside_swap_frac).tolist()
        ghosts = rng.poisson(noise.roadside_false_per_s, len(self.units))
        latency_s = self.latencies(noise.roadside_latency_s, len(self.units))
        bounds = np.searchsorted(unit_of, np.arange(len(self.units) + 1)).tolist()
        who = seen.tolist()
        for unit, signal in enumerate(self.units):
            old, tracks, objects = self._tracks[unit], {}, []
            for row in range(bounds[unit], bounds[unit + 1]):
                name = names[who[row]]
                number = 0 if swapped[row] else old.get(name, 0)
                if not number:
                    number, self._next_track = self._next_track, self._next_track + 1
                tracks[name] = number
                objects.append(
                    f'{{"id":{number},"x_m":{shown_xy[row][0]:.2f},"y_m":{shown_xy[row][1]:.2f},'
                    f'"speed_mps":{shown_speed[row]:.2f},"heading_rad":{shown_heading[row]:.3f},'
                    f'"kind":"{kinds[who[row]]}"}}'
                )
            self._tracks[unit] = tracks
            objects += [self._ghost(unit) for _ in range(ghosts[unit])]
            if now_s < self._dark_until_s[unit]:
                continue
            junction = self._network.signals[signal].id
            text = f'{{"measured_at":{now_s:.3f},"junction":{json.dumps(junction)},"objects":[{",".join(objects)}]}}'
            self.send("roadside", junction, now_s, latency_s[unit], text)

    def _with_walkers(self, scan: Scan) -> tuple[list[str], list[str], Floats, Floats, Floats]:
        """Vehicles and people on foot: names, kinds, positions, speeds, headings."""
        names, kinds = [d.id for d in scan.drivers], [d.kind for d in scan.drivers]
        person = self._sumo.person
        walkers = [p for p in person.getIDList() if not person.getVehicle(p)] if person.getIDCount() else []
        if not walkers:
            return names, kinds, scan.xy, scan.speed_mps, scan.heading_rad
        xy = np.array([person.getPosition(p) for p in walkers])
        speed = np.array([person.getSpeed(p) for p in walkers])
        heading = headings([person.getAngle(p) for p in walkers])
        return (
            names + walkers,
            kinds + ["pedestrian"] * len(walkers),
            np.vstack([scan.xy, xy]),
            np.concatenate([scan.speed_mps, speed]),
            np.concatenate([scan.heading_rad, heading]),
        )

    def _ghost(self, unit: int) -> str:
        """A false detection somewhere in range."""
        reach_m, angle = (
            self._options.noise.roadside_range_m * math.sqrt(self._rng.random()),
            self._rng.random() * 6.28,
        )
        x_m, y_m = self._unit_xy[unit] + reach_m * np.array([math.cos(angle), math.sin(angle)])
        number, self._next_track = self._next_track, self._next_track + 1
        return (
            f'{{"id":{number},"x_m":{x_m:.2f},"y_m":{y_m:.2f},"speed_mps":{self._rng.random() * 10:.2f},'
            f'"heading_rad":{angle - 3.14:.3f},"kind":"car"}}'
        )

    def _hear_vehicles(self, now_s: float, scan: Scan) -> None:
        noise, rng = self._options.noise, self._rng
        rows = np.array([i for i, d in enumerate(scan.drivers) if d.equipped], np.intp)
        rows = rows[rng.random(len(rows)) >= noise.v2x_loss_frac]
        xy = (scan.xy[rows] + rng.normal(0.0, noise.v2x_sigma_m, (len(rows), 2))).tolist()
        speed = np.clip(
            scan.speed_mps[rows] + rng.normal(0.0, noise.v2x_speed_sigma_mps, len(rows)), 0.0, 70.0
        ).tolist()
        heading = scan.heading_rad[rows].tolist()
        latency_s = self.latencies(noise.v2x_latency_s, len(rows))
        for k, row in enumerate(rows.tolist()):
            driver = scan.drivers[row]
            text = (
                f'{driver.head},"measured_at":{now_s:.3f},"x_m":{xy[k][0]:.2f},"y_m":{xy[k][1]:.2f},'
                f'"speed_mps":{speed[k]:.2f},"heading_rad":{heading[k]:.3f}}}'
            )
            self.send("v2x", driver.source, now_s, latency_s[k], text)

    def _read_weather(self, now_s: float, second: int) -> None:
        rain = rain_at(self._options.rain, second)
        wind, warmth = float(abs(self._rng.normal(3.0, 1.0))), float(self._rng.normal(15.0, 0.2))
        text = (
            f'{{"measured_at":{now_s:.3f},"rain_mm_h":{rain:.2f},"visibility_m":{20000.0 / (1.0 + rain):.0f},'
            f'"temperature_c":{warmth:.1f},"wind_mps":{wind:.1f}}}'
        )
        self.send("weather", "station", now_s, 1.0, text)

    def foretell(self, spell: RainSpell, now_s: float, second: int) -> None:
        """Send the forecast of a rain."""
        from_s, until_s = (now_s - second + s for s in (spell.from_s, spell.until_s))
        text = (
            f'{{"measured_at":{now_s:.3f},"rain_mm_h":{spell.rain_mm_h:.2f},"visibility_m":10000,'
            f'"temperature_c":15.0,"wind_mps":3.0,"forecast_from":{from_s:.3f},"forecast_until":{until_s:.3f}}}'
        )
        self.send("weather", "nowcast", now_s, 1.0, text)


def lanes_near(network: Network, points_xy: Floats, reach_m: float) -> frozenset[str]:
    """SUMO ids of the lanes, those inside junctions too, of which some part may lie within reach of a point."""
    near: set[str] = set()
    if not len(points_xy):
        return frozenset()
    ends_m = np.empty((len(network.lanes.ids), 2))  # distance from the nearest point to a lane's begin and end
    for lane, name in enumerate(network.lanes.ids):
        shape = np.asarray(network.lanes.shape_xy[lane], np.float64).reshape(-1, 2)
        apart_m = _to_polyline(points_xy, shape)
        ends_m[lane] = [np.linalg.norm(points_xy - end, axis=1).min() for end in (shape[0], shape[-1])]
        if apart_m.min() <= reach_m + _SWERVE_M:
            near.add(name)
    moves = network.movements
    for i, inside in enumerate(moves.internal_lanes):
        apart_m = min(ends_m[moves.from_lane[i], 1], ends_m[moves.to_lane[i], 0])
        if apart_m <= reach_m + moves.length_m[i] + _SWERVE_M:
            near.update(inside)
    return frozenset(near)


def _to_polyline(points_xy: Floats, shape: Floats) -> Floats:
    """Distance of each point to a polyline (N, 2), metres."""
    start, along = shape[:-1], np.diff(shape, axis=0)
    offset = points_xy[:, None, :] - start[None]
    length2 = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip((offset * along).sum(axis=2) / length2, 0.0, 1.0)
    return np.asarray(np.linalg.norm(offset - share[..., None] * along, axis=2).min(axis=1))


def headings(degrees: Sequence[float]) -> Floats:
    """SUMO angles (degrees, 0 is north, clockwise) -> radians from east, counter-clockwise, in [-pi, pi)."""
    turned = np.deg2rad(90.0 - np.asarray(degrees, np.float64))
    return np.asarray((turned + np.pi) % (2 * np.pi) - np.pi)
