"""`citytwin replay LOG`."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from networks.city import Detector, load_network
from networks.errors import CityError
from networks.graph import Network
from networks.sensors import find_detectors
from scenarios.cities import find_city
from twin.commands.answers import SAYS_NO, answering
from twin.feed_declarations import read_declarations
from twin.recorder import Recording
from twin.replay import Survey, survey


def replay(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Folder of a recording, or one of its files.")],
    city: Annotated[
        str, typer.Option(help="City to hold the messages against; the log's own where it is at hand.")
    ] = "",
    cycle_s: Annotated[float, typer.Option("--cycle", min=0.1, help="Seconds between two cycles.")] = 5.0,
    feeds: Annotated[
        Path | None, typer.Option(help="Declarations of feeds in the formats of others; see docs/feeds.md.")
    ] = None,
    verify: Annotated[
        bool, typer.Option(help="Replay twice; ends with 1 when the log is damaged or the two differ.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Put a recorded feed through the inbox again and show what it accepts and refuses."""
    with answering():
        network: Network | None = None
        declared = read_declarations(feeds) if feeds is not None else ()
        detectors: tuple[Detector, ...] = ()
        note = ""
        spec = city or Recording(log).header.city
        try:
            if not spec:
                raise CityError("the log names none")
            found = find_city(spec)
            network = load_network(found)
            detectors = find_detectors(network, found.coverage)
        except CityError as error:
            if city:
                raise
            note = f"not held against a city: {error}"
        looked = survey(log, network=network, detectors=detectors, cycle_s=cycle_s, declared=declared)
        if network is not None and looked.header.network not in ("", network.fingerprint):
            note = f"recorded on another version of the network of {spec}"
        verified: bool | None = None
        if verify:
            again = survey(log, network=network, detectors=detectors, cycle_s=cycle_s, declared=declared)
            verified = not looked.damage and again == looked
        if as_json:
            typer.echo(json.dumps(_document(log, looked, note, verified), ensure_ascii=False))
        else:
            _print(Console(), looked, note, verified)
        if verified is False:
            raise typer.Exit(SAYS_NO)


def _document(log: Path, looked: Survey, note: str, verified: bool | None) -> dict[str, Any]:
    return {
        "log": str(log),
        **asdict(looked),
        "header": {name: getattr(looked.header, name) for name in looked.header.__struct_fields__},
        "first_received_s": _number(looked.first_received_s),
        "last_received_s": _number(looked.last_received_s),
        "refused": [
            {"feed": feed, "reason": reason, "count": count} for (feed, reason), count in looked.refused.items()
        ],
        "note": note,
        "verified": verified,
    }


def _print(console: Console, looked: Survey, note: str, verified: bool | None) -> None:
    names = "pseudonyms" if looked.header.masked else "RAW IDENTITIES"
    console.print(
        f"City {escape(looked.header.city or '?')} · {sum(looked.frames.values())} messages · "
        f"{_moment(looked.first_received_s)} to {_moment(looked.last_received_s)} · {names}"
    )
    feeds = Table("feed", "messages", "accepted")
    for feed, count in sorted(looked.frames.items()):
        feeds.add_row(feed, str(count), "" if looked.accepted is None else str(looked.accepted.get(feed, 0)))
    console.print(feeds)
    if looked.refused:
        refused = Table("feed", "refused because", "count")
        for (feed, reason), count in looked.refused.items():
            refused.add_row(feed, reason, str(count))
        console.print(refused)
    for line in (*looked.damage, note):
        if line:
            console.print(escape(line))
    if verified is not None:
        console.print("Verified: whole, and two replays agree." if verified else "Not verified.")


def _moment(epoch_s: float) -> str:
    if epoch_s != epoch_s:
        return "-"
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _number(value: float) -> float | None:
    return None if value != value else value
