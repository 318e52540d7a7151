"""OpenStreetMap extracts (.osm.xml, .gz, .pbf) -> SUMO network file."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import osmium
import sumo

from networks.errors import NetworkError
from networks.findings import Finding
from networks.netconvert import path_argument, run_netconvert

# netconvert joins what mappers drew as several junctions and guesses ramps, roundabouts and signals they did not tag.
_OPTIONS = (
    "--proj.utm",
    "--output.street-names",
    "--geometry.remove",
    "--roundabouts.guess",
    "--ramps.guess",
    "--junctions.join",
    "--tls.guess-signals",
    "--tls.discard-simple",
    "--tls.join",
    "--remove-edges.isolated",
)
# Later maps override earlier ones: without a tag for it, 50 km/h is nearer to a city street than the rural 80 to 100.
_TYPE_MAPS = ("osmNetconvert.typ.xml", "osmNetconvertUrbanDe.typ.xml")
# People walk along and across urban arterials of 70 km/h too; netconvert stops guessing at 50.
_WALKING_OPTIONS = (
    "--sidewalks.guess",
    "--sidewalks.guess.max-speed",
    "20",
    "--crossings.guess",
    "--crossings.guess.speed-threshold",
    "20",
)
_ON_WHEELS = "passenger,private,bus,truck,bicycle,tram,emergency"


def convert_osm(source: Path, target: Path, *, walking: bool = False) -> tuple[Finding, ...]:
    """Write the SUMO network of an OSM XML extract; `walking` keeps footpaths and draws sidewalks and crossings.

    Raises NetworkError when netconvert cannot use the file.
    """
    types = ",".join(path_argument(Path(sumo.SUMO_HOME) / "data" / "typemap" / name) for name in _TYPE_MAPS)
    arguments = ["--osm-files", path_argument(source), "--output-file", path_argument(target), *_OPTIONS]
    arguments += ["--type-files", types]
    if walking:
        arguments += ["--keep-edges.by-vclass", f"{_ON_WHEELS},pedestrian", *_WALKING_OPTIONS]
    else:
        arguments += ["--keep-edges.by-vclass", _ON_WHEELS]
    findings = run_netconvert(str(source), arguments)
    return (
        *findings,
        Finding(
            "guessed_signals",
            "warning",
            "",
            "OpenStreetMap holds no signal programmes: all of them are netconvert's guess, not the street's",
        ),
    )


def convert_pbf(source: Path, target: Path, *, walking: bool = False) -> tuple[Finding, ...]:
    """The same for a .pbf, which netconvert cannot read: it is rewritten as XML first."""
    with TemporaryDirectory(prefix="citytwin-") as folder:
        plain = Path(folder) / "extract.osm.xml.gz"
        try:
            with osmium.SimpleWriter(str(plain)) as writer:
                for thing in osmium.FileProcessor(str(source)):
                    writer.add(thing)
        except (RuntimeError, OSError) as defect:
            raise NetworkError(f"{source}: not readable as OSM protobuf: {defect}") from defect
        return convert_osm(plain, target, walking=walking)
