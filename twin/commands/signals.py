"""`citytwin signals check | convert | show`, and where the verbs of other files join (control, explain, retime)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from networks.city import load_network
from networks.errors import InputError
from networks.graph import Network
from networks.readers.sumo import read_sumo
from scenarios.cities import find_city
from signals.formats.book import NamedProgramme, PlanBook, book_of_network, signal_of
from signals.formats.cycle_text import LEGEND, cycle_text
from signals.formats.document import from_json
from signals.formats.files import FORMATS, Circumstances, format_of_name, read_book, runs_once
from signals.formats.legs import LinkUse, legs_of, served_text, uses_of
from signals.formats.nema import phase_map, ring_barrier, ring_text
from signals.formats.proofs import Proof, prove_book
from signals.formats.stage_rows import stage_rows
from signals.safety import Violation, find_violations
from twin.commands import control, retime
from twin.commands.answers import SAYS_NO, answering
from twin.commands.explain import explain

app = typer.Typer(help="Check, control, convert, show, explain and retime traffic signals.", no_args_is_help=True)

SHIPPED = "shipped"
Plan = Annotated[
    str,
    typer.Argument(
        metavar="PLAN",
        help="File of plans (SUMO, JSON, GA/T 1049.2 or CSV, told by content), or `shipped` for those of the net.",
    ),
]
Net = Annotated[str, typer.Option("--net", "-n", help="The net: .net.xml[.gz], a city folder, or a bundled city.")]
Epoch = Annotated[
    float, typer.Option("--epoch", help="Epoch of the programmes' second 0; our JSON counts epoch seconds.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
SHOWN_FINDINGS = 40


class To(StrEnum):
    SUMO = "sumo"
    JSON = "json"
    GAT1049 = "gat1049"
    CSV = "csv"
    CSV_ZH = "csv-zh"


@app.command(epilog="Example: citytwin signals check plans.add.xml --net zone --json")
def check(plan: Plan, net: Net, epoch_s: Epoch = 0.0, as_json: AsJson = False) -> None:
    """Prove every plan of a file safe: conflicts, intergreens, yellows, minimum greens, longest reds.

    Ends with 1 when a plan is unsafe, naming signal, links and second; with 2 when a file cannot be used.
    """
    with answering():
        network = open_network(net)
        proofs = _proofs(plan, network, epoch_s)
        safe = not any(proof.violations for proof in proofs)
        if as_json:
            document = {"plan": plan, "net": net, "safe": safe, "judged": [_proof(p, network) for p in proofs]}
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            _print_proofs(Console(), proofs, network)
        if not safe:
            raise typer.Exit(SAYS_NO)


@app.command(epilog="Example: citytwin signals convert plans.add.xml plans.csv --net zone")
def convert(
    plan: Plan,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write.")],
    net: Net,
    to: Annotated[To | None, typer.Option("--to", help="Format to write; else what the ending of OUT says.")] = None,
    epoch_s: Epoch = 0.0,
    as_json: AsJson = False,
) -> None:
    """Write plans in another format. Ends with 1 when that format could not hold everything, and names it."""
    with answering():
        network = open_network(net)
        name = to.value if to is not None else format_of_name(out)
        circumstances = Circumstances(network, datetime.now(UTC), epoch_s)
        written = FORMATS[name].write(_book(plan, circumstances), circumstances)
        out.write_text(written.text, encoding="utf-8", newline="")
        if as_json:
            document = {"plan": plan, "out": str(out), "format": name, "left_out": list(written.left_out)}
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            typer.echo(f"{out}: {name}")
            for text in written.left_out:
                typer.echo(f"left out: {text}")
        if written.left_out:
            raise typer.Exit(SAYS_NO)


@app.command(epilog="Example: citytwin signals show shipped --net zone --signal J12")
def show(
    plan: Plan,
    net: Net,
    signal: Annotated[
        str, typer.Option(help="Show this signal in full: stages, rings and barriers, the cycle.")
    ] = "",
    epoch_s: Epoch = 0.0,
    as_json: AsJson = False,
) -> None:
    """Show plans as engineers read them. Without --signal one line a programme."""
    with answering():
        network = open_network(net)
        book = _book(plan, Circumstances(network, datetime.now(UTC), epoch_s))
        if signal and signal not in network.signal_index:
            raise InputError(f"the network has no signal {signal!r}")
        chosen = [n for n in book.programmes if not signal or n.signal_id == signal]
        if as_json:
            document = {"plan": plan, "net": net, "programmes": [_programme(n, network) for n in chosen]}
            document["timetables"] = [
                {
                    "id": t.id,
                    "signals": [s.signal_id for s in t.signals],
                    "start": t.start,
                    "switches": [{"at_s": s.at_s, "programme": s.programme} for s in t.switches],
                }
                for t in book.timetables
            ]
            typer.echo(json.dumps(document, ensure_ascii=False))
            return
        console = Console(soft_wrap=True)
        if signal:
            for named in chosen:
                _print_programme(console, named, network)
            return
        table = Table("signal", "programme", "kind", "cycle s", "offset s", "stages", "rings and barriers")
        for named in chosen:
            row = _programme(named, network)
            names = ("signal", "programme", "kind", "cycle_s", "offset_s")
            rings = row["why_no_rings"] or "fits"
            table.add_row(*(escape(f"{row[n]}") for n in names), str(len(row["stages"])), escape(rings))
        Console().print(table)


def open_network(spec: str) -> Network:
    """The net of a .net.xml[.gz] file, a city folder or a bundled city."""
    path = Path(spec).expanduser()
    if path.is_file() and path.name != "city.toml":
        return read_sumo(path)
    return load_network(find_city(spec))


def _book(plan: str, circumstances: Circumstances) -> PlanBook:
    if plan == SHIPPED:
        return book_of_network(circumstances.network)
    return read_book(Path(plan).expanduser(), circumstances)


def _proofs(plan: str, network: Network, epoch_s: float) -> list[Proof]:
    path = Path(plan).expanduser()
    if plan != SHIPPED and runs_once(path):
        plans = from_json(path.read_bytes(), network.signal_index)
        return [
            Proof(p.signal_id, f"plan {n}", tuple(find_violations(p, network.signals[p.signal], None)))
            for n, p in enumerate(plans)
        ]
    return prove_book(_book(plan, Circumstances(network, datetime.now(UTC), epoch_s)), network)


def _proof(proof: Proof, network: Network) -> dict[str, Any]:
    return {
        "signal": proof.signal_id,
        "what": proof.what,
        "safe": None if proof.note else not proof.violations,
        "note": proof.note,
        "violations": [
            {
                "rule": v.rule,
                "links": list(v.links),
                "movements": [_movement(proof.signal_id, link, network) for link in v.links],
                "at_s": v.at_s,
                "value": v.value,
                "limit": v.limit,
                "detail": v.detail,
            }
            for v in proof.violations
        ],
    }


def _movement(signal_id: str, link: int, network: Network) -> str:
    signal = network.signals[network.signal_index[signal_id]]
    legs = legs_of(signal, network)
    use: LinkUse = uses_of(signal, network, legs)[link]
    side = legs[use.leg].name if use.leg >= 0 else "?"
    return f"{side} {'+'.join(use.turns)}".strip()


def _print_proofs(console: Console, proofs: list[Proof], network: Network) -> None:
    unsafe = [p for p in proofs if p.violations]
    findings: list[tuple[Proof, Violation]] = [(p, v) for p in unsafe for v in p.violations]
    if findings:
        table = Table("signal", "what", "rule", "links", "second", "found", "needs", "detail")
        for proof, v in findings[:SHOWN_FINDINGS]:
            links = ", ".join(f"{k} ({_movement(proof.signal_id, k, network)})" for k in v.links)
            numbers = (f"{v.value:g}", f"{v.limit:g}") if v.limit else ("", "")
            table.add_row(
                *map(escape, (proof.signal_id, proof.what, v.rule, links, f"{v.at_s:g}", *numbers, v.detail))
            )
        console.print(table)
        if len(findings) > SHOWN_FINDINGS:
            console.print(f"... and {len(findings) - SHOWN_FINDINGS} more (--json lists all)")
    for proof in proofs:
        if proof.note:
            console.print(escape(f"{proof.signal_id} {proof.what}: {proof.note}"), soft_wrap=True)
    judged = sum(not p.note for p in proofs)
    verdict = (
        f"[red]{len(unsafe)} of {judged} judged are unsafe.[/]" if unsafe else f"[green]{judged} judged: safe.[/]"
    )
    console.print(verdict)


def _programme(named: NamedProgramme, network: Network) -> dict[str, Any]:
    programme, signal = named.programme, signal_of(named, network)
    phases = phase_map(signal, network)
    view = ring_barrier(programme, phases)
    return {
        "signal": named.signal_id,
        "programme": programme.id,
        "kind": programme.kind,
        "cycle_s": programme.cycle_s,
        "offset_s": programme.offset_s,
        "stages": [
            {
                "lamps": row.green.state,
                "movements": served_text(row.green.state, phases.uses, phases.legs),
                "green_s": row.green.duration_s,
                "yellow_s": row.yellow_s,
                "all_red_s": row.all_red_s,
                "min_s": row.green.min_s,
                "max_s": row.green.max_s,
            }
            for row in stage_rows(programme)[1]
        ],
        "phases": {str(phase): name for phase, name in phases.names.items()},
        "rings": [
            [
                {
                    "phase": s.phase,
                    "split_s": s.split_s,
                    "green_s": s.green_s,
                    "yellow_s": s.yellow_s,
                    "red_s": s.red_s,
                }
                for s in ring
            ]
            for ring in view.rings
        ],
        "why_no_rings": view.why_not,
    }


def _print_programme(console: Console, named: NamedProgramme, network: Network) -> None:
    programme, signal = named.programme, signal_of(named, network)
    phases = phase_map(signal, network)
    title = (
        f"{named.signal_id} · programme {programme.id} ({programme.kind}) · cycle {programme.cycle_s:g} s · "
        f"offset {programme.offset_s:g} s"
    )
    table = Table("stage", "movements", "green", "yellow", "all red", "min", "max", title=escape(title))
    for number, row in enumerate(stage_rows(programme)[1], 1):
        seconds = (row.green.duration_s, row.yellow_s, row.all_red_s, row.green.min_s, row.green.max_s)
        served = escape(served_text(row.green.state, phases.uses, phases.legs))
        table.add_row(str(number), served, *(f"{s:g}" for s in seconds))
    console.print(table)
    walkers = int(np.count_nonzero(signal.pedestrian))
    if walkers:
        console.print(f"{walkers} links serve walkers only")
    for text in (ring_text(ring_barrier(programme, phases), phases), cycle_text(programme, phases.uses, phases.legs)):
        console.print(escape(text), highlight=False)
    console.print(LEGEND, highlight=False)


# Verbs with files of their own join here.
app.command(epilog="Example: citytwin signals explain runs/monday --net zone --signal J12")(explain)
app.command(epilog=retime.EPILOG)(retime.retime)
app.command(epilog=control.EPILOG)(control.control)
