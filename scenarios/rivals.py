"""What the city would be without the twin: its shipped programmes, and SUMO's own actuated control."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

from networks.city import CityFolder
from networks.errors import CityError
from networks.readers.formats import open_maybe_gzip
from scenarios.demand import perturb_demand, read_schedule
from scenarios.measures import TripSummary, read_tripinfo, summarise
from scenarios.simulation import Simulation, run_in_process
from scenarios.street import run_spec
from scenarios.street_terms import StreetOptions

Control = Literal["shipped", "actuated"]

MIN_GREEN_S = 5.0
MAX_GREEN_S = 50.0  # where the shipped programme states none
_ACTUATED = "citytwin_actuated"


def run_rival(city: CityFolder, control: Control, options: StreetOptions) -> TripSummary:
    """Run one day of the city under `control`, with the demand, drivers and seed of its virtual city.

    Runs in a process of its own. Raises CityError or ProcessError.
    """
    return run_in_process(_run, city, control, options)


def write_actuated(city: CityFolder, path: Path) -> tuple[str, ...]:
    """SUMO additional file with every shipped programme as an actuated one; returns the signals.

    A green phase may last from max(5 s, shipped minimum) to the shipped maximum, or 50 s where none is stated; all
    other phases last as shipped.
    """
    logics: dict[str, ET.Element] = {}
    for source in (city.network, *city.programmes):
        with open_maybe_gzip(source) as stream:
            for _, element in ET.iterparse(stream):
                if element.tag == "tlLogic":
                    known = element.attrib["id"]
                    if source != city.network or known not in logics:
                        logics[known] = element
                elif element.tag == "edge":
                    element.clear()
    with path.open("w", encoding="utf-8") as out:
        out.write("<additional>\n")
        for name, logic in logics.items():
            out.write(f'<tlLogic id={quoteattr(name)} type="actuated" programID="{_ACTUATED}" offset="0">\n')
            out.writelines(_phase(p) for p in logic.findall("phase"))
            out.write("</tlLogic>\n")
        out.write("</additional>\n")
    return tuple(logics)


def _phase(phase: ET.Element) -> str:
    state, duration_s = phase.attrib["state"], float(phase.attrib["duration"])
    jump = f' next="{phase.attrib["next"]}"' if "next" in phase.attrib else ""
    if "y" in state.lower() or not set(state) & set("Gg"):
        return f'<phase duration="{duration_s:g}" state="{state}"{jump}/>\n'
    least_s, most_s = float(phase.get("minDur", 0.0)), float(phase.get("maxDur", 0.0))
    least_s = max(MIN_GREEN_S, least_s)
    most_s = most_s if most_s > 0 else MAX_GREEN_S
    first_s = max(least_s, min(duration_s, most_s))
    return f'<phase duration="{first_s:g}" minDur="{least_s:g}" maxDur="{most_s:g}" state="{state}"{jump}/>\n'


def _run(city: CityFolder, control: Control, options: StreetOptions) -> TripSummary:
    with tempfile.TemporaryDirectory(prefix="citytwin_rival_") as name:
        folder = Path(name)
        demand = perturb_demand(city, seed=options.seed, spread=options.demand_spread, out_folder=folder)
        spec = run_spec(city, demand, options.seed, folder)
        signals: Sequence[str] = ()
        if control == "actuated":
            programmes = folder / "actuated.add.xml"
            signals = write_actuated(city, programmes)
            spec = replace(spec, additional=(*spec.additional, programmes))
        end_s = city.begin_s + options.duration_s
        teleports = collisions = 0
        with Simulation(spec) as run:
            check_actuated(run, signals)
            while run.now_s < end_s:
                run.step()
                teleports += run.sumo.simulation.getStartingTeleportNumber()
                collisions += run.sumo.simulation.getCollidingVehiclesNumber()
        assert spec.tripinfo is not None
        return summarise(
            read_tripinfo(spec.tripinfo),
            read_schedule(demand, city.additional),
            begin_s=city.begin_s,
            end_s=end_s,
            teleports=teleports,
            collisions=collisions,
        )


def check_actuated(run: Simulation, signals: Sequence[str]) -> None:
    """Raises CityError when SUMO runs another programme than that of `write_actuated` at one of the signals."""
    present = set(run.sumo.trafficlight.getIDList())
    idle = [s for s in signals if s in present and run.sumo.trafficlight.getProgram(s) != _ACTUATED]
    if idle:
        raise CityError(f"SUMO did not switch signal {idle[0]} to the actuated programme")
