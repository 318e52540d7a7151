"""`citytwin signals control`: live adaptive control of any SUMO scenario, beside the programmes it came with."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from scenarios.run_ledger import RunLedger, run_keys
from scenarios.side_by_side import FullyDetected, Job, Result, ScenarioFiles, Side, run_jobs
from twin.commands.answers import SAYS_NO, answering
from twin.commands.control_request import ACTUATED, ADAPTIVE, PLAN, SHIPPED, Request, read_request
from twin.config import read_settings
from twin.sensed_control import Sensed, scenario_prior

EPILOG = (
    "Example: citytwin signals control --net town.net.xml --routes town.rou.xml --begin 25200 --end 28800 "
    "--seeds 1-3 --sensors --coverage loops=0.6,equipped=0.1 --out runs/town"
)


def control(
    net: Annotated[Path, typer.Option("--net", "-n", help="SUMO network (.net.xml, also .gz).")],
    routes: Annotated[str, typer.Option("--routes", "-r", help="SUMO demand files, separated by commas.")],
    begin: Annotated[float, typer.Option(min=0.0, help="Second of the demand at which to begin.")],
    end: Annotated[float, typer.Option(help="Second of the demand at which to end.")],
    additional: Annotated[str, typer.Option(help="SUMO additional files, separated by commas.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds of drivers and sensors: 1-3 or 1,4. Default: 1-3.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="One seed instead.")] = None,
    sensors: Annotated[
        bool, typer.Option("--sensors", help="See the street through sensors alone; else every vehicle is seen.")
    ] = False,
    coverage: Annotated[
        str,
        typer.Option(help="With --sensors: shares from 0 to 1, e.g. loops=0.6,roadside=0.3,equipped=0.1."),
    ] = "",
    policy: Annotated[
        Path | None, typer.Option(help="File of priorities, see signals/policy.toml; else all count alike.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="SUMO additional file of programmes that signals fall back to, instead of the shipped."),
    ] = None,
    beside: Annotated[
        str, typer.Option(help="What to compare with: shipped (always), actuated, plan; separated by commas.")
    ] = SHIPPED,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder of results; what it holds is not run again. Default: runs/NAME-TIME."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Runs at a time, each a process.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Control the signals of a scenario live, without training, and compare with its own programmes.

    Every change of lamps is proven safe before it is shown. All sides meet the same demand on the same seeds; the
    delay counts every scheduled vehicle, those never inserted included. Ctrl-C keeps the runs that are done in OUT,
    and the same command with that --out goes on. Exit code 0: the adaptive mean delay is below the shipped one and
    no unsafe lamp was seen; 1: it is not, or not everything was run.
    """
    with answering():
        begun_s = time.monotonic()
        console = Console(stderr=True)
        request = read_request(
            net, routes, begin, end, additional, seeds, seed, sensors, coverage, policy, plan, beside
        )
        folder = out or read_settings().runs / f"control-{request.scenario.name}-{datetime.now():%Y%m%d-%H%M%S}"
        folder.mkdir(parents=True, exist_ok=True)
        results, missing = _run(request, folder, workers, console)
        document = _document(request, results, missing, folder, time.monotonic() - begun_s)
        (folder / "result.json").write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
        if as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            _print(Console(), request, document)
        if not document["better"]:
            raise typer.Exit(SAYS_NO)


def _run(request: Request, folder: Path, workers: int, console: Console) -> tuple[dict[str, dict[int, Result]], int]:
    """Results by side and seed, kept ones included, and how many runs an interruption has left undone."""
    ledger = RunLedger(folder / "runs.jsonl")
    jobs = [Job(side, seed) for seed in request.seeds for side in (_adaptive(request), *_fixed(request))]
    keys = {(job.side.name, job.seed): key for job, key in zip(jobs, run_keys(request.scenario, jobs), strict=True)}
    results: dict[str, dict[int, Result]] = {name: {} for name in (*request.beside, ADAPTIVE)}
    due: list[Job] = []
    for job in jobs:
        kept = ledger.find(keys[job.side.name, job.seed])
        if kept is None:
            due.append(job)
        else:
            results[job.side.name][job.seed] = kept
    if len(due) < len(jobs):
        console.print(f"{len(jobs) - len(due)} of {len(jobs)} runs are kept in {folder}", highlight=False)
    with _Show(console, request.scenario, len(due)) as show:
        try:
            prepared = _with_prior(request, due, show.note)
            with closing(run_jobs(request.scenario, prepared, workers=workers, told=show.told)) as runs:
                for result in runs:
                    ledger.add(keys[result.side, result.seed], result)
                    results[result.side][result.seed] = result
                    show.finished(result)
        except KeyboardInterrupt:
            console.print(f"Interrupted. The same command with --out {folder} goes on.", highlight=False)
    return results, len(jobs) - sum(map(len, results.values()))


def _adaptive(request: Request) -> Side:
    """The live control; behind sensors still without its prior, which takes a run to make."""
    coverage, policy = request.coverage, request.policy
    make = FullyDetected(policy) if coverage is None else Sensed(coverage, None, policy)
    settings = repr((coverage, None if policy is None else policy.model_dump_json()))
    return Side(ADAPTIVE, make, plan=request.plan, settings=settings)


def _fixed(request: Request) -> list[Side]:
    known = {
        SHIPPED: Side(SHIPPED),
        ACTUATED: Side(ACTUATED, actuated=True),
        PLAN: Side(PLAN, plan=request.plan),
    }
    return [known[name] for name in request.beside]


def _with_prior(request: Request, jobs: Sequence[Job], note: Callable[[str], None]) -> list[Job]:
    """The jobs, those behind sensors with what the scenario's own demand lets them expect."""
    if request.coverage is None or not any(job.side.name == ADAPTIVE for job in jobs):
        return list(jobs)
    note("what the demand lets expect: one mesoscopic run, kept")
    prior = scenario_prior(request.scenario, request.network)
    plain = _adaptive(request)
    informed = Side(
        ADAPTIVE, Sensed(request.coverage, prior, request.policy), plan=plain.plan, settings=plain.settings
    )
    return [Job(informed, job.seed) if job.side.name == ADAPTIVE else job for job in jobs]


class _Show:
    """Progress on stderr, a line for every run that ends."""

    def __init__(self, console: Console, scenario: ScenarioFiles, runs: int) -> None:
        self._console, self._scenario = console, scenario
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Bar(
            *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._bar.add_task("runs", total=runs * (scenario.end_s - scenario.begin_s), note="")
        self._done_s: dict[tuple[str, int], float] = {}

    def __enter__(self) -> _Show:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=text)

    def told(self, job: Job, now_s: float) -> None:
        self._move(job.side.name, job.seed, now_s)
        self.note(f"{job.side.name}, seed {job.seed}, second {now_s:.0f}")

    def finished(self, result: Result) -> None:
        self._move(result.side, result.seed, self._scenario.end_s)
        self._console.print(
            f"{result.side}, seed {result.seed}: {result.mean_delay_s:.1f} s a vehicle, "
            f"{sum(result.violations.values())} unsafe, took {result.wall_s:.0f} s",
            highlight=False,
        )

    def _move(self, side: str, seed: int, now_s: float) -> None:
        self._done_s[side, seed] = now_s - self._scenario.begin_s
        self._bar.update(self._task, completed=sum(self._done_s.values()))


def _document(
    request: Request, results: dict[str, dict[int, Result]], missing: int, folder: Path, wall_s: float
) -> dict[str, Any]:
    scenario = request.scenario
    rows = [_row(name, [kept[seed] for seed in sorted(kept)]) for name, kept in results.items() if kept]
    by_name = {row["control"]: row for row in rows}
    better = (
        not missing
        and by_name[ADAPTIVE]["mean_delay_s"] < by_name[SHIPPED]["mean_delay_s"]
        and not by_name[ADAPTIVE]["unsafe"]
    )
    coverage = request.coverage
    return {
        "network": str(scenario.network),
        "routes": [str(path) for path in scenario.routes],
        "additional": [str(path) for path in scenario.additional],
        "begin_s": scenario.begin_s,
        "end_s": scenario.end_s,
        "seeds": list(request.seeds),
        "sensors": None
        if coverage is None
        else {"loops": coverage.loops, "roadside": coverage.roadside, "equipped": coverage.equipped},
        "policy": None if request.policy_file is None else str(request.policy_file),
        "plan": None if request.plan is None else str(request.plan),
        "signals": len(request.network.signals),
        "rows": rows,
        "better": better,
        "missing_runs": missing,
        "out": str(folder),
        "wall_s": round(wall_s, 1),
    }


def _row(name: str, runs: Sequence[Result]) -> dict[str, Any]:
    delays_s = [r.mean_delay_s for r in runs]
    walkers_s = [r.walker_delay_s for r in runs if r.walker_delay_s is not None]
    return {
        "control": name,
        "mean_delay_s": statistics.fmean(delays_s),
        "sd_s": statistics.stdev(delays_s) if len(runs) > 1 else 0.0,
        "per_seed_s": {str(r.seed): r.mean_delay_s for r in runs},
        "vehicles": sum(r.vehicles for r in runs),
        "arrived": sum(r.arrived for r in runs),
        "running": sum(r.running for r in runs),
        "never_inserted": sum(r.never_inserted for r in runs),
        "stops_per_vehicle": statistics.fmean(r.stops_per_vehicle for r in runs),
        "longest_red_s": max(r.longest_red_s for r in runs),
        "walker_delay_s": statistics.fmean(walkers_s) if walkers_s else None,
        "unsafe": sum(sum(r.violations.values()) for r in runs),
        "violations": {
            rule: sum(r.violations.get(rule, 0) for r in runs)
            for rule in sorted({k for r in runs for k in r.violations})
        },
        "examples": [example for r in runs for example in r.examples],
        "collisions": sum(r.collisions for r in runs),
        "reports": {str(r.seed): r.report for r in runs if r.report},
    }


_NAMES = {SHIPPED: "shipped", ACTUATED: "SUMO actuated", PLAN: "plan file", ADAPTIVE: "citytwin adaptive"}


def _print(console: Console, request: Request, document: dict[str, Any]) -> None:
    scenario = request.scenario
    sight = "full detection"
    if document["sensors"] is not None:
        sight = "sensors: " + ", ".join(f"{name} {share:g}" for name, share in document["sensors"].items())
    span, seeds = f"{scenario.begin_s:g} to {scenario.end_s:g}", ", ".join(map(str, request.seeds))
    title = f"{scenario.name}: seconds {span}, seeds {seeds}"
    table = Table(title=escape(f"{title}, {sight}"), box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("control", no_wrap=True)
    for head in ("delay s", "sd", "veh", "never in", "stops", "red", "walkers", "unsafe"):
        table.add_column(head, justify="right")
    for row in document["rows"]:
        walkers_s = row["walker_delay_s"]
        table.add_row(
            _NAMES[row["control"]],
            f"{row['mean_delay_s']:.1f}",
            f"{row['sd_s']:.1f}",
            str(row["vehicles"]),
            str(row["never_inserted"]),
            f"{row['stops_per_vehicle']:.2f}",
            f"{row['longest_red_s']:.0f}",
            "-" if walkers_s is None else f"{walkers_s:.1f}",
            str(row["unsafe"]),
            style="bold" if row["control"] == ADAPTIVE else "",
        )
    console.print(table)
    for row in document["rows"]:
        for example in row["examples"]:
            console.print(escape(f"{_NAMES[row['control']]}: {example}"), highlight=False)
    console.print(
        "Delay: mean over all scheduled vehicles, those still driving or never inserted included. Walkers: seconds "
        "that those on foot lose; where nobody walks, what somebody waits who comes to a crossing at any moment. "
        "Longest red in seconds, whether or not anybody waited.",
        highlight=False,
    )
    if document["missing_runs"]:
        console.print(f"{document['missing_runs']} runs are missing.")
    console.print(f"Results: {escape(document['out'])}", highlight=False)
