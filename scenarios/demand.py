"""Demand files of a city, and the true demand of one day, which nobody but the virtual city knows.

A city's demand is what its engineers believe; on a given day the street sees something near it. `perturb_demand`
draws such a day from a seed: every origin sends more or fewer vehicles, everybody leaves somewhat earlier or later,
and drivers differ from the vehicle types on file. Timetabled vehicles run, a little late. The draw hangs on the seed
and on ids, not on the order of files, so each control sees the same vehicles.
"""

from __future__ import annotations

import copy
import math
import random
import re
import xml.etree.ElementTree as ET
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from networks.city import CityFolder
from networks.errors import CityError
from networks.readers.formats import open_maybe_gzip
from networks.readers.sumo_xml import read_seconds
from scenarios.measures import Scheduled

JITTER_S = 30.0  # a private departure moves by up to this either way
BUS_LATE_S = 20.0  # mean lateness of a timetabled departure, exponential, at most four times this
DRIVER_GROUPS = 5  # variants of each car and truck type

_VEHICLES = ("vehicle", "trip")
_KINDS = {
    "passenger": "car",
    "bus": "bus",
    "coach": "bus",
    "truck": "truck",
    "trailer": "truck",
    "delivery": "truck",
    "bicycle": "bicycle",
    "moped": "bicycle",
    "scooter": "bicycle",
    "pedestrian": "pedestrian",
    "emergency": "emergency",
    "tram": "tram",
    "rail_urban": "tram",
    "rail": "tram",
}
_DEFAULT_CLASSES = {"DEFAULT_BIKETYPE": "bicycle", "DEFAULT_RAILTYPE": "rail", "DEFAULT_PEDTYPE": "pedestrian"}


def kind_of_class(vehicle_class: str) -> str:
    """SUMO's vClass -> one of the wire format's kinds; what is neither heavy nor special counts as a car."""
    return _KINDS.get(vehicle_class, "car")


@dataclass(slots=True)
class DemandBook:
    """What the files define besides vehicles."""

    types: dict[str, ET.Element] = field(default_factory=dict)
    mixes: dict[str, list[tuple[str, float]]] = field(default_factory=dict)  # vTypeDistribution -> (type, weight)
    routes: dict[str, str] = field(default_factory=dict)  # route id -> its edges
    heads: list[ET.Element] = field(default_factory=list)  # top-level definitions of the route files, in order

    def vehicle_class(self, name: str) -> str:
        kind = self.types[name].get("vClass") if name in self.types else None
        return kind or _DEFAULT_CLASSES.get(name, "passenger")

    def resolve(self, name: str, draw: float) -> str:
        """The type that a vehicle of this type or distribution gets, for a draw in [0, 1)."""
        members = self.mixes.get(name)
        if not members:
            return name
        left = draw * sum(weight for _, weight in members)
        for member, weight in members:
            left -= weight
            if left < 0:
                return member
        return members[-1][0]


def read_schedule(routes: Iterable[Path], additional: Iterable[Path] = ()) -> dict[str, Scheduled]:
    """Every vehicle of expanded demand files (no flows) with a time of departure: id -> that time and its kind."""
    book, schedule = DemandBook(), {}
    for path in (*additional, *routes):
        with naming(path):
            for element in read_elements(path, book):
                if element.tag in _VEHICLES:
                    name = book.resolve(element.get("type", "DEFAULT_VEHTYPE"), 0.0)
                    depart_s = read_seconds(element.get("depart", "0"))
                    if depart_s is not None:
                        kind = kind_of_class(book.vehicle_class(name))
                        schedule[element.attrib["id"]] = Scheduled(depart_s, kind)
    return schedule


def perturb_demand(city: CityFolder, *, seed: int, spread: float, out_folder: Path) -> tuple[Path, ...]:
    """Write the true demand of one day to `out_folder`; load the answer in place of `city.routes`.

    Each origin's volume is multiplied by a lognormal factor of mean 1 and log-spread `spread` (vehicles left out or
    doubled), departures inside the city's hours move by up to 30 s and stay inside, cars and trucks get one of five
    drivers of their type (headway, acceleration, imperfection, desired speed). Flows become single vehicles. One
    file, types first, then everybody by departure. `spread` 0 with any seed keeps volumes exactly.

    Raises CityError naming the file that cannot be read.
    """
    book = DemandBook()
    for path in city.additional:
        with naming(path):
            deque(read_elements(path, book), maxlen=0)
    book.heads.clear()  # SUMO loads the additional files itself
    rows: list[tuple[float, str]] = []
    used: dict[str, str] = {}  # driver variants needed -> the type each derives from
    for path in city.routes:
        with naming(path):
            for element in read_elements(path, book):
                for vehicle in expand_flow(element, seed):
                    rows += _one(vehicle, book, city, seed, spread, used)
    drivers = [_driver(book, base, name, seed) for name, base in sorted(used.items())]
    return (write_demand([*book.heads, *drivers], rows, out_folder),)


def write_demand(heads: Iterable[ET.Element], rows: Iterable[tuple[float, str]], out_folder: Path) -> Path:
    """Write definitions, then everybody (departure, XML) by departure, to one file in `out_folder`; its path."""
    out = out_folder / "demand.rou.xml"
    with out.open("w", encoding="utf-8") as stream:
        stream.write("<routes>\n")
        stream.writelines(_text(head) for head in heads)
        stream.writelines(text for _, text in sorted(rows, key=lambda row: row[0]))
        stream.write("</routes>\n")
    return out


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Defects met while working on a file name it."""
    try:
        yield
    except (ET.ParseError, EOFError, OSError, zlib.error) as defect:
        raise CityError(f"{path}: not readable as SUMO demand: {defect}") from defect
    except (KeyError, ValueError) as defect:
        raise CityError(f"{path}: an element of the demand lacks or misstates {defect}") from defect


def read_elements(path: Path, book: DemandBook) -> Iterator[ET.Element]:
    """Vehicles, flows and persons of a file one by one; definitions go to the book."""
    depth = 0
    with open_maybe_gzip(path) as stream:
        for event, element in ET.iterparse(stream, events=("start", "end")):
            depth += 1 if event == "start" else -1
            if event == "start" or depth != 1:
                continue
            if element.tag in (*_VEHICLES, "flow", "person", "personFlow", "container", "containerFlow"):
                yield element
                element.clear()
            else:
                _note(element, book)


def _note(element: ET.Element, book: DemandBook) -> None:
    book.heads.append(element)
    if element.tag == "vType":
        book.types[element.attrib["id"]] = element
    elif element.tag == "vTypeDistribution":
        names = element.get("vTypes", "").split()
        weights = [float(w) for w in element.get("probabilities", "").split()] or [1.0] * len(names)
        members = list(zip(names, weights, strict=True))
        for member in element.findall("vType"):
            book.types[member.attrib["id"]] = member
            members.append((member.attrib["id"], float(member.get("probability", 1.0))))
        book.mixes[element.attrib["id"]] = members
    elif element.tag == "route" and element.get("id"):
        book.routes[element.attrib["id"]] = element.get("edges", "")


def expand_flow(element: ET.Element, seed: int) -> Iterator[ET.Element]:
    """A flow that begins at a time as single vehicles at SUMO's own spacing; anything else as it is."""
    if element.tag != "flow" or read_seconds(element.get("begin", "0")) is None:
        yield element
        return
    name = element.attrib["id"]
    rng = random.Random(f"{seed}/flow/{name}")
    kept = {
        k: v
        for k, v in element.attrib.items()
        if k not in ("begin", "end", "number", "vehsPerHour", "perHour", "period", "probability")
    }
    for number, depart_s in enumerate(_departures(element, rng)):
        vehicle = ET.Element("vehicle" if "route" in kept or element.find("route") is not None else "trip")
        vehicle.attrib = {**kept, "id": f"{name}.{number}", "depart": f"{depart_s:.2f}"}
        vehicle.extend(copy.deepcopy(list(element)))
        yield vehicle


def _departures(flow: ET.Element, rng: random.Random) -> Iterator[float]:
    get = flow.attrib
    begin_s, end_s = _moment(flow, "begin", "0"), _moment(flow, "end", "86400")
    per_hour, period = get.get("vehsPerHour", get.get("perHour", "")), get.get("period", "")
    if "probability" in get:
        chance = float(get["probability"])
        yield from (float(t) for t in range(math.ceil(begin_s), math.ceil(end_s)) if rng.random() < chance)
        return
    if period.startswith("exp("):
        at_s, rate = begin_s, float(period[4:-1])
        while (at_s := at_s + rng.expovariate(rate)) < end_s:
            yield at_s
        return
    if per_hour or period:
        gap_s = 3600.0 / float(per_hour) if per_hour else _moment(flow, "period", "")
        count = int(get["number"]) if "number" in get else math.ceil((end_s - begin_s) / gap_s)
    elif "number" in get:
        count = int(get["number"])
        gap_s = (end_s - begin_s) / max(1, count)
    else:
        raise ValueError(f"the number or rate of flow {get.get('id')!r}")
    yield from (begin_s + i * gap_s for i in range(count))


def _moment(flow: ET.Element, name: str, otherwise: str) -> float:
    moment_s = read_seconds(flow.get(name, otherwise))
    if moment_s is None:
        raise ValueError(f"the {name} of flow {flow.get('id')!r}")
    return moment_s


def _one(
    vehicle: ET.Element, book: DemandBook, city: CityFolder, seed: int, spread: float, used: dict[str, str]
) -> list[tuple[float, str]]:
    """The rows (departure, XML) that one element of the demand becomes: none, itself, or itself and doubles."""
    if vehicle.tag not in _VEHICLES:
        return [(read_seconds(vehicle.get("depart", vehicle.get("begin", "0"))) or 0.0, _text(vehicle))]
    depart_s = read_seconds(vehicle.get("depart", "0"))
    if depart_s is None:  # such as "triggered": it leaves with somebody else, not at a time of its own
        return [(0.0, _text(vehicle))]
    name = vehicle.attrib["id"]
    rng = random.Random(f"{seed}/vehicle/{name}")
    kind_name = book.resolve(vehicle.get("type", "DEFAULT_VEHTYPE"), rng.random())
    kind = kind_of_class(book.vehicle_class(kind_name))
    inside = city.begin_s <= depart_s < city.end_s
    if kind in ("bus", "tram") or "line" in vehicle.attrib or vehicle.find("stop") is not None:
        late_s = min(rng.expovariate(1.0 / BUS_LATE_S), 4 * BUS_LATE_S)
        if inside:
            depart_s = min(depart_s + late_s, max(depart_s, city.end_s - 1.0))
        vehicle.set("depart", f"{depart_s:.2f}")
        return [(depart_s, _text(vehicle))]
    factor = _volume(_origin(vehicle, book), seed, spread)
    copies = math.floor(factor) + (rng.random() < factor % 1.0)
    rows = []
    for number in range(copies):
        moved_s = _reflect(depart_s + rng.uniform(-JITTER_S, JITTER_S), city.begin_s, city.end_s)
        vehicle.set("id", f"{name}~{number}" if number else name)
        vehicle.set("depart", f"{moved_s if inside else depart_s:.2f}")
        if kind in ("car", "truck"):
            driver = f"{kind_name}~{rng.randrange(DRIVER_GROUPS)}"
            used[driver] = kind_name
            vehicle.set("type", driver)
        rows.append((float(vehicle.attrib["depart"]), _text(vehicle)))
    return rows


def _origin(vehicle: ET.Element, book: DemandBook) -> str:
    inline = vehicle.find("route")
    if inline is not None:
        return inline.get("edges", "").partition(" ")[0]
    route = vehicle.get("route", "")
    for key in ("from", "fromTaz", "fromJunction"):
        if key in vehicle.attrib:
            return vehicle.attrib[key]
    return book.routes[route].partition(" ")[0] if route in book.routes else route


def _volume(origin: str, seed: int, spread: float) -> float:
    """Lognormal factor of mean 1."""
    return math.exp(spread * random.Random(f"{seed}/origin/{origin}").gauss(0.0, 1.0) - spread * spread / 2.0)


def _reflect(value_s: float, low_s: float, high_s: float) -> float:
    """Fold a moved departure back into the city's hours, so that none leaves the count. Ends on 1/100 s."""
    top_s = high_s - 0.01
    if value_s < low_s:
        value_s = 2 * low_s - value_s
    if value_s > top_s:
        value_s = 2 * top_s - value_s
    return min(max(value_s, low_s), top_s)


def _driver(book: DemandBook, base: str, name: str, seed: int) -> ET.Element:
    """A variant of a vehicle type. Spreads: as observed between drivers (Treiber & Kesting 2013, ch. 12)."""
    kind = copy.deepcopy(book.types[base]) if base in book.types else ET.Element("vType")
    rng = random.Random(f"{seed}/driver/{name}")
    get = kind.attrib
    get.pop("probability", None)
    tau_s = float(get.get("tau", 1.0))
    # A headway below the step length of 1 s lets SUMO's drivers collide.
    varied_s = max(min(tau_s, 1.0), tau_s * min(1.25, math.exp(rng.gauss(0.03, 0.08))))
    sigma = min(0.9, max(0.0, float(get.get("sigma", 0.5)) + rng.gauss(0.0, 0.12)))
    changed = {"id": name, "tau": f"{varied_s:.3f}", "sigma": f"{sigma:.3f}"}
    if "accel" in get:
        changed["accel"] = f"{float(get['accel']) * math.exp(rng.gauss(0.0, 0.1)):.3f}"
    changed["speedFactor"] = _speed_factor(get, math.exp(rng.gauss(0.0, 0.04)))
    get.pop("speedDev", None)
    get.update(changed)
    return kind


def read_speed_factor(text: str, dev: float) -> tuple[float, ...]:
    """Mean, spread, lowest and highest of a type's `speedFactor`; `dev`: the spread where the text has none."""
    given = re.fullmatch(r"normc?\(([^)]*)\)", text.replace(" ", ""))
    parts = [float(part) for part in (given.group(1).split(",") if given else [text])]
    return (*parts, *(1.0, dev, 0.2, 2.0)[len(parts) :])


def _speed_factor(attributes: dict[str, str], scale: float) -> str:
    text = attributes.get("speedFactor", "1.0")
    mean, dev, low, high = read_speed_factor(text, float(attributes.get("speedDev", 0.1)))
    return f"normc({mean * scale:.4f},{dev:.4f},{low:.4f},{high:.4f})"


def _text(element: ET.Element) -> str:
    element.tail = "\n"
    return ET.tostring(element, encoding="unicode")
