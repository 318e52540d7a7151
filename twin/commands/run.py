"""`citytwin run`: a virtual city under the live twin, and what that was worth."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from forecasting.registry import Registry
from networks.errors import InputError
from scenarios.cities import find_city
from scenarios.virtual_city import VirtualCity
from signals.priority import read_policy
from twin.app import build_model
from twin.board import Board
from twin.commands.answers import SAYS_NO, answering
from twin.comparison import Comparison, compare, to_document
from twin.config import read_pace, read_settings
from twin.loop import City, CycleReport, Pace
from twin.page_view import PageView
from twin.serve_page import PageServer

DRAWN_EVERY_S = 0.5  # wall seconds between two pictures


def run(
    city: Annotated[str, typer.Option(help="A bundled city (zone) or a city folder.")] = "zone",
    duration: Annotated[float, typer.Option(help="Simulated seconds.", min=10)] = 1200.0,
    speed: Annotated[float, typer.Option(help="Times real time; 0: as fast as it goes.", min=0)] = 0.0,
    seeds: Annotated[int, typer.Option(help="How many days to draw.", min=1)] = 2,
    seed: Annotated[int, typer.Option(help="First seed.", min=0)] = 1,
    port: Annotated[int | None, typer.Option(help="Port of the live page; 0 takes a free one.")] = None,
    page: Annotated[bool, typer.Option(help="Serve the live page while it runs.")] = True,
    store: Annotated[Path | None, typer.Option(help="Folder for the history; default runs/CITY-TIME.")] = None,
    record: Annotated[Path | None, typer.Option(help="Folder for a log of all feeds, for citytwin replay.")] = None,
    models: Annotated[Path, typer.Option(help="Folder of own forecast models; the live one of it forecasts.")] = Path(
        "models"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Run a virtual city under the live twin, then compare it with its shipped and SUMO's actuated control.

    Exit code 0: citytwin's mean delay is the lowest and no unsafe lamp was seen; 1: it is not.
    """
    with answering():
        console = Console(stderr=True)
        settings = read_settings()
        folder = find_city(city)
        for finding in folder.findings:
            console.print(f"[dim]{folder.name}: {finding}[/dim]", highlight=False)
        if duration > folder.end_s - folder.begin_s:
            raise InputError(
                f"--duration {duration:g}: the demand of {folder.name} lasts {folder.end_s - folder.begin_s:g} s"
            )
        torch.set_num_threads(1)  # the forecast is made beside the cycles; the other cores are theirs
        console.print(f"[dim]{folder.name}: past days and forecasters (the first time takes minutes)[/dim]")
        model = build_model(folder, read_policy(settings.policy), registry=Registry(models))
        history = store or settings.runs / f"{folder.name}-{datetime.now():%Y%m%d-%H%M%S}"
        board = Board(model.network, city=folder.name)
        server = PageServer(board, host=settings.host, port=settings.port if port is None else port)
        pace = read_pace(settings)
        try:
            if page:
                console.print(f"Live page: {_serve(server, console)}")
            with _Show(console, board, pace, seeds, duration) as show:
                comparison = compare(
                    model,
                    seeds=range(seed, seed + seeds),
                    duration_s=duration,
                    pace=pace,
                    store=history,
                    speed=speed,
                    watch=show.watch,
                    record=record,
                    told=show.told,
                )
        finally:
            server.stop()
        document = to_document(comparison)
        (history / "result.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        if as_json:
            typer.echo(json.dumps(document))
        else:
            _print(Console(), comparison, document)
        console.print(f"History and result: {history}", highlight=False)
        if not comparison.beats_all:
            raise typer.Exit(SAYS_NO)


def _serve(server: PageServer, console: Console) -> str:
    try:
        return server.start()
    except InputError as taken:
        console.print(f"[yellow]no page: {taken}; --port 0 takes a free one[/yellow]")
        return "none"


class _Show:
    """Progress on the terminal and snapshots for the page."""

    def __init__(self, console: Console, board: Board, pace: Pace, seeds: int, duration_s: float) -> None:
        self._page, self._pace = PageView(board), pace
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._live = self._progress.add_task("citytwin", total=round(seeds * duration_s), note="")
        self._rivals = self._progress.add_task("shipped, actuated", total=2 * seeds, note="")
        self._drawn_s = 0.0
        self._what = ""

    def __enter__(self) -> _Show:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, control: str, seed: int, moment: str) -> None:
        self._what = f"{control}, seed {seed}"
        if control != "citytwin" and moment == "end":
            self._progress.advance(self._rivals)

    def watch(self, city: City, report: CycleReport, street: VirtualCity) -> None:
        self._progress.advance(self._live, self._pace.cycle_s)
        for stage in report.failures:
            self._progress.console.print(f"cycle {report.cycle}: {stage.stage}: {stage.error}; {stage.fallback}")
        for note in (*report.notes, *report.forecast_notes):
            self._progress.console.print(f"cycle {report.cycle}: {note}")
        draw = time.monotonic() - self._drawn_s >= DRAWN_EVERY_S
        self._page.progress = self._what
        self._page(city, report, street, draw=draw)
        if not draw:
            return
        self._drawn_s = time.monotonic()
        vehicles = round(float(report.state.vehicles.certainty.sum())) if report.state is not None else 0
        self._progress.update(self._live, note=f"{self._what}, {vehicles} vehicles, {report.ms:.0f} ms a cycle")


def _forecast_table(rows: list[dict[str, Any]]) -> Table:
    """Mean absolute errors of flow (vehicles in five minutes) and speed (m/s) on what was measured later."""
    producers = [name for name in rows[0]["flow_mae_veh"] if name not in ("served", "profile+deviation")]
    table = Table(
        title="Forecasts: mean absolute error of flow, veh in 5 min | of speed, m/s", box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )  # fmt: skip
    for name in ("ahead", "led by", "served", *producers, "80 % bands"):
        table.add_column(name, no_wrap=name == "ahead", justify="left" if name == "led by" else "right")
    for row in rows:
        flow, speed = row["flow_mae_veh"], row["speed_mae_mps"]
        led = sorted({*row["flow_lead"], *row["speed_lead"]})
        held = " | ".join(f"{row[q].get('0.80', float('nan')):.0%}" for q in ("flow_coverage", "speed_coverage"))
        table.add_row(
            f"{row['minutes']} min", ", ".join(led),
            *(f"{flow[n]:.2f} | {speed[n]:.2f}" if n in flow and n in speed else "–" for n in ("served", *producers)),
            held,
        )  # fmt: skip
    return table


NAMES = {"shipped": "shipped", "actuated": "SUMO actuated", "citytwin": "citytwin"}


def _print(console: Console, comparison: Comparison, document: dict[str, Any]) -> None:
    seeds = ", ".join(map(str, comparison.seeds))
    table = Table(
        title=f"{comparison.city}: {comparison.duration_s:g} s, seeds {seeds}", box=SIMPLE_HEAD, padding=(0, 0, 0, 1)
    )
    table.add_column("control", no_wrap=True)
    for name in ("delay s", "sd", "per seed", "vehicles", "arrived", "driving", "never in"):
        table.add_column(name, justify="right")
    for row in document["rows"]:
        table.add_row(
            NAMES[row["control"]],
            f"{row['mean_delay_s']:.1f}",
            f"{row['sd_s']:.1f}",
            " ".join(f"{d:.1f}" for d in row["per_seed"]),
            *(str(row[key]) for key in ("vehicles", "arrived", "running", "never_inserted")),
            style="bold" if row["control"] == "citytwin" else "",
        )
    console.print(table)
    if document["forecast"]["rows"]:
        console.print(_forecast_table(document["forecast"]["rows"]))
    error, cycle = document["twin_error"], document["cycle_ms"]
    console.print(
        f"Mean delay of every vehicle: arrived, still driving, never in (waiting to enter at the end).\n"
        f"Twin against the virtual city: flow GEH<5 at {error['flow_geh_lt5_share']:.0%} of edges, "
        f"speed RMSE {error['speed_rmse_mps']:.2f} m/s, queue error {error['queue_mae_veh']:.2f} veh a lane.\n"
        f"Cycle {cycle['p50']:.0f} ms (p50), {cycle['p99']:.0f} ms (p99). "
        f"Plans {document['plans']}, refused {document['plans_refused']}. "
        f"Safety violations at the lamps: {document['safety_violations']}. Wall time {document['wall_s']:.0f} s.",
        highlight=False,
    )
