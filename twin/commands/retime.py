"""`citytwin signals retime`: plans for any SUMO scenario."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from networks.errors import InputError
from networks.readers.sumo import read_sumo
from networks.readers.sumo_xml import read_clock
from scenarios.counts import fit_routes, read_counts, write_routes
from scenarios.retime import (
    Hours,
    Measured,
    Order,
    Progress,
    Retimed,
    Told,
    inactive_signals,
    read_scene,
    retime_scene,
    sort_files,
)
from scenarios.retime_check import PROGRAMME, plan_text
from scenarios.retime_day import Periods, RetimedDay, breaks_of, retime_day
from signals.formats import to_json
from signals.formats.document import book_to_json
from signals.formats.sumo import book_to_sumo
from signals.retime_corridor import corridor_both_ways
from signals.retime_picture import band_frac, busiest_corridor, corridor_of, picture
from twin.commands.answers import SAYS_NO, answering
from twin.commands.files import existing_files


class Stages(StrEnum):
    SHIPPED = "shipped"
    BUILT = "built"
    CHINESE = "chinese"


class Goal(StrEnum):
    PERSON_DELAY = "person-delay"
    STOPS = "stops"
    EMISSIONS = "emissions"
    QUEUES = "queues"
    BANDWIDTH = "bandwidth"


EPILOG = (
    "Example: citytwin signals retime --net town.net.xml --routes town.rou.xml --begin 25200 --end 28800 "
    "--seconds 180 --out plan.add.xml"
)


def retime(
    net: Annotated[Path, typer.Option("--net", "-n", help="SUMO network (.net.xml, also .gz).")],
    begin: Annotated[float, typer.Option(min=0.0, help="Second of the demand at which to begin.")],
    end: Annotated[float, typer.Option(help="Second of the demand at which to end.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="SUMO additional file to write.")],
    routes: Annotated[str, typer.Option("--routes", "-r", help="SUMO demand files, separated by commas.")] = "",
    counts: Annotated[
        Path | None, typer.Option(help="Counts in place of routes: CSV of time,edge,flow or time,from,to,flow.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=5.0, help="Time to take, checks in SUMO included.")] = 180.0,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds search alike.")] = 1,
    additional: Annotated[str, typer.Option(help="SUMO additional files, separated by commas.")] = "",
    objective: Annotated[
        Goal, typer.Option(help="What to make small; bandwidth: wide green waves both ways.")
    ] = Goal.PERSON_DELAY,
    stages: Annotated[Stages, typer.Option(help="Stages to choose from; chinese: protected lefts.")] = Stages.BUILT,
    corridor: Annotated[str, typer.Option(help="Edges of the picture and the green wave, separated by commas.")] = "",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes and threads at a time.")] = 2,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds of each search instead of a share of the time, to repeat it.")
    ] = None,
    periods: Annotated[
        str, typer.Option(help="Plans by time of day: auto, how many, or the breaks as HH:MM,HH:MM.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Retime the signals of a scenario: cycles, splits, offsets, stages and their order, proven safe.

    Writes OUT for SUMO, and beside it the same plans as JSON and a time-space picture (.plans.json, .svg). Plans are
    searched on a mesoscopic model and in SUMO, and checked in SUMO on seeds of their own at 85, 100 and 115 % of the
    demand. Demand of more than an hour may get several plans and a timetable (WAUT) whose changes are proven safe;
    breaks are found from the flows of all approaches. With --counts (flow in vehicles an hour, time in seconds or
    HH:MM) routes that meet the counts are written beside OUT (.rou.xml) and taken as the demand. Ctrl-C ends the
    search and keeps the best so far. Exit code 1: nothing was found that beats the shipped programmes; then OUT holds
    no programme.
    """
    with answering():
        if not end > begin:
            raise InputError(f"--end {end:g} must be later than --begin {begin:g}")
        if bool(routes) == (counts is not None):
            raise InputError("one of --routes and --counts must be given")
        if not out.resolve().parent.is_dir():
            raise InputError(f"--out {out}: no such folder")
        network = existing_files("--net", str(net))[0]
        drawn = None if counts is None else _draw_demand(network, counts, out, end, seed)
        demand, others = sort_files(
            existing_files("--routes", routes) if drawn is None else (Path(drawn["routes"]),),
            existing_files("--additional", additional),
        )
        order = Order(
            network=network,
            routes=demand,
            additional=others,
            begin_s=begin,
            end_s=end,
            seconds=seconds,
            seed=seed,
            stages=stages.value,
            objective=objective.value,
            corridor=tuple(e.strip() for e in corridor.split(",") if e.strip()),
            workers=workers,
            rounds=rounds,
        )
        wanted = read_periods(periods)
        with _telling() as told:
            hours = Hours(time.monotonic, order.seconds)
            told(Progress())
            scene = read_scene(order)
            breaks_s = breaks_of(order, scene, wanted)
            answer: Retimed | RetimedDay
            if breaks_s:
                answer = retime_day(order, scene, breaks_s, hours, told)
            else:
                answer = retime_scene(order, scene, hours, told)
        files = _write_day(answer, out) if isinstance(answer, RetimedDay) else _write(order, answer, out)
        improved = bool(answer.book.programmes if isinstance(answer, RetimedDay) else answer.timings)
        idle = inactive_signals(order, out) if improved else ()
        if idle:
            raise InputError(f"{out}: SUMO keeps another programme active at signal {idle[0]!r}")
        if not as_json:
            _show(answer, files)
        elif isinstance(answer, RetimedDay):
            typer.echo(json.dumps(_day_document(order, answer, files) | {"counts": drawn}, ensure_ascii=False))
        else:
            typer.echo(json.dumps(_document(order, answer, files) | {"counts": drawn}, ensure_ascii=False))
    if not improved:
        raise typer.Exit(SAYS_NO)


def read_periods(text: str) -> Periods:
    """The value of --periods. Raises InputError."""
    words = [word.strip() for word in text.split(",")]
    if words == ["auto"]:
        return "auto"
    if len(words) == 1 and words[0].isdecimal() and int(words[0]) > 0:
        return int(words[0])
    breaks_s = [read_clock(word) for word in words if ":" in word]
    if len(breaks_s) < len(words) or None in breaks_s:
        raise InputError(f"--periods {text}: neither auto, nor a number of periods, nor breaks as HH:MM,HH:MM")
    return tuple(b for b in breaks_s if b is not None)


def _draw_demand(net: Path, counts: Path, out: Path, end_s: float, seed: int) -> dict[str, Any]:
    """Routes that meet the counts, written beside the plan; says how well they do."""
    path = existing_files("--counts", str(counts))[0]
    network = read_sumo(net)
    flows = fit_routes(network, read_counts(path, network), end_s, str(path))
    drawn = out.with_name(f"{out.name.removesuffix('.xml').removesuffix('.add')}.rou.xml").resolve()
    return {
        "file": str(path),
        "routes": str(drawn),
        "vehicles": write_routes(drawn, network, flows, seed=seed),
        "rows": len(flows.counted_vph),
        "geh_below_5_frac": round(float((flows.geh < 5.0).mean()), 3),
    }


@contextmanager
def _telling() -> Iterator[Told]:
    """A progress bar on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=1.0, state="")

        def told(progress: Progress) -> None:
            state = f"{progress.delay_s:.1f} s against {progress.shipped_s:.1f} s shipped, {progress.trials} runs"
            bar.update(task, description=progress.part, completed=progress.share, state=state)

        yield told


def _write(order: Order, answer: Retimed, out: Path) -> dict[str, str]:
    """Plan, JSON and picture; returns what was written where."""
    maker = answer.task.maker
    out.write_text(plan_text(maker, answer.timings) or "<additional/>\n", encoding="utf-8")
    stem = out.name.removesuffix(".xml").removesuffix(".add")
    files = {"sumo": str(out), "json": str(out.with_name(f"{stem}.plans.json"))}
    plans = [maker.prove(n, timing) for n, timing in sorted(answer.timings.items())]
    Path(files["json"]).write_text(to_json(plans) + "\n", encoding="utf-8")
    index = answer.network.edge_index
    edges = tuple(index[e] for e in order.corridor) or busiest_corridor(
        answer.network, answer.task.signals, answer.routes
    )
    stops = corridor_of(answer.network, edges) if edges else ()
    if len(stops) > 1:
        files["picture"] = str(out.with_name(f"{stem}.svg"))
        title = (
            f"{answer.network.name}: {answer.network.edges.ids[edges[0]]} to {answer.network.edges.ids[edges[-1]]}"
        )
        Path(files["picture"]).write_text(
            picture(maker, stops, answer.timings, order.begin_s, title), encoding="utf-8"
        )
        back = corridor_both_ways(answer.network, edges, answer.routes).back
        for name, timings in (("shipped", {}), ("retimed", answer.timings)):
            files[f"band_{name}"] = f"{band_frac(maker, stops, timings, order.begin_s):.3f}"
            if back:
                files[f"band_back_{name}"] = f"{band_frac(maker, back, timings, order.begin_s):.3f}"
    return files


def _write_day(answer: RetimedDay, out: Path) -> dict[str, str]:
    """The book of plans for SUMO, and as JSON."""
    stem = out.name.removesuffix(".xml").removesuffix(".add")
    files = {"sumo": str(out), "json": str(out.with_name(f"{stem}.plans.json"))}
    out.write_text(book_to_sumo(answer.book).text if answer.book.programmes else "<additional/>\n", encoding="utf-8")
    Path(files["json"]).write_text(book_to_json(answer.book).text + "\n", encoding="utf-8")
    return files


def _day_document(order: Order, answer: RetimedDay, files: dict[str, str]) -> dict[str, Any]:
    ends_s = (*answer.begins_s[1:], order.end_s)
    return {
        **_outcome(order, answer),
        "improved": bool(answer.book.programmes),
        "interrupted": any(part.interrupted for part in answer.parts),
        "periods": [
            {
                "begin_s": begin_s,
                "end_s": end_s,
                "rounds": {"model": part.rounds_model, "sumo": part.rounds_street},
                "delay_s": {"shipped": _delays(part.shipped), "retimed": _delays(part.chosen)},
                "signals": _signals(part),
            }
            for begin_s, end_s, part in zip(answer.begins_s, ends_s, answer.parts, strict=False)
        ],
        "changes": [
            {"signal": timed.signal_id, "at_s": switch.at_s, "programme": switch.programme}
            for timetable in answer.book.timetables
            for switch in timetable.switches
            for timed in timetable.signals
        ],
        "files": files,
    }


def _document(order: Order, answer: Retimed, files: dict[str, str]) -> dict[str, Any]:
    network = answer.network
    return {
        **_outcome(order, answer),
        "improved": bool(answer.timings),
        "interrupted": answer.interrupted,
        "rounds": {"model": answer.rounds_model, "sumo": answer.rounds_street},
        "signals": _signals(answer),
        "kept": [s.id for n, s in enumerate(network.signals) if n not in answer.timings],
        "files": files,
    }


def _outcome(order: Order, answer: Retimed | RetimedDay) -> dict[str, Any]:
    """What the documents of one plan and of a day of plans both say."""
    return {
        "network": str(order.network),
        "begin_s": order.begin_s,
        "end_s": order.end_s,
        "objective": order.objective,
        "stages": order.stages,
        "seed": order.seed,
        "programme": PROGRAMME,
        "wall_s": round(answer.wall_s, 1),
        "check_seeds": list(answer.check_seeds),
        "delay_s": {"shipped": _delays(answer.shipped), "retimed": _delays(answer.chosen)},
        "jammed_runs": {"shipped": answer.shipped.jammed, "retimed": answer.chosen.jammed},
    }


def _signals(answer: Retimed) -> list[dict[str, Any]]:
    maker, signals = answer.task.maker, answer.network.signals
    return [
        {
            "id": signals[n].id,
            "cycle_s": maker.cycle_s(n, timing),
            "shipped_cycle_s": signals[n].programme.cycle_s,
            "offset_s": timing.offset_s,
            "stages": [{"state": s, "green_s": g} for s, g in zip(timing.states, timing.greens_s, strict=True)],
        }
        for n, timing in sorted(answer.timings.items())
    ]


def _delays(measured: Measured) -> dict[str, dict[str, Any]]:
    return {
        f"{demand:g}": {"mean": round(measured.mean_s(demand), 3), "seeds": [round(v, 3) for v in values]}
        for demand, values in measured.delay_s.items()
        if values
    }


def _show(answer: Retimed | RetimedDay, files: dict[str, str]) -> None:
    console = Console()
    title = f"Mean delay in SUMO, s a vehicle (seeds {', '.join(map(str, answer.check_seeds))}, not searched on)"
    table = Table("demand", "shipped", "retimed", "change", title=title)
    for demand in (d for d, values in answer.shipped.delay_s.items() if values):
        before, after = answer.shipped.mean_s(demand), answer.chosen.mean_s(demand)
        change = f"{(after - before) / before:+.0%}" if before > 0 else ""
        table.add_row(f"{demand:.0%}", f"{before:.1f}", f"{after:.1f}", change)
    console.print(table)
    parts = answer.parts if isinstance(answer, RetimedDay) else (answer,)
    begins_s = answer.begins_s if isinstance(answer, RetimedDay) else (None,)
    for begin_s, part in zip(begins_s, parts, strict=False):
        console.print(_cycles(part, "Signals" if begin_s is None else f"Signals from {begin_s:g} s on"))
    if not (answer.book.programmes if isinstance(answer, RetimedDay) else answer.timings):
        console.print("Nothing found beats the shipped programmes: they stay.")
    if any(part.interrupted for part in parts):
        console.print("Interrupted: the best so far was kept.")
    console.print(
        f"Written in {answer.wall_s:.0f} s: {', '.join(escape(f) for f in files.values() if '/' in f or '.' in f)}"
    )


def _cycles(answer: Retimed, title: str) -> Table:
    maker, network = answer.task.maker, answer.network
    cycles = Table("signal", "cycle s", "shipped", "offset s", "greens s", title=title)
    for n, timing in sorted(answer.timings.items()):
        cycles.add_row(
            escape(network.signals[n].id),
            str(maker.cycle_s(n, timing)),
            f"{network.signals[n].programme.cycle_s:g}",
            str(timing.offset_s),
            " ".join(map(str, timing.greens_s)),
        )
    return cycles
