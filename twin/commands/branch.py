"""`citytwin branch`: forks of the mirror under other signal plans and closures, side by side."""

from __future__ import annotations

import json
import math
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from networks.city import CityFolder, load_network
from networks.errors import InputError
from networks.graph import Network
from networks.messages import NoticeReport
from scenarios.cities import find_city
from signals.formats.book import plan_of
from signals.formats.files import Circumstances, read_book, runs_once
from signals.formats.proofs import prove_book
from signals.plan import SignalPlan
from twin.branches import (
    SHOWN,
    Branch,
    BranchRun,
    BranchSummary,
    Spread,
    closure,
    compare_branches,
    run_branches,
    seeds_of,
    start_of_scenario,
)
from twin.commands.answers import SAYS_NO, answering
from twin.mirror_kept import find_kept, read_kept
from twin.mirror_words import Snapshot

EPILOG = (
    "Example: citytwin branch runs/zone-20260302-0800 --branch 'wave: plan=wave.add.xml' "
    "--branch 'works: plan=wave.add.xml close=e12,e13:0' --minutes 10 --deadline 60 --json"
)
AS_IT_IS = "as it is"
WORST_EDGES = 5


def branch(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="History folder of a run (its mirror is forked), or a city.")
    ],
    branches: Annotated[
        list[str] | None,
        typer.Option(
            "--branch",
            "-b",
            metavar="'NAME: plan=FILE close=EDGE[:LANE+LANE],EDGE'",
            help="One way to go on; may be given often. plan: signal plans in any format that `signals check` reads; "
            "close: edges, or lanes of them (0 rightmost).",
        ),
    ] = None,
    at: Annotated[
        float | None, typer.Option("--at", help="Of a city: simulated second to branch at; default the middle.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="How far to look ahead.", min=0.5, max=240)] = 10.0,
    seeds: Annotated[int, typer.Option(help="Runs of each branch, with other chances in driving.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of a city: the first seed.", min=0)] = 1,
    deadline: Annotated[
        float, typer.Option(help="Wall seconds in which results are wanted; what is late is called so.", min=1)
    ] = 120.0,
    workers: Annotated[int, typer.Option(help="Branches at a time; 0: one a core.", min=0)] = 0,
    mesoscopic: Annotated[
        bool, typer.Option(help="In SUMO's mesoscopic model: faster, for comparisons of many; see docs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Look some minutes ahead from where the twin is now: unchanged, and under other signal plans or closures.

    Every branch starts from the same second with the same vehicles. Delay counts every vehicle, those that cannot
    enter too. Ends with 1 when a plan is unsafe, or a branch was late or failed.
    """
    with answering(), tempfile.TemporaryDirectory(prefix="citytwin_branch_") as scratch:
        console = Console(stderr=True)
        city, network, snapshot = _source(source, at)
        asked = [Branch(AS_IT_IS), *(_parse(text, network) for text in branches or ())]
        unsafe = _unsafe(branches or (), network)
        if snapshot is None:
            begin_s = (city.begin_s + city.end_s) / 2.0 if at is None else at
            with console.status(f"{city.name}: running the demand up to second {begin_s:g}"):
                snapshot = start_of_scenario(city, network, begin_s, seed, Path(scratch))
        console.print(f"{city.name} as of {_clock(city, snapshot.at_s)}", highlight=False)
        with _Show(console, asked, seeds, minutes * 60.0) as show:
            runs = run_branches(
                city,
                network,
                snapshot,
                asked,
                seconds=minutes * 60.0,
                seeds=seeds_of(snapshot, seeds),
                deadline_s=deadline,
                workers=workers,
                mesoscopic=mesoscopic,
                told=show.told,
            )
        summaries = compare_branches(runs)
        document = {
            "source": source,
            "city": city.name,
            "at_s": snapshot.at_s,
            "clock": _clock(city, snapshot.at_s),
            "seconds": minutes * 60.0,
            "model": "mesoscopic" if mesoscopic else "microscopic",
            "demand_ends_s": city.end_s,
            "unsafe": unsafe,
            "branches": [_branch_document(summary, runs, network) for summary in summaries],
        }
        if as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            _print(Console(), document, summaries)
        if unsafe or any(run.status != "done" for run in runs):
            raise typer.Exit(SAYS_NO)


def _source(source: str, at_s: float | None) -> tuple[CityFolder, Network, Snapshot | None]:
    """The newest snapshot of a run's mirror, or a city whose own demand is still to be run up to the start."""
    folder = Path(source).expanduser()
    note = find_kept(folder) if folder.is_dir() else None
    if note is None:
        city = find_city(source)
        return city, load_network(city), None
    if at_s is not None:
        raise InputError(f"--at: {source} holds a snapshot of a mirror, and its time is fixed")
    city, snapshot, fingerprint = read_kept(note)
    network = load_network(city)
    if network.fingerprint != fingerprint:
        raise InputError(f"{note}: network: taken on another version of the network of {city.name}")
    return city, network, snapshot


def _clock(city: CityFolder, at_s: float) -> str:
    return datetime.fromtimestamp(city.epoch_s - city.begin_s + at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _parts(text: str) -> tuple[str, list[str], list[str]]:
    """Name, plan files and closures of one --branch."""
    name, colon, rest = text.partition(":")
    if not colon or not name.strip():
        raise InputError(f"--branch {text!r}: wanted is 'NAME: plan=FILE close=EDGE'")
    files: list[str] = []
    closed: list[str] = []
    for word in shlex.split(rest):
        key, equals, value = word.partition("=")
        if not equals or key not in ("plan", "close"):
            raise InputError(f"--branch {name.strip()}: {word!r} is neither plan=FILE nor close=EDGE")
        if key == "plan":
            files.append(value)
        else:
            closed += value.split(",")
    if name.strip() == AS_IT_IS:
        raise InputError(f"--branch {name.strip()}: that name is taken by the branch that changes nothing")
    return name.strip(), files, closed


def _parse(text: str, network: Network) -> Branch:
    name, files, closed = _parts(text)
    plans: dict[int, SignalPlan] = {}
    for file in files:
        plans.update(_plans(Path(file).expanduser(), network))
    return Branch(name, tuple(plans.values()), tuple(_closure(word, network) for word in closed))


def _plans(path: Path, network: Network) -> dict[int, SignalPlan]:
    """Of several programmes of a signal the last is in force, as in SUMO. Signals that are off are left alone."""
    if runs_once(path):
        raise InputError(f"{path}: plans that run once; a branch needs programmes that repeat")
    book = read_book(path, _circumstances(network))
    plans = [
        replace(plan_of(named, network, epoch_of_zero_s=0.0), valid_from_s=0.0)
        for named in book.programmes
        if named.programme.phases
    ]
    return {plan.signal: plan for plan in plans}


def _closure(word: str, network: Network) -> NoticeReport:
    """EDGE, or EDGE:LANE+LANE; an edge whose id holds a colon is found by its whole id first."""
    if word in network.edge_index:
        return closure(word, network=network)
    edge, _, lanes = word.rpartition(":")
    try:
        return closure(edge or word, [int(lane) for lane in lanes.split("+")] if edge else (), network=network)
    except ValueError:
        raise InputError(f"close={word}: {lanes!r} are not lane numbers") from None


def _circumstances(network: Network) -> Circumstances:
    return Circumstances(network, datetime.now(UTC), 0.0)


def _unsafe(texts: Sequence[str], network: Network) -> list[dict[str, Any]]:
    """What the proof of safety finds in the plan files, each file once."""
    files = dict.fromkeys(file for text in texts for file in _parts(text)[1])
    found: list[dict[str, Any]] = []
    for file in files:
        for proof in prove_book(read_book(Path(file).expanduser(), _circumstances(network)), network):
            found += [
                {"plan": file, "signal": proof.signal_id, "what": proof.what, "violation": str(violation)}
                for violation in proof.violations
            ]
    return found


def _branch_document(summary: BranchSummary, runs: Sequence[BranchRun], network: Network) -> dict[str, Any]:
    own = [run for run in runs if run.name == summary.name]
    first = {r.seed: r for r in runs if r.name == runs[0].name and r.measures is not None}
    changes_s = [
        r.measures.edge_loss_s - first[r.seed].measures.edge_loss_s  # type: ignore[union-attr]
        for r in own
        if r.measures is not None and r.seed in first
    ]
    worst: list[dict[str, Any]] = []
    if changes_s:
        change_s = np.mean(changes_s, axis=0)
        rows = np.argsort(-change_s, kind="stable")[:WORST_EDGES]
        worst = [
            {"edge": network.edges.ids[e], "more_loss_veh_s": round(float(change_s[e]), 1)}
            for e in rows
            if change_s[e] > 0
        ]
    return {
        "name": summary.name,
        "measures": {name: _numbers(spread) for name, spread in summary.measures.items()},
        "change": {name: _numbers(spread) for name, spread in summary.change.items()},
        "worst_edges": worst,
        "runs": [_run_document(run) for run in own],
    }


def _run_document(run: BranchRun) -> dict[str, Any]:
    document: dict[str, Any] = {
        "seed": run.seed,
        "status": run.status,
        "reached_s": run.reached_s,
        "wall_s": round(run.wall_s, 2),
        "error": run.error,
    }
    if run.measures is not None:
        m = run.measures
        document |= {name: getattr(m, name) for name in SHOWN} | {
            "vehicles": m.vehicles,
            "arrived": m.arrived,
            "driving": m.driving,
            "waiting": m.waiting,
            "longest_queue_veh": m.longest_queue_veh,
            "teleports": m.teleports,
        }
    return document


def _numbers(spread: Spread) -> dict[str, float | None]:
    return {"mean": spread.mean, "sd": None if math.isnan(spread.sd) else spread.sd}


class _Show:
    """A bar a branch, until all have ended."""

    def __init__(self, console: Console, branches: Sequence[Branch], seeds: int, seconds: float) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._seconds = seconds
        self._tasks: dict[str, TaskID] = {
            b.name: self._progress.add_task(escape(b.name), total=seeds * seconds, note="waits") for b in branches
        }
        self._done: dict[tuple[str, int], float] = {}

    def __enter__(self) -> _Show:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, name: str, seed: int, reached_s: float, status: str) -> None:
        self._done[name, seed] = reached_s
        done_s = sum(s for (of, _), s in self._done.items() if of == name)
        self._progress.update(self._tasks[name], completed=done_s, note=status or f"seed {seed}")


def _print(console: Console, document: dict[str, Any], summaries: Sequence[BranchSummary]) -> None:
    table = Table(
        title=escape(f"{document['city']}, {document['seconds'] / 60:g} minutes from {document['clock']}"),
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    table.add_column("branch", no_wrap=True)
    for name in ("delay s", "against", "waited s", "stops", "queued", "out an hour"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("worst at")
    for number, (summary, row) in enumerate(zip(summaries, document["branches"], strict=True)):
        if not summary.measures:
            reasons = dict.fromkeys(f"{r['status']}: {r['error']}" for r in row["runs"])
            table.add_row(escape(summary.name), *["-"] * 6, escape("; ".join(reasons)))
            continue
        change = summary.change.get("delay_s")
        against = "" if number == 0 or change is None else f"{change.mean:+.1f}{_plus_minus(change)}"
        m = summary.measures
        table.add_row(
            escape(summary.name),
            f"{m['delay_s'].mean:.1f}{_plus_minus(m['delay_s'])}",
            against,
            f"{m['waited_s'].mean:.1f}",
            f"{m['stops'].mean:.2f}",
            f"{m['queue_veh'].mean:.0f}",
            f"{m['throughput_vph'].mean:.0f}",
            escape(" ".join(e["edge"] for e in row["worst_edges"][:3]) if number else ""),
        )
    console.print(table)
    console.print(
        "Delay of every vehicle on the road, due or waiting to enter: time lost and waited, in this time alone. "
        "±: over seeds.",
        highlight=False,
    )
    if document["at_s"] + document["seconds"] > document["demand_ends_s"]:
        console.print("[yellow]The demand ends before the branches do: the last minutes are too quiet.[/]")
    if document["unsafe"]:
        unsafe = dict.fromkeys(row["plan"] for row in document["unsafe"])
        console.print(f"[red]Not proven safe: {escape(', '.join(unsafe))}; see citytwin signals check.[/]")
    for row in document["branches"]:
        for run in row["runs"]:
            if run["status"] != "done":
                console.print(escape(f"{row['name']}, seed {run['seed']}: {run['status']}: {run['error']}"))


def _plus_minus(spread: Spread) -> str:
    return "" if math.isnan(spread.sd) else f"±{spread.sd:.1f}"
