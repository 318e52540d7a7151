"""Runs of an outside referee of signal control, kept line by line: a series cut short goes on where it stopped.

The referee is a program with `run --scenario FILE --controller C --seeds S --out JSONL`. Each run gets a folder of
its own with a `.sumocfg` made here, which also records the lamps of every second; they give the expected delay of
walkers and the longest red.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from networks.errors import CityError
from networks.graph import Network
from networks.readers.sumo import read_sumo
from scenarios.cities import find_city
from scenarios.lamp_measures import red_spells, walker_delay_s

WALKS = "walks.xml"
ON_FOOT = 'withInternal="true" detectPersons="walk"'
REFEREE = Path(__file__).resolve().parents[2] / "shared" / "bench" / "signals_bench.py"
CITIES = REFEREE.parents[1] / "data" / "networks"
PLUGIN = Path(__file__).resolve().with_name("referee_plugin.py")
SCENARIOS = ("cologne1", "cologne8", "ingolstadt21", "bologna", "zone", "hamburg")
_CITIES = {"bologna": ("bologna_joined", 1800.0), "zone": ("zone", 1200.0), "hamburg": ("hamburg_tavf", 1200.0)}


@dataclass(frozen=True, slots=True)
class Scenario:
    """What SUMO has to load; every path absolute."""

    name: str
    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...]
    begin_s: float
    end_s: float


def find_scenario(name: str, referee: Path, cities: Path) -> Scenario:
    """A `.sumocfg`, a scenario that lies beside the referee, or a city. Raises CityError."""
    if name in _CITIES:
        folder, span_s = _CITIES[name]
        city = find_city("zone" if name == "zone" else str(cities / folder))
        end_s = min(city.end_s, city.begin_s + span_s)
        return Scenario(name, city.network, city.routes, (*city.additional, *city.programmes), city.begin_s, end_s)
    path = (
        Path(name) if name.endswith(".sumocfg") else referee.parents[1] / "data" / "resco" / name / f"{name}.sumocfg"
    )
    if not path.is_file():
        raise CityError(f"{name}: no such scenario ({path} does not exist)")
    said = {e.tag: e.get("value") or "" for e in ET.parse(path).getroot().iter() if e.get("value") is not None}

    def files(tag: str) -> tuple[Path, ...]:
        return tuple((path.parent / part.strip()).resolve() for part in said.get(tag, "").split(",") if part.strip())

    begin_s, end_s = float(said.get("begin", 0.0)), float(said["end"])
    return Scenario(path.stem, files("net-file")[0], files("route-files"), files("additional-files"), begin_s, end_s)


def write_config(scenario: Scenario, folder: Path, lamps: Path | None) -> Path:
    """A `.sumocfg` in the folder; with `lamps` SUMO writes each second's lamps there, and walks beside."""
    additional = list(scenario.additional)
    if lamps is not None:
        network = read_sumo(scenario.network)
        events = "".join(
            f'<timedEvent type="SaveTLSStates" source={quoteattr(s.id)} dest={quoteattr(str(lamps))}/>\n'
            for s in network.signals
        )
        additional.append(folder / "record.add.xml")
        walks = (
            f'<edgeData id="walks" file={quoteattr(str(lamps.with_name(WALKS)))} excludeEmpty="true" {ON_FOOT}/>\n'
        )
        additional[-1].write_text(f"<additional>\n{events}{walks}</additional>\n", encoding="utf-8")
    row = '<{} value="{}"/>'
    inputs = [
        row.format("net-file", scenario.network),
        row.format("route-files", ",".join(map(str, scenario.routes))),
        *([row.format("additional-files", ",".join(map(str, additional)))] if additional else []),
    ]
    times = row.format("begin", scenario.begin_s) + row.format("end", scenario.end_s)
    path = folder / f"{scenario.name}.sumocfg"
    path.write_text(f"<configuration><input>{''.join(inputs)}</input><time>{times}</time></configuration>\n")
    return path


class Ledger:
    """Results by scenario, label and seed, one JSON line each; failed runs are kept as such."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[tuple[str, str, int], dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    row = json.loads(line)
                    self.rows[row["scenario"], row["label"], row["seed"]] = row

    def add(self, row: dict[str, Any]) -> None:
        self.rows[row["scenario"], row["label"], row["seed"]] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def of(self, scenario: str, label: str) -> list[dict[str, Any]]:
        return [r for (s, c, _), r in sorted(self.rows.items()) if (s, c) == (scenario, label) and "delay" in r]


@dataclass(frozen=True, slots=True)
class Job:
    scenario: Scenario
    label: str
    controller: str  # as the referee takes it
    seed: int


def run_all(jobs: Sequence[Job], ledger: Ledger, *, referee: Path, workers: int, record: bool) -> None:
    """Run what the ledger lacks."""
    due = [j for j in jobs if (j.scenario.name, j.label, j.seed) not in ledger.rows]
    print(f"{len(due)} of {len(jobs)} runs to do", file=sys.stderr)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for job, row in zip(due, pool.map(lambda j: run_one(j, referee, record=record), due), strict=True):
            ledger.add(row)
            print(
                job.scenario.name,
                job.label,
                job.seed,
                row.get("delay", row.get("error")),
                file=sys.stderr,
                flush=True,
            )


def run_one(job: Job, referee: Path, *, record: bool) -> dict[str, Any]:
    """One run in a process of its own; a failed one answers with `error`."""
    key: dict[str, Any] = {"scenario": job.scenario.name, "label": job.label, "seed": job.seed}
    with tempfile.TemporaryDirectory(prefix="referee_") as name:
        folder = Path(name)
        lamps = folder / "lamps.xml" if record else None
        out = folder / "out.jsonl"
        config = write_config(job.scenario, folder, lamps)
        command = [sys.executable, str(referee), "run", "--scenario", str(config), "--controller", job.controller]
        command += ["--seeds", str(job.seed), "--no-co2", "--jobs", "1", "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not out.exists():
            return key | {"error": done.stderr.strip()[-300:]}
        row: dict[str, Any] = json.loads(out.read_text()) | key
        if lamps is not None and lamps.exists():
            row |= judge_lamps(read_sumo(job.scenario.network), lamps)
            walks_s = mean_walk_s(folder / WALKS)
            if walks_s is not None:
                row["walker_delay_s"] = walks_s
        return row


def judge_lamps(network: Network, lamps: Path) -> dict[str, float | None]:
    """Expected delay of walkers (None without crossings) and the longest red, from the lamps of every second.

    The longest red counts links that were green at least once.
    """
    states: defaultdict[str, list[str]] = defaultdict(list)
    for _, element in ET.iterparse(lamps):
        if element.tag == "tlsState":
            states[element.get("id", "")].append(element.get("state", ""))
            element.clear()
    longest_s = 0
    shown = [states.get(s.id, []) for s in network.signals]
    shown = [
        rows if rows and len(rows[0]) >= s.link_count else [] for s, rows in zip(network.signals, shown, strict=True)
    ]
    for signal, rows in zip(network.signals, shown, strict=True):
        if not rows:
            continue
        green = np.array([[c in "Ggs" for c in row[: signal.link_count]] for row in rows], np.bool_)
        for link in range(signal.link_count):
            reds = red_spells(green[:, link])
            if green[:, link].any() and len(reds):
                longest_s = max(longest_s, int(reds.max()))
    return {"walker_delay_s": walker_delay_s(network.signals, shown), "max_red_s": float(longest_s)}


def mean_walk_s(walks: Path) -> float | None:
    """Time that a walker loses, from SUMO's edge data on those on foot; None where nobody walks."""
    lost_s, walkers = 0.0, 0
    for edge in ET.parse(walks).getroot().iter("edge") if walks.exists() else ():
        lost_s += float(edge.get("timeLoss", 0.0))
        walkers += int(edge.get("departed", 0))
    return lost_s / walkers if walkers else None


def parse_seeds(text: str) -> list[int]:
    """ "3" or "1,2,5" or "1-5"."""
    if "-" in text:
        first, last = text.split("-")
        return list(range(int(first), int(last) + 1))
    return [int(part) for part in text.split(",")]


def mean_of(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    """Mean over the runs that say something, None without any."""
    told = [float(r[name]) for r in rows if r.get(name) is not None]
    return float(np.mean(told)) if told else None


def violations_in(rows: Sequence[dict[str, Any]]) -> int:
    """What the referee objects to: yellows and greens too short, and foes open together."""
    return sum(int(r["v_yel"] + r["v_min"] + r["v_con"]) for r in rows)


def print_rows(head: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """A Markdown table, the columns aligned."""
    body = [list(r) for r in rows]
    widths = [max(len(line[k]) for line in [list(head), *body]) for k in range(len(head))]
    for n, line in enumerate([list(head), *body]):
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
