"""`citytwin calibrate`: demand from counts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from networks.city import CityFolder, load_network, write_city
from networks.errors import InputError
from networks.graph import Floats, Ints, Network
from scenarios.cities import find_city
from scenarios.count_replay import HOUR_S, Replayed
from scenarios.counted_day import ClockHours, CountedDay, draw_held, near_share
from scenarios.loop_days import LoopDays, day_type, read_loop_days
from scenarios.measures import geh
from twin.commands.answers import SAYS_NO, answering
from twin.feeds.gat1049 import CHINA_H

EPILOG = "Example: citytwin calibrate cities/bologna --day-type weekday --from 6 --to 10 --out cities/bologna-weekday"
WANTED_FRAC = 0.85  # of flows within GEH 5: TAG unit M3.1 (UK Department for Transport), table 2
SHOWN = 8  # loops that are furthest off


class _Files(NamedTuple):
    routes: tuple[Path, ...]
    greens: tuple[Path, ...]


def calibrate(
    city: Annotated[
        str, typer.Argument(metavar="CITY", help="City folder with loops.csv and loop_counts*.csv beside its demand.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the calibrated city; new or empty.")],
    kind: Annotated[
        str, typer.Option("--day-type", help="weekday, Saturday or Sunday: the median of all such days.")
    ] = "weekday",
    first_hour: Annotated[int, typer.Option("--from", min=1, max=23, help="First hour.")] = 7,
    end_hour: Annotated[int, typer.Option("--to", min=2, max=24, help="Hour at which it ends.")] = 9,
    hold: Annotated[float, typer.Option(min=0, max=0.9, help="Share of loops kept out of it, for the score.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of departures, drivers and the loops held out.")] = 1,
    zone_h: Annotated[
        float, typer.Option("--zone", min=-14, max=14, help="Hours that the clock of the counts is ahead of UTC.")
    ] = CHINA_H,
    mesoscopic: Annotated[
        bool, typer.Option(help="Judge in SUMO's mesoscopic model under the shipped greens: a quick look.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Make a city's demand meet its loop counts, and say how near it comes once it has been driven.

    The folder then holds a city of its own: demand, greens that let it through, and calibration.json with every loop
    and hour. Exit code 1: fewer than 85 % of the fitted counts are within GEH 5.
    """
    with answering():
        console = Console(stderr=True)
        if first_hour >= end_hour:
            raise InputError(f"--from {first_hour} --to {end_hour}: hours must rise")
        if out.exists() and any(out.iterdir()):
            raise InputError(f"--out {out}: is not empty")
        folder = find_city(city)
        network = load_network(folder)
        loops = read_loop_days(folder.folder, network)
        usual, hours = loops.usual_of(kind), ClockHours(first_hour, end_hour)
        held = _held(usual, hours, hold, seed)
        known = np.setdiff1d(np.arange(len(loops.edge)), held)
        out.mkdir(parents=True, exist_ok=True)
        with console.status("prior, lags, greens, demand: three runs of SUMO"):
            day = CountedDay(folder, network, loops.only(known), hours, out, seed, mesoscopic)
            prior = day.prior(usual[:, known], "way")
            demand = out / "demand.rou.xml"
            day.write(prior.flows, demand)
        with console.status("driving it"):
            ran = day.drive((demand,), plans=prior.plans)
        greens = tuple(plan.rename(out / "greens.add.xml") for plan in prior.plans)
        for spare in out.glob("way-*"):
            spare.unlink()
        last = max(one for one in loops.days if day_type(one) == kind)
        _write_city(folder, last, zone_h, day, _Files((day.timetabled, demand), greens))
        document = _document(network, loops, usual, held, hours, ran)
        (out / "calibration.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        if as_json:
            typer.echo(json.dumps(document))
        else:
            _print(Console(), folder.name, document)
        console.print(f"City and scores: {escape(str(out))}", highlight=False)
        share = document["fitted"]["geh_lt5_share"]
        if share is None or share < WANTED_FRAC:
            raise typer.Exit(SAYS_NO)


def _held(usual: Floats, hours: ClockHours, hold: float, seed: int) -> Ints:
    """Loops drawn among those with counts in these hours."""
    counted = np.flatnonzero(np.isfinite(usual[list(hours.scored)]).any(axis=0)).astype(np.int32)
    if not len(counted):
        raise InputError(f"no loop has counts from {hours.first} to {hours.end}")
    return draw_held(counted, hold, seed)


def _write_city(folder: CityFolder, last: date, zone_h: float, day: CountedDay, files: _Files) -> None:
    """On the last day of its type that was counted."""
    midnight_s = datetime(last.year, last.month, last.day, tzinfo=UTC).timestamp() - zone_h * HOUR_S
    begin_s = day.hours.first * HOUR_S
    described = replace(
        folder,
        name=f"{folder.name}-{day_type(last)}",
        routes=files.routes,
        programmes=(*folder.programmes, *files.greens),
        begin_s=begin_s,
        end_s=day.hours.end_s,
        epoch_s=midnight_s + begin_s,
        findings=(),
    )
    write_city(described, day.folder)


def _document(
    network: Network, loops: LoopDays, usual: Floats, held: Ints, hours: ClockHours, ran: Replayed
) -> dict[str, Any]:
    counted = usual[list(hours.scored)]
    simulated = ran.count[:, loops.edge]
    apart = geh(simulated, np.nan_to_num(counted))
    known = np.isfinite(counted)
    out = np.zeros(known.shape, np.bool_)
    out[:, held] = True
    rows = [
        {
            "edge": network.edges.ids[loops.edge[n]],
            "hour": hours.scored[h],
            "counted": float(counted[h, n]),
            "simulated": float(simulated[h, n]),
            "geh": round(float(apart[h, n]), 2),
            "held_out": bool(out[h, n]),
        }
        for n, h in np.argwhere(known.T).tolist()
    ]
    total = float(simulated[known].sum() / max(counted[known].sum(), 1.0))
    return {
        "hours": [hours.first, hours.end],
        "fitted": near_share(apart[known & ~out]),
        "held_out": near_share(apart[known & out]),
        "simulated_over_counted": total,
        "pending_share": ran.pending / max(ran.due, 1),
        "due": ran.due,
        "teleports": ran.teleports,
        "counts_refused": loops.refused,
        "loops": rows,
    }


def _print(console: Console, name: str, document: dict[str, Any]) -> None:
    table = Table(title=f"{name}: furthest from their counts", box=SIMPLE_HEAD)
    for title in ("edge", "hour", "counted", "simulated", "GEH", ""):
        table.add_column(title, justify="left" if title == "edge" else "right")
    for row in sorted(document["loops"], key=lambda r: -r["geh"])[:SHOWN]:
        kept = "held out" if row["held_out"] else ""
        cells = (
            row["edge"],
            f"{row['hour']}",
            f"{row['counted']:.0f}",
            f"{row['simulated']:.0f}",
            f"{row['geh']:.1f}",
        )
        table.add_row(*map(escape, cells), kept)
    console.print(table)
    parts = [
        f"{title} {part['geh_lt5_share']:.0%} of {part['n']}"
        for title, part in (("fitted", document["fitted"]), ("held out", document["held_out"]))
        if part["n"]
    ]
    console.print(
        f"GEH < 5: {', '.join(parts)}. Simulated over counted {document['simulated_over_counted']:.3f}. "
        f"Outside at the end {document['pending_share']:.1%} of {document['due']}; "
        f"set ahead {document['teleports']}.",
        highlight=False,
    )
