"""`citytwin forecast import`: series of a city from files of others, from SUMO or from a run, as one folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from forecasting.free_days import check_country
from forecasting.reading import Unsaid, read_recording
from forecasting.recording import Recording, join
from forecasting.series import DAY_S
from forecasting.series_folder import write_folder
from forecasting.street_graph import on_streets
from forecasting.wall_time import find_zone
from networks.city import CityFolder, load_network
from networks.errors import InputError
from networks.graph import Network
from networks.readers.sumo import read_sumo
from networks.sensors import find_detectors
from scenarios.cities import find_city
from twin.commands.answers import answering
from twin.commands.forecast_terms import AsJson
from twin.history_series import LATENESS_S, Cut, Places, holds_history, read_history

EPILOG = "Example: citytwin forecast import counts.csv --out cities/north --time-zone Asia/Shanghai --country CN"
_SECONDS = ["%Y-%m-%dT%H:%M:%S"]


def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE",
            help="Folders of series, .npz, .h5, .csv, SUMO's edgeData, E1 and E2 output (.xml, .xml.gz), or history "
            "folders of runs.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write: meta.json, *.parquet, series_*.npy.")],
    channel: Annotated[
        str, typer.Option("--channel", help="What is to be forecast; of a CSV, what its numbers are. Else: flow.")
    ] = "",
    net: Annotated[
        str, typer.Option("--net", help="City or SUMO network whose edges the places are: its graph is kept too.")
    ] = "",
    time_zone: Annotated[
        str, typer.Option("--time-zone", help="Local time, such as Asia/Shanghai; unknown where nobody says it.")
    ] = "",
    country: Annotated[
        str, typer.Option("--country", help="Whose holidays are kept there, such as CN or DE-HE: known in advance.")
    ] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the readings.")] = "",
    unit: Annotated[
        list[str] | None,
        typer.Option("--unit", metavar="CHANNEL=UNIT", help="Unit of a channel, such as flow=veh/h."),
    ] = None,
    null: Annotated[
        float | None, typer.Option("--null", help="Number that means missing in a CSV with times.")
    ] = None,
    step_s: Annotated[
        int, typer.Option("--step", min=1, max=DAY_S, help="Seconds a step: of a run, and of files without times.")
    ] = 300,
    epoch: Annotated[
        datetime | None, typer.Option("--epoch", formats=_SECONDS, help="Local time of second 0 of SUMO's output.")
    ] = None,
    daily: Annotated[
        bool, typer.Option("--daily", help="The second source is of the day after the first, and so on.")
    ] = False,
    places: Annotated[
        Places, typer.Option("--places", help="Of a run: edges of the fused state, or loops as they reported.")
    ] = Places.EDGES,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=["%Y-%m-%dT%H:%M:%S%z"], help="Of a run: what was known by then."),
    ] = None,
    lateness_s: Annotated[
        float, typer.Option("--lateness", min=0.0, help="Seconds after a step in which its loop readings may arrive.")
    ] = LATENESS_S,
    as_json: AsJson = False,
) -> None:
    """Bring series into one folder that bench, predict, sense and train read without loading it whole.

    Several sources are joined: other days, other places, or both. Readings of a run count from when they were
    available, never from when they were measured.
    """
    with answering():
        if time_zone:
            find_zone(time_zone)
        check_country(country)
        streets = Streets(net)
        unsaid = Unsaid(step_s=step_s, channel=channel or "flow", null=null, time_zone=time_zone)
        if epoch is not None:
            unsaid = replace(unsaid, from_s=int(epoch.replace(tzinfo=UTC).timestamp()))
        cut = Cut(step_s, math.inf if until is None else until.timestamp(), lateness_s, time_zone)
        parts = [
            read_history(source, places, streets.ids(places), cut) if holds_history(source)
            else read_recording(source, unsaid)
            for source in sources
        ]  # fmt: skip
        if daily:
            parts = [replace(part, start_s=part.start_s + k * DAY_S) for k, part in enumerate(parts)]
        whole = join(parts)
        if streets.network is not None and places is Places.EDGES:
            whole = on_streets(whole, streets.network)
        whole.series(channel)
        whole = replace(
            whole, name=out.name, target=channel or whole.target, country=country or whole.country,
            licence=licence or whole.licence,
            units=dict(whole.units) | _units(unit or (), whole), time_zone=whole.time_zone or time_zone,
        )  # fmt: skip
        write_folder(whole, out)
        _tell(whole, sources, out, as_json=as_json)


class Streets:
    """The network that `--net` names, if any."""

    def __init__(self, spec: str) -> None:
        self.network: Network | None = None
        self._city: CityFolder | None = None
        path = Path(spec)
        if spec and path.is_file() and path.name != "city.toml":
            self.network = read_sumo(path)
        elif spec:
            self._city = find_city(spec)
            self.network = load_network(self._city)

    def ids(self, places: Places) -> Sequence[str] | None:
        """Names of all edges or detectors in order, None where nobody knows them."""
        if self.network is None or (places is Places.DETECTORS and self._city is None):
            return None
        if places is Places.EDGES or self._city is None:
            return self.network.edges.ids
        return [detector.id for detector in find_detectors(self.network, self._city.coverage)]


def _units(told: Sequence[str], recording: Recording) -> dict[str, str]:
    units = {}
    for text in told:
        channel, equals, unit = text.partition("=")
        if not equals or channel not in recording.channels:
            raise InputError(f"--unit {text}: expected CHANNEL=UNIT, with one of {', '.join(recording.channels)}")
        units[channel] = unit
    return units


def _tell(kept: Recording, sources: Sequence[Path], out: Path, *, as_json: bool) -> None:
    first, last = (str(np.datetime64(int(kept.start_s[k]), "s")) for k in (0, -1))
    missing = {name: float(np.isnan(values).mean()) for name, values in kept.channels.items()}
    if as_json:
        document = {
            "sources": [str(source) for source in sources],
            "out": str(out),
            "places": len(kept.places),
            "edges": kept.edges.shape[1],
            "rows": len(kept.start_s),
            "step_s": kept.step_s,
            "first": first,
            "last": last,
            "time_zone": kept.time_zone or None,
            "target": kept.target,
            "channels": {
                name: {"unit": kept.units.get(name) or None, "missing_frac": round(share, 4)}
                for name, share in missing.items()
            },
            "country": kept.country or None,
            "licence": kept.licence or None,
        }
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    table = Table("channel", "unit", "missing")
    for name, share in missing.items():
        mark = " (target)" if name == kept.target else ""
        table.add_row(f"{name}{mark}", kept.units.get(name) or "unknown", f"{share:.1%}")
    Console().print(table)
    typer.echo(
        f"{out}: {len(kept.places)} places, {kept.edges.shape[1]} edges between them, {len(kept.start_s)} rows of "
        f"{kept.step_s} s from {first} to {last}, time zone {kept.time_zone or 'unknown'}, "
        f"licence {kept.licence or 'not stated'}"
    )
