"""`citytwin network import | check | show | export`."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from networks.city import CityFolder, load_network
from networks.errors import InputError
from networks.export import export_geojson, export_geoparquet, export_sumo
from networks.findings import SEVERITIES, Finding
from networks.geo import WGS84, utm_of
from networks.graph import Network
from networks.importing import import_network
from networks.validate import find_defects
from scenarios.cities import find_city
from twin.commands.answers import answering

app = typer.Typer(help="Import, check, show and export road networks.", no_args_is_help=True)

Subject = Annotated[
    str, typer.Argument(metavar="CITY", help="A bundled city, a city folder, or a map file (SUMO, OSM, OpenDRIVE).")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
SHOWN_FINDINGS = 25


class Format(StrEnum):
    GEOPARQUET = "geoparquet"
    GEOJSON = "geojson"
    SUMO = "sumo"


class Frame(StrEnum):
    WGS84 = "wgs84"
    UTM = "utm"


@app.command("import", epilog="Example: citytwin network import beijing.osm.pbf --out cities/beijing --walking")
def import_(
    source: Annotated[Path, typer.Argument(help=".net.xml, .osm.xml, .osm.pbf, .xodr (each also .gz) or a folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="City folder to write.")],
    walking: Annotated[bool, typer.Option(help="Keep footpaths; draw sidewalks and crossings (OSM).")] = False,
    epoch: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z"], help="Wall time of the demand's begin.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a map into a city folder: network, city.toml, findings.geojson and findings.csv."""
    with answering():
        extra = {} if epoch is None else {"epoch": epoch}
        report = import_network(source, out, walking=walking, **extra)
        if as_json:
            document = {
                "source": str(source),
                "format": report.source_format,
                "city": str(out),
                "files": [str(path) for path in report.files],
                **_size(report.network),
                "findings": [_finding(f) for f in report.findings],
            }
            typer.echo(json.dumps(document, ensure_ascii=False))
            return
        console = Console()
        _print_size(console, report.network)
        _print_findings(console, report.findings)
        console.print(f"Written: {', '.join(escape(str(path)) for path in report.files)}", soft_wrap=True)


@app.command(epilog="Example: citytwin network check cities/beijing --strict")
def check(
    city: Subject,
    strict: Annotated[bool, typer.Option(help="Warnings fail the check too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look for defects. Ends with 1 when there is an error (with --strict: an error or a warning)."""
    with answering():
        network, _, imported = _open(city)
        findings = find_defects(network) if imported is None else imported
        failing = {"error", "warning"} if strict else {"error"}
        passed = not any(f.severity in failing for f in findings)
        if as_json:
            document = {"city": city, "passed": passed, "findings": [_finding(f) for f in findings]}
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            console = Console()
            _print_findings(console, findings)
            console.print("[green]The network holds.[/]" if passed else "[red]The network does not hold.[/]")
        if not passed:
            raise typer.Exit(1)


@app.command(epilog="Example: citytwin network show zone")
def show(city: Subject, as_json: AsJson = False) -> None:
    """Say what a network holds: size, signals, demand, and what had to be guessed."""
    with answering():
        network, folder, _ = _open(city)
        if as_json:
            document = {"city": city, **_size(network), "signals": [_signal(network, k) for k in _signals(network)]}
            if folder is not None:
                document["demand"] = _demand(folder)
            typer.echo(json.dumps(document, ensure_ascii=False))
            return
        console = Console()
        _print_size(console, network)
        if folder is not None:
            for key, value in _demand(folder).items():
                if key != "guessed":
                    console.print(f"{key}: {escape(str(value))}", soft_wrap=True)
            for text in folder.findings:
                console.print(f"guessed: {escape(text)}", soft_wrap=True)
        table = Table("signal", "links", "stages", "crossings", "programme", "cycle s", title="Signals")
        for k in _signals(network):
            row = _signal(network, k)
            table.add_row(*(escape(str(row[key])) for key in row))
        console.print(table)


@app.command(epilog="Example: citytwin network export zone --out layers --format geoparquet --frame utm")
def export(
    city: Subject,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.GEOPARQUET,
    frame: Annotated[Frame, typer.Option(help="Coordinates of GeoParquet; GeoJSON is WGS-84.")] = Frame.WGS84,
    as_json: AsJson = False,
) -> None:
    """Write edges, lanes, movements, signals, crossings and nodes as map layers, or the city as a SUMO folder."""
    with answering():
        network, folder, _ = _open(city)
        match form:
            case Format.GEOPARQUET:
                files = export_geoparquet(network, out, utm_of(network) if frame is Frame.UTM else WGS84)
            case Format.GEOJSON if frame is Frame.UTM:
                raise InputError("GeoJSON is always WGS-84 (RFC 7946): leave --frame out, or export geoparquet")
            case Format.GEOJSON:
                files = export_geojson(network, out)
            case Format.SUMO if folder is None:
                raise InputError(f"{city}: only a city can be exported as SUMO; import the map first")
            case Format.SUMO:
                assert folder is not None
                files = export_sumo(folder, out)
        if as_json:
            typer.echo(json.dumps({"city": city, "format": form.value, "files": [str(p) for p in files]}))
        else:
            for path in files:
                typer.echo(str(path))


def _open(spec: str) -> tuple[Network, CityFolder | None, tuple[Finding, ...] | None]:
    """A city by name or folder; or the network of a map file, which is no city, and the findings of its import."""
    path = Path(spec).expanduser()
    if path.is_file() and path.name != "city.toml":
        with TemporaryDirectory(prefix="citytwin-") as scratch:
            report = import_network(path, Path(scratch) / "city")
        return report.network, None, report.findings
    city = find_city(spec)
    return load_network(city), city, None


def _size(network: Network) -> dict[str, Any]:
    edges, lanes = network.edges, network.lanes
    motor = edges.lane_count > 0
    return {
        "name": network.name,
        "edges": len(edges.ids),
        "lanes": len(lanes.ids),
        "motor_lane_km": round(float(np.sum(edges.length_m * edges.lane_count)) / 1000, 2),
        "road_km": round(float(edges.length_m[motor].sum()) / 1000, 2),
        "junctions": len(network.nodes),
        "movements": len(network.movements.from_lane),
        "signals_total": len(network.signals),
        "crossings": sum(len(s.crossings) for s in network.signals),
        "projection": network.projection,
        "fingerprint": network.fingerprint,
    }


def _demand(city: CityFolder) -> dict[str, Any]:
    return {
        "network": str(city.network),
        "routes": [str(p) for p in city.routes],
        "additional": [str(p) for p in city.additional],
        "programmes": [str(p) for p in city.programmes],
        "plan": None if city.plan is None else str(city.plan),
        "begin_s": city.begin_s,
        "end_s": city.end_s,
        "epoch_s": city.epoch_s,
        "guessed": list(city.findings),
    }


def _signals(network: Network) -> range:
    return range(len(network.signals))


def _signal(network: Network, index: int) -> dict[str, Any]:
    signal = network.signals[index]
    return {
        "id": signal.id,
        "links": signal.link_count,
        "stages": len(signal.stages),
        "crossings": len(signal.crossings),
        "programme": signal.programme.id,
        "cycle_s": signal.programme.cycle_s,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    place = [round(finding.x_m, 2), round(finding.y_m, 2)] if finding.has_place else None
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "subject": finding.subject,
        "count": finding.count,
        "place_m": place,
        "text": finding.text,
    }


def _print_size(console: Console, network: Network) -> None:
    size = _size(network)
    console.print(
        f"[bold]{escape(size['name'])}[/]: {size['edges']} edges, {size['lanes']} lanes, "
        f"{size['road_km']} km of road, {size['motor_lane_km']} lane-km, {size['signals_total']} signals, "
        f"{size['crossings']} signalised crossings"
    )


def _print_findings(console: Console, findings: tuple[Finding, ...]) -> None:
    if not findings:
        console.print("No findings.")
        return
    counts = Counter(f.severity for f in findings)
    title = "Findings: " + ", ".join(f"{counts[s]} {s}s" for s in SEVERITIES if counts[s])
    table = Table("severity", "kind", "subject", "what", title=title)
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    for finding in findings[:SHOWN_FINDINGS]:
        colour = colours[finding.severity]
        times = f" ({finding.count} times)" if finding.count > 1 else ""
        table.add_row(
            f"[{colour}]{finding.severity}[/]", finding.kind, escape(finding.subject), escape(finding.text) + times
        )
    console.print(table)
    if len(findings) > SHOWN_FINDINGS:
        console.print(f"... and {len(findings) - SHOWN_FINDINGS} more (--json lists all)")
