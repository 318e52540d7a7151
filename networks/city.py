"""A city folder: where its network, demand, programmes, sensors and coverage lie. See `CityFolder`.

`city.toml` (all paths relative to it):

    [city]
    name = "zone"
    network = "net.net.xml.gz"
    routes = ["vtypes.rou.xml", "cars.rou.xml.gz"]   # demand, in loading order
    additional = ["bus_stops.add.xml"]               # SUMO additional files without signal programmes
    programmes = ["tls.add.xml"]                     # shipped signal programmes; empty: those in the network
    plan = "retimed.add.xml"                         # programmes in force in their place, say of `signals retime`;
                                                     # what signals may do stays as shipped
    begin_s = 0.0                                    # demand second at which a run starts
    end_s = 3600.0
    epoch = "2026-03-02T07:00:00+08:00"              # wall time of begin_s

    [coverage]                                       # the city's sensors
    loops = 1.0                                      # share of signalised approaches with loops, or their list:
                                                     # "detectors.csv", see networks.sensors.list_detectors
    roadside = 0.3                                   # share of signals with a roadside unit, or those: ["J17", "J20"]
    equipped = 0.2                                   # share of vehicles that speak V2X
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from networks.city_guess import guess_files
from networks.errors import CityError
from networks.graph import Network
from networks.readers.sumo import read_sumo, with_plan

DEFAULT_EPOCH = datetime(2026, 3, 2, 8, tzinfo=UTC)  # a Monday morning; no school or public holiday in most calendars
_FIELDS = {"name", "network", "routes", "additional", "programmes", "plan", "begin_s", "end_s", "epoch"}
_COVERAGE = ("loops", "roadside", "equipped")


@dataclass(frozen=True, slots=True)
class Coverage:
    """Where sensors are: shares from 0 to 1 that rules place (`networks.sensors`), or the city's own lists."""

    loops: float | Path = 1.0
    roadside: float | tuple[str, ...] = 0.3
    equipped: float = 0.2


@dataclass(frozen=True, slots=True)
class Detector:
    """One induction loop of the city: on a lane, or the stop-line/upstream pair made by rule from the coverage."""

    id: str
    lane: int  # dense index
    position_m: float  # from the lane's start
    role: str  # "stop" (within 5 m of the stop line), "upstream" (advance loop), "count" (elsewhere)


@dataclass(frozen=True, slots=True)
class CityFolder:
    """A city described by its `city.toml`; every path is absolute and exists."""

    name: str
    folder: Path
    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...]
    programmes: tuple[Path, ...]
    begin_s: float
    end_s: float
    epoch_s: float  # UTC epoch of begin_s
    coverage: Coverage
    findings: tuple[str, ...] = ()  # what had to be guessed
    plan: Path | None = None  # programmes in force instead of the shipped ones

    @property
    def additions(self) -> tuple[Path, ...]:
        """All SUMO additional files, in loading order."""
        return (*self.additional, *self.programmes, *(() if self.plan is None else (self.plan,)))

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that SUMO reads of it."""
        return (self.network, *self.routes, *self.additions)


def read_city(folder: Path) -> CityFolder:
    """Read `city.toml` of a folder; without one, guess the roles of its files and say so in `findings`.

    Raises CityError naming the file and the field.
    """
    folder = Path(folder).resolve()
    if folder.is_file() and folder.name == "city.toml":
        folder = folder.parent
    if not folder.is_dir():
        raise CityError(f"{folder}: no such city folder")
    described = folder / "city.toml"
    return _read_described(described) if described.is_file() else _guess(folder)


def write_city(city: CityFolder, folder: Path) -> Path:
    """Write `city.toml` into `folder`, with paths relative to it where they lie below; give back its path."""
    folder = Path(folder).resolve()

    def shown(path: Path) -> str:
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()

    def several(paths: tuple[Path, ...]) -> str:
        return json.dumps([shown(path) for path in paths], ensure_ascii=False)

    def told(extent: float | Path | tuple[str, ...]) -> str:
        if isinstance(extent, float | int):
            return repr(float(extent))
        return json.dumps(shown(extent) if isinstance(extent, Path) else list(extent), ensure_ascii=False)

    epoch = datetime.fromtimestamp(city.epoch_s, UTC).isoformat()
    lines = [f"# guessed: {finding}".replace("\n", " ") for finding in city.findings]
    lines += [
        "[city]",
        f"name = {json.dumps(city.name, ensure_ascii=False)}",
        f"network = {json.dumps(shown(city.network), ensure_ascii=False)}",
        f"routes = {several(city.routes)}",
        f"additional = {several(city.additional)}",
        f"programmes = {several(city.programmes)}",
        *(() if city.plan is None else (f"plan = {json.dumps(shown(city.plan), ensure_ascii=False)}",)),
        f"begin_s = {float(city.begin_s)!r}",
        f"end_s = {float(city.end_s)!r}",
        f'epoch = "{epoch}"',
        "",
        "[coverage]",
        *(f"{name} = {told(getattr(city.coverage, name))}" for name in _COVERAGE),
    ]
    target = folder / "city.toml"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def load_network(city: CityFolder) -> Network:
    """The city's network, under the city's name; its plan is in force, else its shipped programmes."""
    network = read_sumo(city.network, city.programmes)
    return replace(network if city.plan is None else with_plan(network, city.plan), name=city.name)


def _read_described(path: Path) -> CityFolder:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as defect:
        raise CityError(f"{path}: not valid TOML: {defect}") from defect
    unknown = sorted(set(document) - {"city", "coverage"})
    if unknown:
        raise CityError(f"{path}: unknown table or field {unknown[0]!r}")
    table = document.get("city")
    if not isinstance(table, dict):
        raise CityError(f"{path}: lacks the table [city]")
    unknown = sorted(set(table) - _FIELDS)
    if unknown:
        raise CityError(f"{path}: unknown field city.{unknown[0]}")
    begin_s, end_s = _number(path, table, "begin_s", 0.0), _number(path, table, "end_s", 3600.0)
    if not 0.0 <= begin_s < end_s:
        raise CityError(f"{path}: city.begin_s {begin_s} and city.end_s {end_s} must satisfy 0 <= begin < end")
    network, plan = table.get("network"), table.get("plan")
    if not isinstance(network, str):
        raise CityError(f"{path}: city.network must name the .net.xml file")
    if plan is not None and not isinstance(plan, str):
        raise CityError(f"{path}: city.plan must name one SUMO additional file")
    return CityFolder(
        name=str(table.get("name", path.parent.name)),
        folder=path.parent,
        network=_existing(path, "network", network),
        routes=_files(path, table, "routes"),
        additional=_files(path, table, "additional"),
        programmes=_files(path, table, "programmes"),
        begin_s=begin_s,
        end_s=end_s,
        epoch_s=_epoch(path, table.get("epoch", DEFAULT_EPOCH)),
        coverage=_coverage(path, document.get("coverage", {})),
        plan=None if plan is None else _existing(path, "plan", plan),
    )


def _guess(folder: Path) -> CityFolder:
    files = guess_files(folder)
    seconds_of_day = files.begin_s if files.begin_s >= 3600.0 else 8 * 3600.0
    epoch_s = DEFAULT_EPOCH.timestamp() - 8 * 3600.0 + seconds_of_day
    clock = datetime.fromtimestamp(epoch_s, UTC).isoformat()
    return CityFolder(
        name=folder.name,
        folder=folder,
        network=files.network,
        routes=files.routes,
        additional=files.additional,
        programmes=files.programmes,
        begin_s=files.begin_s,
        end_s=files.end_s,
        epoch_s=epoch_s,
        coverage=Coverage(),
        findings=(
            "no city.toml: the roles of the files were guessed from their content",
            *files.findings,
            f"demand second {files.begin_s:g} was taken to be {clock}",
        ),
    )


def _number(path: Path, table: Mapping[str, Any], field: str, default: float) -> float:
    value = table.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CityError(f"{path}: {field} must be a number, not {value!r}")
    return float(value)


def _files(path: Path, table: Mapping[str, Any], field: str) -> tuple[Path, ...]:
    names = table.get(field, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CityError(f"{path}: city.{field} must be a list of file names")
    return tuple(_existing(path, field, name) for name in names)


def _existing(path: Path, field: str, name: str, table: str = "city") -> Path:
    target = (path.parent / name).resolve()
    if not target.is_file():
        raise CityError(f"{path}: {table}.{field} names {name!r}, which does not exist")
    return target


def _epoch(path: Path, value: object) -> float:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as defect:
        raise CityError(f"{path}: city.epoch {value!r} is not an ISO date and time") from defect
    if moment.tzinfo is None:
        raise CityError(f"{path}: city.epoch {value!s} lacks its offset from UTC, e.g. +08:00")
    return moment.timestamp()


def _coverage(path: Path, table: object) -> Coverage:
    if not isinstance(table, dict):
        raise CityError(f"{path}: [coverage] must be a table")
    unknown = sorted(set(table) - set(_COVERAGE))
    if unknown:
        raise CityError(f"{path}: unknown field coverage.{unknown[0]}")
    default = Coverage()
    given: dict[str, Any] = {}
    for name in _COVERAGE:
        extent = table.get(name, getattr(default, name))
        if name == "loops" and isinstance(extent, str):
            given[name] = _existing(path, "loops", extent, "coverage")
        elif name == "roadside" and isinstance(extent, list):
            if not all(isinstance(signal, str) for signal in extent):
                raise CityError(f"{path}: coverage.roadside must list ids of signals, or be a share")
            given[name] = tuple(extent)
        else:
            given[name] = _number(path, table, name, getattr(default, name))
            if not 0.0 <= given[name] <= 1.0:
                raise CityError(f"{path}: coverage.{name} {given[name]} is not a share between 0 and 1")
    return Coverage(**given)
