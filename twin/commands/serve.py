"""`citytwin serve`: the live loop as a service on real feeds."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from forecasting.registry import Registry
from networks.city import CityFolder
from scenarios.cities import find_city
from signals.priority import read_policy
from twin.app import CityModel, build_city, build_model, on_day
from twin.board import Board
from twin.commands.answers import answering
from twin.config import Settings, read_pace, read_settings
from twin.feed_declarations import read_declarations
from twin.loop import City, CycleReport
from twin.mqtt import BrokerLink
from twin.page_view import PageView
from twin.privacy import Pseudonyms
from twin.publisher import LinePublisher
from twin.recorder import Recorder
from twin.serve_page import PageServer
from twin.service import HEARD_AFTER_S, Log, Service, Teller
from twin.service_config import ServiceConfig, read_key, read_service

EPILOG = "Example: citytwin serve --config yizhuang.toml"
FIRST_LINE_S = 10.0
SAID_EVERY_S = 60.0


def serve(
    config: Annotated[Path, typer.Option(help="File of the service; see docs/service.md.")],
    duration: Annotated[
        float | None, typer.Option(min=1, help="End after so many seconds; without it: when told to.")
    ] = None,
    check: Annotated[bool, typer.Option(help="Read everything, say what is wrong, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout at the end.")] = False,
) -> None:
    """Run the live loop on feeds that come over a broker: plans, page, history, messages for roadside units.

    Ends on SIGTERM or Ctrl-C, with exit code 0. Signals that get no more plans go back to their own programmes.
    """
    with answering():
        console = Console(stderr=True)
        order, settings = read_service(config), read_settings()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stop.set())
        torch.set_num_threads(1)  # the forecast is made beside the cycles; the other cores are theirs
        with ExitStack() as stack:
            if check:
                order = order.model_copy(update={"store": None, "record": None, "page": False})
            service, city, link = _build(order, settings, console, stack, mirrored=not check)
            if check:
                console.print(f"{config}: everything in it can be used")
                return
            stack.enter_context(link)
            if not link.wait_connected(FIRST_LINE_S):
                console.print(f"[yellow]no line to the broker yet {link.refusal}[/yellow]", highlight=False)
            until_s = math.inf if duration is None else time.time() + duration
            tally = service.run(stop, until_s=until_s)
            city.settle()
        if as_json:
            typer.echo(json.dumps(asdict(tally)))
        else:
            console.print(
                f"{tally.cycles} cycles ({tally.skipped} left out), {tally.frames} messages, "
                f"{tally.plans} plans sent, {tally.refused_by_street} refused by the street",
                highlight=False,
            )


def _build(
    order: ServiceConfig, settings: Settings, console: Console, stack: ExitStack, *, mirrored: bool
) -> tuple[Service, City, BrokerLink]:
    """Raises InputError for whatever in the file cannot be used, before anything is sent."""
    policy = read_policy(order.policy or settings.policy)
    declared = read_declarations(order.feeds) if order.feeds is not None else ()
    secret = read_key(order.secret_file, "secret_file") if order.secret_file is not None else None
    key = read_key(order.signing_key_file, "signing_key_file") if order.signing_key_file is not None else None
    link = BrokerLink(order.address())
    registry = Registry(order.models)

    def rebuild(folder: CityFolder) -> CityModel:
        return build_model(folder, policy, registry=registry)

    begun_s = time.time()
    folder = on_day(find_city(order.city), begun_s)
    console.print(f"[dim]{folder.name}: past days and forecasters (the first time takes minutes)[/dim]")
    model = rebuild(folder)
    _say_hours(folder, begun_s, console)
    teller = Teller(model.network, order.broadcast, link.send) if order.broadcast is not None else None
    names = Pseudonyms(secret)
    log = None
    if order.record is not None:
        fingerprint = model.network.fingerprint
        recorder = Recorder(order.record, city=order.city, network=fingerprint, pseudonyms=names)
        log = Log(stack.enter_context(recorder))
    city = build_city(
        model,
        pace=read_pace(settings, heard_after_s=HEARD_AFTER_S),
        store=order.store,
        mirrored=mirrored,
        pseudonyms=names,
        declared=declared,
        from_s=time.time(),
        publisher=LinePublisher(link.send, key),
        shadow=order.control == "shadow",
    )
    stack.callback(city.close)
    watch = _Watch(console)
    if order.page is not False:
        board = Board(model.network, city=folder.name)
        server = PageServer(board, host=order.page.host, port=order.page.port)
        console.print(f"Live page: {server.start()}", highlight=False)
        stack.callback(server.stop)
        watch.page = PageView(board, progress=order.control)
    service = Service(model, city, link, rebuild=rebuild, log=log, teller=teller, store=order.store, watch=watch)
    return service, city, link


def _say_hours(folder: CityFolder, now_s: float, console: Console) -> None:
    """Demand that does not cover the day is a poor prior outside its hours."""
    end_s = folder.epoch_s + folder.end_s - folder.begin_s
    if now_s >= end_s:
        begin, end = _clock(folder.epoch_s)[11:16], _clock(end_s)[11:16]
        console.print(
            f"[yellow]{folder.name}: its demand covers {begin} to {end} only; outside, the mirror has nothing "
            "to start from but what is counted[/yellow]",
            highlight=False,
        )


def _clock(at_s: float) -> str:
    """As the clocks of this place show it."""
    return f"{datetime.fromtimestamp(at_s, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


class _Watch:
    """What the terminal hears: whatever goes wrong, and a line a minute."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.page: PageView | None = None
        self._said_s = -math.inf
        self._notes: tuple[str, ...] = ()

    def __call__(self, city: City, report: CycleReport) -> None:
        if self.page is not None:
            self.page(city, report, None)
        at = _clock(report.now_s)
        for stage in report.failures:
            self._say(f"{at} {stage.stage}: {stage.error}; {stage.fallback}")
        for note in (*report.notes, *report.forecast_notes):
            if note not in self._notes:
                self._say(f"{at} {note}")
        self._notes = (*report.notes, *report.forecast_notes)
        if report.now_s - self._said_s >= SAID_EVERY_S:
            self._said_s = report.now_s
            vehicles = round(float(report.state.vehicles.certainty.sum())) if report.state is not None else 0
            self._say(
                f"{at} cycle {report.cycle}, {report.ms:.0f} ms, {vehicles} vehicles, "
                f"{len(report.decision.approved)} plans, silent: {', '.join(report.silent_feeds) or 'none'}"
            )

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)
